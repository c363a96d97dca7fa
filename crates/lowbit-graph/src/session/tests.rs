use lowbit_tensor::{DType, Rng};

use super::*;
use crate::Conv;
use crate::op::testing::{codes, normal};
use crate::passes::testing::{Maker, random_graph};
use crate::{Binary, Op, Unary};

/// A batch of `n` for the input that `example` fits.
fn batch(example: &Tensor, n: usize, seed: u64) -> Tensor {
    let mut dims = example.shape().to_vec();
    dims[0] = n;
    normal(&dims, &mut Rng::new(seed))
}

#[test]
fn threads_and_used_buffers_change_no_bit() {
    let (mut serial, mut parallel) = (Workspace::serial(), Workspace::parallel());
    for seed in 0..100 {
        let (graph, example) = random_graph(seed);
        let session = Session::new(&graph).unwrap();
        let x = [batch(&example, 3, seed)];
        let fresh = session.run(&x, &mut Workspace::serial()).unwrap();
        assert_eq!(session.run(&x, &mut serial).unwrap(), fresh, "seed {seed}");
        assert_eq!(session.run(&x, &mut serial).unwrap(), fresh, "seed {seed}");
        assert_eq!(session.run(&x, &mut parallel).unwrap(), fresh, "seed {seed}");
    }
}

#[test]
fn a_node_alone_shows_what_a_run_returns_and_gives_buffers_back() {
    let mut graph = Graph::new("alone");
    let x = graph.add_input("x", DType::F32, vec![Some(2), Some(3)]);
    let y = graph.add_node("relu", Op::Unary(Unary::Relu), &[x]);
    graph.outputs = vec![y];
    let (session, mut work) = (Session::new(&graph).unwrap(), Workspace::serial());
    for seed in 0..3 {
        let feeds = [normal(&[2, 3], &mut Rng::new(seed))];
        let expected = session.run(&feeds, &mut Workspace::serial()).unwrap();
        let mut shown = vec![];
        session
            .run_alone(&feeds, &mut work, &mut |at, tensor| shown.push((at, tensor.clone())))
            .unwrap();
        assert_eq!(shown, [(0, expected[0].clone())]);
        assert_eq!(work.pool.floats.len(), 1, "the one buffer lies ready");
    }
    let wrong = session.run_alone(&[], &mut work, &mut |_, _| {});
    assert!(matches!(wrong, Err(GraphError::Feed { .. })));
}

#[test]
fn a_batch_gives_what_its_images_give_one_by_one() {
    for seed in 0..100 {
        let (graph, example) = random_graph(seed);
        let session = Session::new(&graph).unwrap();
        let all = batch(&example, 3, seed);
        let whole = session.run(std::slice::from_ref(&all), &mut Workspace::serial()).unwrap();
        for (i, image) in all.f32s().chunks_exact(example.len()).enumerate() {
            let one = Tensor::new(example.shape().clone(), image.to_vec());
            let alone = session.run(&[one], &mut Workspace::serial()).unwrap();
            for (alone, whole) in alone.iter().zip(&whole) {
                let part = &whole.f32s()[i * alone.len()..][..alone.len()];
                assert_eq!(alone.f32s(), part, "seed {seed}, image {i}");
            }
        }
    }
}

#[test]
fn what_is_observed_is_what_is_returned() {
    for seed in 0..30 {
        let (graph, example) = random_graph(seed);
        let session = Session::new(&graph).unwrap();
        let mut seen: HashMap<ValueId, Tensor> = HashMap::new();
        let mut observe = |value, tensor: &Tensor| {
            assert!(seen.insert(value, tensor.clone()).is_none(), "shown twice");
        };
        let outputs = session.run_observed(&[example], &mut Workspace::serial(), &mut observe);
        let expected: Vec<Tensor> = graph.outputs.iter().map(|v| seen[v].clone()).collect();
        assert_eq!(outputs.unwrap(), expected, "seed {seed}");
        let made = graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten()).count();
        assert_eq!(seen.len(), graph.inputs.len() + made);
    }
}

