//! Networks in C, compiled by gcc, against the graph's own executor, bit for bit.

#[path = "shared/draw.rs"]
#[expect(dead_code, reason = "other tests draw other graphs")]
mod draw;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use lowbit_graph::{Blocking, Conv, Graph, Op, QuantizeLinear, Session, ValueId, Workspace};
use lowbit_runtime::Network;
use lowbit_runtime::c::Source;
use lowbit_tensor::{DType, Rng, Tensor};

use crate::draw::{draw, draw_few, draw_floats, draw_signs, draw_wide, images};

/// A graph, the dimensions of its input, and one input.
type Case = (Graph, Vec<usize>, Vec<f32>);

/// What every compiler must take without a word.
const STRICT: [&str; 6] = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"];

/// Where fused multiply-adds are to be had and the compiler may make them of its own accord.
const FUSING: [&str; 4] = ["-std=gnu99", "-O3", "-march=native", "-ffp-contract=fast"];

fn has_gcc() -> bool {
    let found = Command::new("gcc").arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("SKIPPED: no gcc, so C is written but neither compiled nor run");
    }
    found
}

/// The scores that the graph gives, as floats, before a softmax at its end.
fn expected((graph, dims, image): &Case) -> Vec<f32> {
    let mut graph = graph.clone();
    if let Some(node) = graph.nodes.last()
        && matches!(node.op, Op::Softmax(_))
        && let Some(scores) = node.input(0)
    {
        graph.outputs = vec![scores];
        graph.nodes.pop();
    }
    let session = Session::new(&graph).expect("the graph is valid");
    let feed = Tensor::new(dims.clone(), image.clone());
    let made = session.run(&[feed], &mut Workspace::serial()).expect("it runs");
    match made[0].dtype() {
        DType::F32 => made[0].f32s().to_vec(),
        _ => made[0].to_i64().expect("codes").iter().map(|&code| code as f32).collect(),
    }
}

/// A program that reads an image for each network and writes the scores; it fails when a self-test does.
fn program(names: &[String]) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
    for name in names {
        let _ = writeln!(text, "#include \"{name}.h\"");
    }
    text.push_str("int main(void)\n{\n    int wrong = 0;\n");
    for name in names {
        let upper = name.to_uppercase();
        let _ = writeln!(
            text,
            "    {{\n        static float image[{upper}_INPUT_LEN], scores[{upper}_SCORES];\n        \
             static uint8_t codes[{upper}_INPUT_LEN];\n        int best;\n        wrong += {name}_selftest();\n        \
             if (fread(image, sizeof image, 1, stdin) != 1) return 99;\n        \
             {name}_quantize(image, codes);\n        best = {name}_run(codes, scores);\n        \
             for (int i = 0; i < {upper}_SCORES; i++) wrong += scores[i] > scores[best];\n        \
             fwrite(scores, sizeof scores, 1, stdout);\n    }}"
        );
    }
    text.push_str("    return wrong;\n}\n");
    text
}

fn compile(folder: &Path, names: &[String], flags: &[&str]) {
    let mut gcc = Command::new("gcc");
    gcc.current_dir(folder).args(flags).args(["-o", "program", "main.c"]);
    for name in names {
        gcc.arg(format!("-D{}_SELFTEST", name.to_uppercase())).arg(format!("{name}.c"));
    }
    let Output { status, stderr, .. } = gcc.output().expect("gcc runs");
    assert!(status.success(), "{flags:?}\n{}", String::from_utf8_lossy(&stderr));
}

