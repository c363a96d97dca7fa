use lowbit_tensor::{Rng, Shape};

use super::*;
use crate::Gemm;
use crate::op::testing::{codes, normal};
use crate::passes::testing::{Maker, random_graph};
use crate::{Binary, Blocking, Cast, Conv, DequantizeLinear, Flatten, Graph, Op, QuantizeLinear};

/// A small residual net whose weights are constants, and those weights.
fn net(seed: u64) -> (Graph, Vec<ValueId>) {
    let mut maker = Maker::new(&[2, 3, 6, 6], seed);
    let mut weights = vec![];
    let mut conv = |maker: &mut Maker, conv: Conv, shape: [usize; 4]| {
        let operands = [maker.floats(&shape, 0.5), maker.floats(&[shape[0]], 0.5)];
        weights.extend(operands);
        maker.on(Op::Conv(conv), &operands)
    };
    let padded = Conv { pads: [1; 4], ..Conv::PLAIN };
    let first = conv(&mut maker, Conv { strides: [2, 2], ..padded }, [4, 3, 3, 3]);
    conv(&mut maker, Conv { groups: 4, ..padded }, [4, 1, 3, 3]);
    maker.on(Op::Unary(crate::Unary::Silu), &[]);
    conv(&mut maker, Conv::PLAIN, [4, 4, 1, 1]);
    maker.on(Op::Binary(Binary::Add), &[first]);
    maker.on(Op::GlobalAveragePool, &[]);
    maker.on(Op::Flatten(Flatten { axis: 1 }), &[]);
    let matrix = [maker.floats(&[4, 5], 0.5), maker.floats(&[5], 0.5)];
    weights.extend(matrix);
    maker.on(Op::Gemm(Gemm::PLAIN), &matrix);
    (maker.finish(), weights)
}

fn losses(graph: &Graph, x: &Tensor, seed: &Tensor) -> f64 {
    let y = crate::passes::testing::run(graph, x).remove(0);
    y.f32s().iter().zip(seed.f32s()).map(|(&y, &s)| f64::from(y) * f64::from(s)).sum()
}

#[test]
fn gradients_of_all_weights_are_finite_differences() {
    const STEP: f32 = 1.0 / 64.0;
    let (graph, weights) = net(3);
    let x = normal(&[2, 3, 6, 6], &mut Rng::new(1));
    let session = Session::new(&graph).unwrap();
    let mut work = Workspace::serial();
    let tape = session.record(&[&x], &mut work).unwrap();
    let seed = normal(&[2, 5], &mut Rng::new(2));
    let seeds = [(graph.outputs[0], seed.clone())];
    let found = session.backward(&tape, &seeds, &weights, &mut work).unwrap();
    for (weight, found) in weights.iter().zip(&found) {
        for at in 0..found.len() {
            let moved = |by: f32| {
                let mut moved = graph.clone();
                let mut tensor = graph.constant(*weight).unwrap().as_ref().clone();
                tensor.as_mut_slice::<f32>().unwrap()[at] += by;
                moved.set_constant(*weight, tensor);
                losses(&moved, &x, &seed)
            };
            let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let error = (f64::from(found.f32s()[at]) - expected).abs();
            let name = graph.value_name(*weight);
            assert!(
                error <= 1e-3 * (1.0 + expected.abs()),
                "{name} at {at}: {error} off {expected}"
            );
        }
    }
    let again = session.backward(&tape, &seeds, &weights, &mut Workspace::parallel()).unwrap();
    assert_eq!(found, again, "neither used buffers nor threads matter");
    tape.recycle(&mut work);
}

#[test]
fn buffers_that_are_given_back_are_used_again() {
    let (graph, weights) = net(5);
    let session = Session::new(&graph).unwrap();
    let x = normal(&[2, 3, 6, 6], &mut Rng::new(1));
    let seeds = [(graph.outputs[0], normal(&[2, 5], &mut Rng::new(2)))];
    let mut work = Workspace::serial();
    let mut step = || {
        let tape = session.record(&[&x], &mut work).unwrap();
        let found = session.backward(&tape, &seeds, &weights, &mut work).unwrap();
        found.into_iter().for_each(|grad| work.pool.give(grad));
        tape.recycle(&mut work);
        work.pool.floats.len()
    };
    let held: Vec<usize> = (0..6).map(|_| step()).collect();
    assert_eq!(held[4], held[5], "buffers between steps: {held:?}");
}

#[test]
fn what_is_recorded_is_what_runs() {
    for seed in 0..30 {
        let (graph, x) = random_graph(seed);
        let session = Session::new(&graph).unwrap();
        let mut work = Workspace::serial();
        let expected = session.run(std::slice::from_ref(&x), &mut work).unwrap();
        let tape = session.record(&[&x], &mut work).unwrap();
        for (value, expected) in graph.outputs.iter().zip(&expected) {
            assert_eq!(tape.value(*value), Some(expected), "seed {seed}");
        }
        assert_eq!(tape.value(graph.inputs[0].value), Some(&x));
    }
}