#[test]
fn feeds_that_do_not_fit_are_refused() {
    let mut maker = Maker::new(&[1, 4], 1);
    maker.on(Op::Unary(Unary::Neg), &[]);
    let session = Session::new(&maker.finish()).unwrap();
    let check = |feeds: &[Tensor], expected: &str| {
        let error = session.run(feeds, &mut Workspace::serial()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let wrong = |found: &str| format!("graph input \"x\": found {found}, expected float32[?, 4]");
    check(&[Tensor::full([2, 3], 0f32)], &wrong("float32[2, 3]"));
    check(&[Tensor::full([4], 0f32)], &wrong("float32[4]"));
    check(&[codes(DType::U8, &[1, 4], &[0; 4])], &wrong("uint8[1, 4]"));
    let count = "graph input \"x\": found 0 tensors, expected 1 tensors";
    check(&[], count);
}

#[test]
fn a_result_beyond_the_limit_is_refused_where_it_would_be_made() {
    let mut maker = Maker::new(&[1, 4], 1);
    maker.on(Op::Unary(Unary::Neg), &[]);
    let session = Session::new(&maker.finish()).unwrap();
    let run =
        |n| session.run(&[Tensor::full([n, 4], 0f32)], &mut Workspace::serial().with_limit(8));
    assert!(run(2).is_ok());
    let error = run(3).unwrap_err();
    let is = matches!(&error, GraphError::Op { source: OpError::TooLarge { limit: 8, .. }, .. });
    assert!(is, "{error}");
    let text = "node \"Neg0\" (Neg): result of shape [3, 4] exceeds the limit of 8 elements";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_weight_that_does_not_fit_is_refused_before_a_run() {
    let mut maker = Maker::new(&[1, 4, 3, 3], 1);
    let weight = maker.floats(&[4, 4], 1.0);
    maker.on(Op::Conv(Conv::PLAIN), &[weight]);
    let error = Session::new(&maker.finish()).unwrap_err().to_string();
    assert!(error.contains("node \"Conv0\" (Conv): input 1: found rank 2"), "{error}");
}

#[test]
fn an_output_may_be_an_input_or_a_constant_and_be_given_twice() {
    let mut maker = Maker::new(&[1, 2], 1);
    let constant = maker.scalar(3.0);
    maker.graph.outputs = vec![constant, maker.value, constant];
    let x = Tensor::new([1, 2], vec![1.0f32, 2.0]);
    let outputs = crate::passes::testing::run(&maker.finish(), &x);
    let three = Tensor::scalar(3.0f32);
    assert_eq!(outputs, [three.clone(), x.clone(), three, x]);
}

#[test]
fn a_batch_in_slices_is_the_whole_batch() {
    // One image is 2^16 floats, so that slices are of two and the last of one; or few, so that each thread has a slice.
    for size in [256, 4] {
        let mut graph = Graph::new("slices");
        let x = graph.add_input("x", DType::F32, vec![None, Some(1), Some(size), Some(size)]);
        let pooled = graph.add_node("pool", Op::GlobalAveragePool, &[x]);
        let y = graph.add_node("relu", Op::Unary(Unary::Relu), &[pooled]);
        graph.outputs = vec![y];
        let session = Session::new(&graph).unwrap();
        let mut rng = Rng::new(3);
        let values = (0..5 * size * size).map(|_| rng.normal()).collect::<Vec<f32>>();
        let images = Tensor::new([5, 1, size, size], values);
        let whole = session.run(std::slice::from_ref(&images), &mut Workspace::serial()).unwrap();
        for threads in 1..8 {
            let mut works: Vec<Workspace> = (0..threads).map(|_| Workspace::serial()).collect();
            assert_eq!(session.run_batch(&images, &mut works).unwrap(), whole, "{threads} threads");
        }
    }
}

#[test]
fn a_batch_whose_output_does_not_follow_it_runs_whole() {
    let mut graph = Graph::new("shape");
    let x = graph.add_input("x", DType::F32, vec![None, Some(1), Some(256), Some(256)]);
    let turned = Op::Transpose(crate::Transpose { perm: Some(vec![1, 0, 2, 3]) });
    let y = graph.add_node("turn", turned, &[x]);
    graph.outputs = vec![y];
    let session = Session::new(&graph).unwrap();
    let images = Tensor::new([5, 1, 256, 256], vec![1.0f32; 5 << 16]);
    let made = session.run_batch(&images, &mut [Workspace::serial()]).unwrap();
    assert_eq!(**made[0].shape(), [1, 5, 256, 256]);
}

#[test]
fn nodes_that_run_at_once_change_no_bit() {
    let mut joined = 0;
    for seed in 0..400 {
        let (graph, example) = random_graph(seed);
        let session = Session::new(&graph).unwrap();
        joined += session.joined.steps.iter().filter(|step| step.onto.is_some()).count();
        let x = [batch(&example, 2, seed)];
        let plain = session.run_observed(&x, &mut Workspace::serial(), &mut |_, _| {}).unwrap();
        let mut work = Workspace::serial();
        for _ in 0..2 {
            assert_eq!(session.run(&x, &mut work).unwrap(), plain, "seed {seed}");
        }
    }
    assert!(joined > 40, "only {joined} sums were joined");
}

/// A graph of x [n, 4, 5, 5], convolutions of it as they are asked for, and what `build` makes of them; the names of the operators
/// of each step, and that the steps give what the nodes give.
fn check_steps(expected: &[&str], build: impl FnOnce(&mut Maker, ValueId)) {
    let mut maker = Maker::new(&[1, 4, 5, 5], 9);
    let x = maker.value;
    build(&mut maker, x);
    let graph = maker.finish();
    let session = Session::new(&graph).unwrap();
    let name = |&node: &usize| graph.nodes[node].op.name();
    let names = |step: &Step| step.nodes.iter().map(name).collect::<Vec<_>>().join(" ");
    assert_eq!(session.joined.steps.iter().map(names).collect::<Vec<_>>(), expected);
    let x = [normal(&[3, 4, 5, 5], &mut Rng::new(2))];
    let plain = session.run_observed(&x, &mut Workspace::serial(), &mut |_, _| {}).unwrap();
    assert_eq!(session.run(&x, &mut Workspace::serial()).unwrap(), plain);
}

fn conv_of(maker: &mut Maker, x: ValueId) -> ValueId {
    let weight = maker.floats(&[4, 4, 1, 1], 0.5);
    maker.node(Op::Conv(Conv::PLAIN), &[x, weight])
}

#[test]
fn a_sum_runs_with_the_last_convolution_before_it() {
    let (add, relu) = (Op::Binary(Binary::Add), Op::Unary(Unary::Relu));
    check_steps(&["Conv Add Relu"], |maker, x| {
        let y = conv_of(maker, x);
        maker.then(add.clone(), &[x, y]);
        maker.on(relu.clone(), &[]);
    });
    check_steps(&["Conv", "Conv Add"], |maker, x| {
        let (y, z) = (conv_of(maker, x), conv_of(maker, x));
        maker.then(add.clone(), &[z, y]);
    });
    // The other operand is needed again, so that it is copied.
    check_steps(&["Neg", "Conv Add", "Mul"], |maker, x| {
        let other = maker.node(Op::Unary(Unary::Neg), &[x]);
        let y = conv_of(maker, x);
        let sum = maker.node(add.clone(), &[y, other]);
        maker.then(Op::Binary(Binary::Mul), &[sum, other]);
    });
    // It is also what the convolution reads, and nobody reads it later.
    check_steps(&["Neg", "Conv Add"], |maker, x| {
        let other = maker.node(Op::Unary(Unary::Neg), &[x]);
        let y = conv_of(maker, other);
        maker.then(add.clone(), &[y, other]);
    });
    // It has another shape, which only a run tells.
    check_steps(&["ReduceMean", "Conv Add Relu"], |maker, x| {
        let axes = maker.ints(&[2, 3]);
        let kind = crate::ReduceKind::Mean;
        let mean = crate::Reduce { kind, keep_dims: true, noop_with_empty_axes: false };
        let mean = maker.node(Op::Reduce(mean), &[x, axes]);
        let y = conv_of(maker, x);
        maker.then(add.clone(), &[mean, y]);
        maker.on(relu.clone(), &[]);
    });
    // It is not known yet, or the convolution or the sum is needed elsewhere.
    check_steps(&["Conv", "Neg", "Add"], |maker, x| {
        let y = conv_of(maker, x);
        let other = maker.node(Op::Unary(Unary::Neg), &[x]);
        maker.then(add.clone(), &[y, other]);
    });
    check_steps(&["Conv", "Add", "Mul"], |maker, x| {
        let y = conv_of(maker, x);
        let sum = maker.node(add.clone(), &[y, x]);
        maker.then(Op::Binary(Binary::Mul), &[sum, y]);
    });
    check_steps(&["Conv Add", "Relu", "Mul"], |maker, x| {
        let y = conv_of(maker, x);
        let sum = maker.node(add.clone(), &[y, x]);
        let cut = maker.node(relu.clone(), &[sum]);
        maker.then(Op::Binary(Binary::Mul), &[sum, cut]);
    });
}

/// x [n, 1, 256, 256], of which slices of a batch hold two images; pooled, then convolutions of which the last has more weights than
/// activations, and what `build` appends.
fn heavy_graph(build: impl FnOnce(&mut Maker)) -> Graph {
    let mut maker = Maker::new(&[1, 1, 256, 256], 5);
    let (kernel, strides) = ([64, 64], [64, 64]);
    let pool = crate::Pool2d { kernel, strides, ..crate::passes::testing::POOL };
    maker.on(Op::AveragePool(pool), &[]);
    for channels in [[32, 1], [32, 32]] {
        let weight = maker.floats(&[channels[0], channels[1], 1, 1], 0.5);
        maker.on(Op::Conv(Conv::PLAIN), &[weight]);
    }
    build(&mut maker);
    maker.finish()
}

fn check_groups(graph: &Graph) {
    let session = Session::new(graph).unwrap();
    for n in [3, 5, 9] {
        let images = normal(&[n, 1, 256, 256], &mut Rng::new(4));
        let slices: Vec<Tensor> = (0..n)
            .map(|i| session.run(&[cut(&images, &(i..i + 1))], &mut Workspace::serial()).unwrap())
            .map(|mut outputs| outputs.swap_remove(0))
            .collect();
        let expected: Vec<f32> = slices.iter().flat_map(|slice| slice.f32s().to_vec()).collect();
        for threads in 1..4 {
            let mut works: Vec<Workspace> = (0..threads).map(|_| Workspace::serial()).collect();
            for _ in 0..2 {
                let made = session.run_batch(&images, &mut works).unwrap();
                assert_eq!(made[0].shape()[0], n);
                assert_eq!(made[0].f32s(), expected, "{n} images, {threads} threads");
            }
        }
    }
}

#[test]
fn slices_go_on_together_where_weights_outweigh_activations() {
    let graph = heavy_graph(|maker| {
        maker.on(Op::GlobalAveragePool, &[]);
    });
    let session = Session::new(&graph).unwrap();
    let slice = normal(&[2, 1, 256, 256], &mut Rng::new(4));
    let Ok(Reached::Narrow(narrow, value)) =
        session.run_head(&[slice], true, &mut Workspace::serial())
    else {
        panic!("no narrow place");
    };
    // 32 · 32 weights against 32 channels of 4x4: between the convolutions.
    assert_eq!((narrow.step, &**value.shape()), (2, &[2, 32, 4, 4][..]));
    check_groups(&graph);
}

#[test]
fn what_runs_in_slices_alone_still_does() {
    // Two rows, however many images: the result does not follow the batch.
    let graph = heavy_graph(|maker| {
        let shape = maker.ints(&[2, -1]);
        maker.on(Op::Reshape(crate::Reshape { allow_zero: false }), &[shape]);
    });
    let session = Session::new(&graph).unwrap();
    let images = normal(&[4, 1, 256, 256], &mut Rng::new(4));
    let made = session.run_batch(&images, &mut [Workspace::serial()]).unwrap();
    let whole = session.run(&[images], &mut Workspace::serial()).unwrap();
    assert_eq!(made, whole);
    // A shape for the two images of a slice: more together are refused.
    let graph = heavy_graph(|maker| {
        let shape = maker.ints(&[2, 512]);
        maker.on(Op::Reshape(crate::Reshape { allow_zero: false }), &[shape]);
    });
    let session = Session::new(&graph).unwrap();
    let images = normal(&[4, 1, 256, 256], &mut Rng::new(4));
    let made = session.run_batch(&images, &mut [Workspace::serial()]).unwrap();
    assert_eq!(**made[0].shape(), [4, 512]);
}
