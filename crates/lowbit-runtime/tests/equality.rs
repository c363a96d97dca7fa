//! Compiled networks against the graph's own executor, bit for bit, on graphs drawn at random.

#[path = "shared/draw.rs"]
mod draw;

use lowbit_graph::{
    Blocking, DequantizeLinear, Graph, Op, QuantizeLinear, Session, Transpose, Workspace,
};
use lowbit_kernels::Isa;
use lowbit_kernels::nhwc::Pool;
use lowbit_runtime::{BitSerial, Factors, Model, Network, Plan, StepInfo};
use lowbit_tensor::{DType, Tensor};

use crate::draw::{draw, draw_few, draw_floats, draw_large, draw_signs, draw_wide, images};

/// Runs a graph and the network compiled for every tier, on one and three threads.
fn check((graph, dims): &(Graph, Vec<usize>), seed: u64) {
    let network = Network::new(graph, dims).expect("every drawn graph compiles");
    let session = Session::new(graph).expect("every drawn graph is valid");
    let always = Isa::available().into_iter().map(|isa| (isa, BitSerial::Always));
    let others = [BitSerial::Never, BitSerial::Faster].map(|wanted| (Isa::current(), wanted));
    for (isa, wanted) in always.chain(others) {
        let plan = Plan::choosing(&network, isa, wanted);
        let (mut memory, mut scores) = (plan.memory(), vec![0.0; plan.output_len()]);
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            let image = images(dims, 1, seed + threads as u64);
            let feed = Tensor::new(dims.clone(), image.clone());
            let expected = session.run(&[feed], &mut Workspace::serial()).expect("it runs");
            plan.run(&image, &mut scores, &mut memory, &pool);
            let bits = |scores: &[f32]| scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
            assert_eq!(
                bits(&scores),
                bits(expected[0].f32s()),
                "seed {seed}, {}, bits {wanted:?}, {threads} threads\n{}",
                isa.name(),
                graph.dump()
            );
        }
    }
}

/// How many graphs are drawn; `LOWBIT_DRAWN_GRAPHS` says fewer where a CPU is emulated.
fn drawn_graphs() -> u64 {
    let wanted = std::env::var("LOWBIT_DRAWN_GRAPHS");
    wanted.map_or(1500, |count| count.parse().expect("LOWBIT_DRAWN_GRAPHS is a number"))
}

#[test]
fn compiled_networks_equal_the_graph_bit_for_bit() {
    (0..drawn_graphs()).for_each(|seed| check(&draw(seed), seed));
}

