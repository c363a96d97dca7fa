//! `lowbit export --to c` on the built-in model: compiled by gcc, it gives the graph's own scores of real images, bit for bit.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use lowbit::{Dataset, Images, Model, Runner, Split};
use lowbit_graph::Workspace;
use lowbit_ptq::Samples;
use tempfile::TempDir;

/// How many images are compared.
const IMAGES: usize = 20;

/// Reads images and writes scores, until there are no more.
const MAIN: &str = r#"
#include <stdio.h>
#include "net.h"

int main(void)
{
    static float image[NET_INPUT_LEN], scores[NET_SCORES];
    static uint8_t codes[NET_INPUT_LEN];
    while (fread(image, sizeof image, 1, stdin) == 1) {
        net_quantize(image, codes);
        net_run(codes, scores);
        fwrite(scores, sizeof scores, 1, stdout);
    }
    return net_selftest();
}
"#;

fn run(dir: &Path, program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}\n{errors}");
    output
}

fn lowbit(dir: &Path, args: &[&str]) -> String {
    String::from_utf8(run(dir, env!("CARGO_BIN_EXE_lowbit"), args).stdout).unwrap()
}

/// The built-in model with weights of a named quantizer, as net.onnx, net.h and net.c.
fn exported(weights: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    let quantize = ["quantize", "--no-eval", "--calib-images", "32", "-q", "-o", "net.onnx"];
    lowbit(dir.path(), &[&quantize[..], &["--weights", weights]].concat());
    let said = lowbit(dir.path(), &["export", "net.onnx", "--to", "c", "-o", "net"]);
    assert!(said.contains("net.h") && said.contains("9.3 M MACs"), "{said}");
    dir
}

/// The graph's own scores of real images, and those of the C program, as bits.
fn check(weights: &str, bits: usize) {
    let dir = exported(weights);
    let source = fs::read_to_string(dir.path().join("net.c")).unwrap();
    assert!(source.contains(&format!(".bits = {bits},")), "{weights}: other bits");
    if !Command::new("gcc").arg("--version").output().is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: no gcc, so C is written but neither compiled nor run");
        return;
    }
    fs::write(dir.path().join("main.c"), MAIN).unwrap();
    let strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let files = ["-DNET_SELFTEST", "-o", "main", "main.c", "net.c"];
    run(dir.path(), "gcc", &[&strict[..], &files].concat());

    let model = Model::load(dir.path().join("net.onnx"), None).unwrap();
    let runner = Runner::oracle(&model.graph).unwrap();
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fashion-mnist");
    let data = Dataset::open(assets).unwrap().split(Split::Test).unwrap().spread(IMAGES);
    let images = Images::new(data, &model.notes.preprocess.unwrap());
    let (mut input, mut expected) = (vec![], vec![]);
    for index in 0..IMAGES {
        let image = images.get(index).unwrap();
        input.extend(image.f32s().iter().flat_map(|value| value.to_ne_bytes()));
        let scores = runner.scores(image, &mut Workspace::serial()).unwrap();
        expected.extend(scores.iter().flat_map(|score| score.to_ne_bytes()));
    }
    fs::write(dir.path().join("images"), input).unwrap();
    let images = File::open(dir.path().join("images")).unwrap();
    let ran = Command::new(dir.path().join("main")).stdin(images).output().unwrap();
    assert!(ran.status.success(), "{weights}: {:?} scores of the self-test are wrong", ran.status);
    assert!(ran.stdout == expected, "{weights}: other scores than the graph's");
}

#[test]
fn int8_in_c_is_the_graph() {
    check("int8-mse", 8);
}

#[test]
fn four_and_two_bits_in_c_are_the_graph() {
    check("kmeans-16", 4);
    check("int2-mse", 2);
}

#[test]
fn ternary_and_binary_weights_in_c_are_the_graph() {
    check("twn", 2);
    check("bwn", 1);
}

#[test]
fn what_cannot_be_c_is_refused() {
    let dir = exported("int8-mse");
    let refused = |args: &[&str], part: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
        let output = command.args(args).current_dir(dir.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}\n{errors}");
        assert!(errors.contains(part), "{args:?}\n{errors}");
    };
    refused(&["export", "net.onnx", "--to", "c", "-o", "net-8"], "as C wants them");
    refused(&["export", "net.onnx", "--to", "c", "-o", "none/net"], "does not exist");
    let float = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/fashion_resnet8.onnx");
    refused(&["export", float, "--to", "c", "-o", "net"], "a quantized one");
    lowbit(dir.path(), &["export", "net.onnx", "--to", "c", "-o", "."]);
    assert!(dir.path().join("net.c").exists(), "named by the model");
}