#[test]
fn seeds_of_several_values_add_up() {
    let (graph, weights) = net(4);
    let session = Session::new(&graph).unwrap();
    let x = normal(&[2, 3, 6, 6], &mut Rng::new(1));
    let mut work = Workspace::serial();
    let tape = session.record(&[&x], &mut work).unwrap();
    let inner = graph.nodes[2].output();
    let seed =
        |value: ValueId| (value, normal(tape.value(value).unwrap().shape(), &mut Rng::new(9)));
    let seeds = [seed(graph.outputs[0]), seed(inner)];
    let mut back = |seeds: &[(ValueId, Tensor)]| {
        let wanted = [&weights[..], &[inner, graph.inputs[0].value]].concat();
        session.backward(&tape, seeds, &wanted, &mut work).unwrap()
    };
    let (both, first, second) = (back(&seeds), back(&seeds[..1]), back(&seeds[1..]));
    for ((both, first), second) in both.iter().zip(&first).zip(&second) {
        for ((b, f), s) in both.f32s().iter().zip(first.f32s()).zip(second.f32s()) {
            assert!((b - f - s).abs() <= 1e-4 * (1.0 + b.abs()), "{b}, {f} + {s}");
        }
    }
    assert_eq!(second[weights.len()], seeds[1].1, "a seeded value's own gradient");
    let last = second[weights.len() - 1].f32s();
    assert!(last.iter().all(|&g| g == 0.0), "nothing before the seed reads the last bias");
}

/// y = dequantize(clip(quantize(x))) with a scale that both read, and that scale.
fn fake_quantize(graph: &mut Graph, x: ValueId, limits: [i32; 2]) -> (ValueId, ValueId) {
    let blocking = Blocking { axis: 0, block_size: 0 };
    let scale = graph.add_constant("scale", Tensor::scalar(0.5f32));
    let zero = graph.add_constant("zero", codes(DType::U8, &[], &[2]));
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to: DType::U8 });
    let codes_of_x = graph.add_node("q", quantize, &[x, scale, zero]);
    let limits = limits.map(|l| graph.add_constant("limit", codes(DType::U8, &[], &[l])));
    let clipped = graph.add_node("clip", Op::Clip, &[codes_of_x, limits[0], limits[1]]);
    let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
    (graph.add_node("dq", dequantize, &[clipped, scale, zero]), scale)
}

#[test]
fn fake_quantization_has_the_step_gradient_of_lsq() {
    let mut graph = Graph::new("lsq");
    let x = graph.add_input("x", DType::F32, vec![None]);
    let (y, scale) = fake_quantize(&mut graph, x, [1, 9]);
    graph.outputs = vec![y];
    let session = Session::new(&graph).unwrap();
    let values = [-9.0f32, -0.6, -0.3, 0.2, 1.1, 3.5, 3.6, 40.0];
    let given = Tensor::vector(values.to_vec());
    let mut work = Workspace::serial();
    let tape = session.record(&[&given], &mut work).unwrap();
    let g = normal(&[8], &mut Rng::new(1));
    let found = session.backward(&tape, &[(y, g.clone())], &[x, scale], &mut work).unwrap();
    let (mut of_x, mut of_scale) = (vec![], 0.0);
    for (&x, &g) in values.iter().zip(g.f32s()) {
        let code = (x / 0.5).round_ties_even() + 2.0;
        let inside = (1.0..=9.0).contains(&code);
        of_x.push(if inside { g } else { 0.0 });
        of_scale += g * (code.clamp(1.0, 9.0) - 2.0 - if inside { x / 0.5 } else { 0.0 });
    }
    assert_eq!(found[0], Tensor::vector(of_x));
    assert!((found[1].f32s()[0] - of_scale).abs() < 1e-4, "{:?}, {of_scale}", found[1]);
    assert_eq!(**found[1].shape(), [] as [usize; 0]);
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let mut maker = Maker::new(&[1, 2], 1);
    let cast = maker.on(Op::Cast(Cast { to: DType::I32 }), &[]);
    let back = maker.on(Op::Cast(Cast { to: DType::F32 }), &[]);
    let mut graph = maker.finish();
    let stray = graph.add_value("stray");
    let x = graph.inputs[0].value;
    let session = Session::new(&graph).unwrap();
    let given = Tensor::full([1, 2], 1.0f32);
    let mut work = Workspace::serial();
    let tape = session.record(&[&given], &mut work).unwrap();
    let seed = |dims: &[usize]| Tensor::full(Shape::from(dims), 1.0f32);
    let mut refuse = |seeds: &[(ValueId, Tensor)], wanted: &[ValueId], why: &str| {
        let error = session.backward(&tape, seeds, wanted, &mut work).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refuse(&[(back, seed(&[1, 2]))], &[x], "(Cast): this operator has no gradient");
    refuse(&[(back, seed(&[2]))], &[x], "found float32[2], expected float32[1, 2]");
    refuse(&[(back, given.clone())], &[stray], "value \"stray\" is not on the tape");
    let found = session.backward(&tape, &[(back, given.clone())], &[back], &mut work).unwrap();
    assert_eq!(found[0], given, "nothing before a wanted value is asked");
    let found = session.backward(&tape, &[(x, given.clone())], &[cast], &mut work).unwrap();
    assert_eq!(found, [Tensor::full([1, 2], 0f32)], "zeros where nothing depends on it");
}