#[test]
fn large_images_that_threads_share_equal_the_graph_bit_for_bit() {
    let mut kinds = vec![];
    for seed in 0..drawn_graphs().div_ceil(15) {
        let (graph, dims) = draw_large(seed);
        check(&(graph.clone(), dims.clone()), seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        let steps = Plan::new(&network, Isa::current()).steps();
        let large = steps.iter().filter(|step| step.output.iter().product::<usize>() > 16 << 10);
        kinds.extend(large.map(|step| step.kind));
    }
    for kind in ["add", "multiply", "max pool", "average pool", "table"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
}

#[test]
fn networks_of_signs_equal_the_graph_bit_for_bit() {
    (0..drawn_graphs()).for_each(|seed| check(&draw_signs(seed), seed));
}

#[test]
fn networks_of_few_bits_equal_the_graph_bit_for_bit() {
    (0..drawn_graphs()).for_each(|seed| check(&draw_few(seed), seed));
}

#[test]
fn convolutions_of_few_bits_run_on_bits_where_it_is_wanted() {
    let (mut convs, mut on_bits, mut passes, mut packed, mut alone) = (0, 0, [0; 17], 0, 0);
    for seed in 0..300 {
        let (graph, dims) = draw_few(seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        let steps = Plan::choosing(&network, Isa::Portable, BitSerial::Always).steps();
        for step in steps.iter().filter(|step| step.name == "few") {
            convs += 1;
            if let Factors::Bits { passes: count } = step.factors {
                (on_bits, passes[count]) = (on_bits + 1, passes[count] + 1);
            }
        }
        packed += steps.iter().filter(|step| step.kind == "pack").count();
        alone += steps.iter().filter(|step| step.writes_bits && step.kernel.is_some()).count();
        let steps = Plan::choosing(&network, Isa::Portable, BitSerial::Never).steps();
        let bits = |step: &StepInfo| matches!(step.factors, Factors::Bits { .. });
        assert!(!steps.iter().any(|step| bits(step) || step.writes_bits));
    }
    assert!(convs > 500 && on_bits * 10 > convs * 6, "{on_bits} of {convs}");
    assert!([1, 2, 4, 6].iter().all(|&count| passes[count] > 10), "{passes:?}");
    assert!(packed > 50 && alone > 50, "{packed} tables, {alone} convolutions write bits alone");
}

#[test]
fn layers_in_float_equal_the_graph_bit_for_bit() {
    (0..drawn_graphs()).for_each(|seed| check(&draw_floats(seed), seed));
}

#[test]
fn layers_in_float_are_steps_of_their_own() {
    let mut kinds = vec![];
    for seed in 0..200 {
        let (graph, dims) = draw_floats(seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        for step in Plan::new(&network, Isa::current()).steps() {
            let float = step.kind.starts_with("float");
            assert_eq!(step.factors == Factors::Floats, float || step.kind.contains("softmax"));
            assert_eq!(float, step.kernel.is_some_and(|kernel| kernel.starts_with("f32 ")));
            assert!(!float || step.macs > 0 && step.weight_bytes >= 4);
            assert!(step.kind != "island" || step.name == "island", "seed {seed}: {}", step.name);
            kinds.push(step.kind);
        }
    }
    let expected =
        ["float conv", "float depthwise", "float dense", "softmax", "log softmax", "island"];
    for kind in expected {
        assert!(kinds.iter().filter(|&&other| other == kind).count() > 10, "{kind}");
    }
}

#[test]
fn convolutions_of_signs_run_on_bits() {
    let (mut convs, mut on_bits, mut packed, mut chained) = (0, 0, 0, 0);
    for seed in 0..300 {
        let (graph, dims) = draw_signs(seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        let steps = Plan::new(&network, Isa::Portable).steps();
        convs += steps.iter().filter(|step| step.name == "signs" && step.kind != "island").count();
        on_bits += steps.iter().filter(|s| s.factors == Factors::Bits { passes: 1 }).count();
        packed += steps.iter().filter(|step| step.kind == "pack").count();
        chained += steps.iter().filter(|step| step.writes_bits && step.kernel.is_some()).count();
        assert!(steps.iter().all(|step| step.kind != "island"));
    }
    // Not in one pass: distances and units of 3, and signs that can be 0.
    assert!(convs > 300 && on_bits * 10 > convs * 4, "{on_bits} of {convs}");
    assert!(packed > 100 && chained > 5, "{packed} packed, {chained} chained");
}

#[test]
fn nothing_that_was_drawn_is_left_to_the_executor() {
    for seed in 0..200 {
        let (graph, dims) = draw(seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        for step in Plan::new(&network, Isa::Portable).steps() {
            assert!(step.kind != "island", "seed {seed}: {}", step.name);
        }
    }
}

#[test]
fn scales_along_an_axis_that_is_no_channel_of_an_image_are_left_to_the_executor() {
    for (to, zeros) in [
        (DType::U8, Tensor::vector(vec![7u8, 0, 128])),
        (DType::I8, Tensor::vector(vec![-100i8, 0, 12])),
    ] {
        let mut graph = Graph::new("rows");
        let dims = vec![1, 3, 4];
        let x = graph.add_input("x", DType::F32, vec![None, Some(3), Some(4)]);
        let scale = graph.add_constant("s", Tensor::vector(vec![0.1f32, 0.2, 0.5]));
        let zero = graph.add_constant("z", zeros);
        let blocking = Blocking { axis: 1, block_size: 0 };
        let quantize = QuantizeLinear { blocking, to };
        let codes = graph.add_node("q", Op::QuantizeLinear(quantize), &[x, scale, zero]);
        let dequantize = DequantizeLinear { blocking };
        let y = graph.add_node("dq", Op::DequantizeLinear(dequantize), &[codes, scale, zero]);
        graph.outputs = vec![y];
        let model = Model::new(&Network::new(&graph, &dims).expect("it compiles"));
        let session = Session::new(&graph).expect("it is valid");
        // The second run takes the buffers of the first.
        for seed in [3, 4] {
            let image = images(&dims, 1, seed);
            let feed = Tensor::new(dims.clone(), image.clone());
            let expected = session.run(&[feed], &mut Workspace::serial()).expect("it runs");
            assert_eq!(model.run(&image).expect("one image"), expected[0].f32s());
        }
        assert!(model.plan().steps().iter().all(|step| step.kind == "island"));
    }
}

#[test]
fn tables_may_change_the_type_of_codes() {
    for types in [[DType::U8, DType::I8], [DType::I8, DType::U8]] {
        let mut graph = Graph::new("types");
        let dims = vec![1, 3, 4, 5];
        let mut x = graph.add_input("x", DType::F32, dims.iter().map(|&d| Some(d)).collect());
        let blocking = Blocking { axis: 1, block_size: 0 };
        for (to, scale) in types.into_iter().zip([0.02f32, 0.015]) {
            let scale = graph.add_constant("s", Tensor::scalar(scale));
            let zero = match to {
                DType::I8 => Tensor::scalar(-7i8),
                _ => Tensor::scalar(120u8),
            };
            let zero = graph.add_constant("z", zero);
            let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to });
            let codes = graph.add_node("q", quantize, &[x, scale, zero]);
            let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
            x = graph.add_node("dq", dequantize, &[codes, scale, zero]);
        }
        graph.outputs = vec![x];
        let network = Network::new(&graph, &dims).expect("it compiles");
        let steps = Plan::new(&network, Isa::Portable).steps();
        assert_eq!(steps.iter().filter(|step| step.kind == "table").count(), 1);
        let image = images(&dims, 1, 5);
        let session = Session::new(&graph).expect("it is valid");
        let feed = Tensor::new(dims, image.clone());
        let expected = session.run(&[feed], &mut Workspace::serial()).expect("it runs");
        assert_eq!(Model::new(&network).run(&image).expect("one image"), expected[0].f32s());
    }
}

/// Floats to codes and back, with one scale or one for each channel; the floats lie in planes or pixel by pixel.
fn round_trip(
    [channels, height, width]: [usize; 3],
    [each, pixels]: [bool; 2],
    to: DType,
) -> (Graph, Vec<usize>) {
    let mut graph = Graph::new("round trip");
    let dims =
        if pixels { vec![1, height, width, channels] } else { vec![1, channels, height, width] };
    let count = if each { channels } else { 1 };
    let scales = (0..count).map(|c| 0.02 + 0.001 * c as f32).collect::<Vec<f32>>();
    let zero_points = (0..count).map(|c| (c % 100) as u8);
    let zero_points = match to {
        DType::I8 => Tensor::vector(zero_points.map(|z| z as i8 - 50).collect::<Vec<i8>>()),
        _ => Tensor::vector(zero_points.collect::<Vec<u8>>()),
    };
    let x = graph.add_input("x", DType::F32, dims.iter().map(|&d| Some(d)).collect());
    let scales = graph.add_constant("s", Tensor::vector(scales));
    let zero_points = graph.add_constant("z", zero_points);
    let blocking = Blocking { axis: 1, block_size: 0 };
    let quantize = Op::QuantizeLinear(QuantizeLinear { blocking, to });
    let mut codes = graph.add_node("q", quantize, &[x, scales, zero_points]);
    if pixels {
        let transpose = Op::Transpose(Transpose { perm: Some(vec![0, 3, 1, 2]) });
        codes = graph.add_node("planes", transpose, &[codes]);
    }
    let dequantize = Op::DequantizeLinear(DequantizeLinear { blocking });
    graph.outputs = vec![graph.add_node("dq", dequantize, &[codes, scales, zero_points])];
    (graph, dims)
}

#[test]
fn images_of_all_sizes_become_codes_and_floats_again() {
    let sizes = [
        [1, 7, 300],
        [5, 3, 257],
        [3, 40, 20],
        [4, 17, 15],
        [9, 16, 16],
        [6, 300, 1],
        [33, 1, 1],
        [2, 1, 600],
        // Threads share these.
        [1, 70, 64],
        [3, 17, 300],
        [5, 50, 50],
        [40, 30, 17],
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        for to in [DType::U8, DType::I8] {
            for how in [[false, false], [true, false], [false, true]] {
                let (graph, dims) = round_trip(size, how, to);
                check(&(graph.clone(), dims.clone()), seed as u64);
                let network = Network::new(&graph, &dims).expect("it compiles");
                let steps = Plan::new(&network, Isa::Portable).steps();
                assert!(steps.iter().all(|step| step.kind != "island"), "{size:?} {how:?}");
            }
        }
    }
}

/// Runs a batch on some threads, and compares with its images alone.
fn check_batch(network: &Network, dims: &[usize], threads: &[usize]) {
    let one = Model::new(network);
    let batch = images(dims, 7, 1);
    let single: Vec<f32> = batch
        .chunks_exact(one.input_len())
        .flat_map(|image| one.run(image).expect("one image"))
        .collect();
    for &threads in threads {
        let model = Model::new(network).with_threads(threads);
        assert_eq!(model.run(&batch).expect("seven images"), single, "{threads} threads");
    }
}

#[test]
fn batches_give_what_single_images_give() {
    let (graph, dims) = draw(5);
    let network = Network::new(&graph, &dims).expect("it compiles");
    check_batch(&network, &dims, &[1, 2, 5, 9]);
    for seed in 0..20 {
        let (graph, dims) = draw_floats(seed);
        let network = Network::new(&graph, &dims).expect("it compiles");
        check_batch(&network, &dims, &[1, 2, 3]);
    }
    let (one, batch) = (Model::new(&network), images(&dims, 7, 1));
    let error = one.run(&batch[1..]).expect_err("not a whole number of images");
    assert!(error.to_string().contains("expected"), "{error}");
    assert!(one.run_into(&batch, &mut [0.0; 3]).is_err());
    assert!(one.run(&[]).is_err());
}

#[test]
fn images_that_run_together_give_what_they_give_alone() {
    let (mut together, mut sums) = (0, 0);
    for seed in 0..drawn_graphs() / 5 {
        let (graph, dims) = if seed % 30 == 0 { draw_wide(seed) } else { draw(seed) };
        let network = Network::new(&graph, &dims).expect("it compiles");
        check_batch(&network, &dims, &[1]);
        let plan = Plan::new(&network, Isa::current());
        let steps = plan.steps();
        let shared = steps[plan.together()..].iter().filter(|step| step.kernel.is_some());
        together += shared.clone().count();
        sums += shared.filter(|step| step.kind == "conv + add").count();
    }
    assert!(together > 0 && sums > 0, "{together} convolutions, {sums} of them with sums");
}