/// Writes, compiles and runs every case in a folder of that name, and compares the scores.
fn check(folder: &str, cases: &[Case], flags: &[&str]) {
    if !has_gcc() {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("space");
    let names: Vec<String> = (0..cases.len()).map(|i| format!("net{i}")).collect();
    for ((graph, dims, _), name) in cases.iter().zip(&names) {
        let network = Network::new(graph, dims).expect("it compiles");
        let made = Source::new(network, name).unwrap_or_else(|e| panic!("{e}\n{}", graph.dump()));
        write(&format!("{name}.h"), made.header.as_bytes());
        write(&format!("{name}.c"), made.source.as_bytes());
    }
    let input: Vec<u8> =
        cases.iter().flat_map(|case| &case.2).flat_map(|value| value.to_ne_bytes()).collect();
    write("input", &input);
    write("main.c", program(&names).as_bytes());
    compile(&folder, &names, flags);
    let input = std::fs::File::open(folder.join("input")).expect("just written");
    let ran = Command::new(folder.join("program")).stdin(input).output().expect("it runs");
    let mut found =
        ran.stdout.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    for (number, case) in cases.iter().enumerate() {
        let bits: Vec<u32> = expected(case).iter().map(|score| score.to_bits()).collect();
        let found: Vec<u32> = found.by_ref().take(bits.len()).collect();
        let differing = (0..bits.len()).find(|&i| found.get(i) != Some(&bits[i]));
        assert_eq!(differing, None, "case {number}, {flags:?}\n{}", case.0.dump());
    }
    assert_eq!(ran.status.code(), Some(0), "{flags:?}: wrong self-tests or best classes");
}

fn drawn(seed: u64) -> Case {
    with_image(draw(seed), seed)
}

fn with_image((graph, dims): (Graph, Vec<usize>), seed: u64) -> Case {
    let image = images(&dims, 1, seed);
    (graph, dims, image)
}

#[test]
fn drawn_networks_in_c_equal_the_graph_bit_for_bit() {
    check("strict", &(0..40).map(drawn).collect::<Vec<Case>>(), &STRICT);
    check("fusing", &(40..50).map(drawn).collect::<Vec<Case>>(), &FUSING);
}

#[test]
fn networks_of_signs_in_c_equal_the_graph_bit_for_bit() {
    let cases: Vec<Case> = (0..20).map(|seed| with_image(draw_signs(seed), seed)).collect();
    check("signs", &cases, &STRICT);
}

#[test]
fn networks_of_few_bits_in_c_equal_the_graph_bit_for_bit() {
    let cases: Vec<Case> = (0..20).map(|seed| with_image(draw_few(seed), seed)).collect();
    check("few", &cases, &STRICT);
}

#[test]
fn residual_networks_in_c_equal_the_graph_bit_for_bit() {
    let cases: Vec<Case> = (0..3).map(|seed| with_image(draw_wide(seed), seed)).collect();
    check("residual", &cases, &STRICT);
}

/// All pairs of codes, summed: an image of two channels that hold them, each through a convolution that copies it.
fn pairs(seed: u64, signed: bool) -> Case {
    let mut rng = Rng::new(seed);
    let mut graph = Graph::new("pairs");
    let dims = vec![1, 2, 256, 256];
    let x = graph.add_input("x", DType::F32, dims.iter().map(|&dim| Some(dim)).collect());
    let code = |code: i32| match signed {
        true => Tensor::scalar((code - 128) as i8),
        false => Tensor::scalar(code as u8),
    };
    let one = graph.add_constant("one", Tensor::scalar(1.0f32));
    let same = graph.add_constant("same", code(if signed { 128 } else { 0 }));
    let dtype = if signed { DType::I8 } else { DType::U8 };
    let quantize = QuantizeLinear { blocking: Blocking { axis: 1, block_size: 0 }, to: dtype };
    let codes = graph.add_node("q", Op::QuantizeLinear(quantize), &[x, one, same]);
    let zero = graph.add_constant("w0", Tensor::vector(vec![0i8]));
    let parameters = |graph: &mut Graph, rng: &mut Rng| -> [ValueId; 2] {
        let scale = 0.01 + rng.uniform() * 0.05;
        let zero_point = code(rng.below(256) as i32);
        [graph.add_constant("s", Tensor::scalar(scale)), graph.add_constant("z", zero_point)]
    };
    let mut inputs = vec![];
    for channel in 0..2 {
        let weights = vec![i8::from(channel == 0), i8::from(channel == 1)];
        let weights = graph.add_constant("w", Tensor::new([1, 2, 1, 1], weights));
        let operands = [codes, one, same, weights, one, zero, one, same];
        inputs.push(graph.add_node("copy", Op::QLinearConv(Conv::PLAIN), &operands));
        inputs.extend(parameters(&mut graph, &mut rng));
    }
    inputs.extend(parameters(&mut graph, &mut rng));
    let sum = graph.add_node("sum", Op::QLinearAdd, &inputs);
    graph.outputs = vec![sum];
    let low = if signed { -128.0 } else { 0.0 };
    let image = (0..2 * 65536u32).map(|i| match i / 65536 {
        0 => (i / 256 % 256) as f32 + low,
        _ => (i % 256) as f32 + low,
    });
    (graph, dims, image.collect())
}

#[test]
fn sums_of_all_pairs_of_codes_equal_the_graph() {
    let cases: Vec<Case> = (0..6).map(|seed| pairs(seed, seed % 3 == 0)).collect();
    check("pairs", &cases, &STRICT);
    check("pairs-fusing", &cases, &FUSING);
}

#[test]
fn what_c_cannot_hold_is_refused() {
    let refused = |graph: &Graph, dims: &[usize], name: &str| {
        let network = Network::new(graph, dims).expect("it compiles");
        Source::new(network, name).expect_err("it is refused").to_string()
    };
    let (graph, dims) = draw(0);
    for name in ["", "2bits", "a-b", "größe"] {
        assert!(refused(&graph, &dims, name).contains("as C wants them"), "{name}");
    }
    let mut floats = Graph::new("floats");
    let x = floats.add_input("x", DType::F32, vec![Some(1), Some(3)]);
    let y = floats.add_node("relu", Op::Unary(lowbit_graph::Unary::Relu), &[x]);
    floats.outputs = vec![y];
    let error = refused(&floats, &[1, 3], "net");
    assert!(error.contains("one QuantizeLinear reads"), "{error}");
    for seed in 0..40 {
        let (graph, dims) = draw_floats(seed);
        let error = refused(&graph, &dims, "net");
        let told =
            ["it computes with floats", "it has no integer form", "one QuantizeLinear reads"];
        assert!(told.iter().any(|why| error.contains(why)), "{error}");
    }
}
