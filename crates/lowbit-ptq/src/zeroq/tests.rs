use lowbit_graph::{Binary, Conv, Unary};
use lowbit_tensor::DType;

use super::*;
use crate::tests::noise;

const SHAPE: [usize; 4] = [1, 3, 6, 6];

/// Two convolutions with normalizations, the second added to the first.
fn net() -> Graph {
    let mut graph = Graph::new("net");
    let mut value = graph.add_input("x", DType::F32, vec![None, Some(3), Some(6), Some(6)]);
    let mut channels = 3;
    for layer in 0..2u64 {
        let weight = Tensor::new(vec![4, channels, 3, 3], noise(layer + 3, 36 * channels));
        let weight = graph.add_constant("w", weight);
        let conv = Conv { pads: [1; 4], ..Conv::PLAIN };
        let made = graph.add_node(&format!("conv{layer}"), Op::Conv(conv), &[value, weight]);
        let mut inputs = vec![made];
        for values in
            [vec![1.0; 4], vec![0.1; 4], vec![0.3, -0.2, 0.5, 0.0], vec![1.5, 0.8, 2.0, 1.0]]
        {
            inputs.push(graph.add_constant("bn", Tensor::vector::<f32>(values)));
        }
        let normal = graph.add_node("norm", Op::BatchNorm(BatchNorm { epsilon: 1e-5 }), &inputs);
        let relu = graph.add_node("relu", Op::Unary(Unary::Relu), &[normal]);
        value = if layer == 0 {
            relu
        } else {
            graph.add_node("sum", Op::Binary(Binary::Add), &[value, relu])
        };
        channels = 4;
    }
    graph.outputs = vec![value];
    graph
}

const SETTINGS: ZeroQ =
    ZeroQ { images: 10, iterations: 60, rate: 0.1, slack: 0.0, limits: vec![], seed: 1 };

fn run(settings: &ZeroQ) -> DistilledImages {
    distill(&net(), &SHAPE, settings, &|_| {}).unwrap()
}

#[test]
fn statistics_approach_the_stored_ones() {
    let found = run(&SETTINGS);
    assert_eq!(found.len(), 10);
    assert!(found.loss[1] < 0.1 * found.loss[0], "{:?}", found.loss);
}

#[test]
fn slack_asks_for_less() {
    let (strict, slack) = (run(&SETTINGS), run(&ZeroQ { slack: 0.9, ..SETTINGS }));
    assert!(slack.loss[0] < strict.loss[0], "{:?} {:?}", slack.loss, strict.loss);
}

#[test]
fn images_stay_within_the_limits_and_differ_by_seed_alone() {
    let settings = ZeroQ { limits: vec![(-1.0, 1.0), (-0.5, 0.5), (0.0, 2.0)], ..SETTINGS };
    let threads = |n| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        pool.install(|| run(&settings))
    };
    let one = threads(1);
    assert!(one == threads(2));
    assert!(one != run(&ZeroQ { seed: 2, ..settings.clone() }));
    let image = one.get(3).unwrap();
    let (low, high) = lowbit_graph::minmax(&image.f32s()[36..72]);
    assert!(low >= -0.5 && high <= 0.5, "{low} {high}");
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let graph = net();
    let targets = targets(&graph);
    let part = graph.between(graph.inputs.clone(), targets.iter().map(|t| t.value).collect());
    let session = Session::new(&part).unwrap();
    let shards = super::noise(&SHAPE, &SETTINGS);
    let mut works: Vec<Workspace> = shards.iter().map(|_| Workspace::serial()).collect();
    let mut loss = |shards: &[Tensor]| {
        let tapes = record(&session, shards, &mut works).unwrap();
        let moments: Vec<Moments> = targets.iter().map(|t| Moments::of(&tapes, t.value)).collect();
        let loss: f64 = targets.iter().zip(&moments).map(|(t, m)| t.loss(m)).sum();
        (loss, back(&session, tapes, (&targets, &moments), &mut works).unwrap())
    };
    let (_, gradients) = loss(&shards);
    for at in [7, 50, 101] {
        let moved = |by: f32| {
            let mut moved = shards.clone();
            let mut values = moved[1].f32s().to_vec();
            values[at] += by;
            moved[1] = Tensor::new(moved[1].shape().clone(), values);
            moved
        };
        let slope = (loss(&moved(0.01)).0 - loss(&moved(-0.01)).0) / 0.02;
        let found = f64::from(gradients[1].f32s()[at]);
        assert!((slope - found).abs() < 0.02 * slope.abs() + 1e-4, "{at}: {found}, {slope}");
    }
}

#[test]
fn groups_fit_the_budget_and_are_of_about_equal_length() {
    let shards = vec![Tensor::full([SHARD, 1].to_vec(), 0f32); 16];
    let lengths = |bytes: usize| -> Vec<usize> {
        let found = groups(&shards, bytes);
        assert!(found.iter().flat_map(Clone::clone).eq(0..16), "{found:?}");
        found.iter().map(ExactSizeIterator::len).collect()
    };
    assert_eq!(lengths(1), [16]);
    assert_eq!(lengths(BUDGET_BYTES / SHARD / 3), [2, 3, 3, 2, 3, 3]);
    assert_eq!(lengths(BUDGET_BYTES), [1; 16]);
}

#[test]
fn a_graph_without_normalization_is_refused() {
    let graph = crate::tests::residual();
    let error = distill(&graph, &[1, 4, 6, 6], &SETTINGS, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("BatchNormalization"), "{error}");
}
