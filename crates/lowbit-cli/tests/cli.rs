//! The binary as a user meets it: exit codes, what is printed where, and files whole or absent.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Runs `lowbit` in `dir`.
fn lowbit(dir: &TempDir, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn command(dir: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lowbit"));
    command.args(args).current_dir(dir.path()).env_remove("NO_COLOR");
    command
}

/// Runs `lowbit` and checks its exit code and that stdout and stderr hold what is said.
#[track_caller]
fn check(args: &[&str], code: i32, stdout: &[&str], stderr: &[&str]) {
    let dir = TempDir::new().unwrap();
    check_in(&dir, args, code, stdout, stderr);
}

#[track_caller]
fn check_in(dir: &TempDir, args: &[&str], code: i32, stdout: &[&str], stderr: &[&str]) {
    let output = lowbit(dir, args);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    for part in stdout {
        assert!(out.contains(part), "{args:?}: no {part:?} in stdout:\n{out}");
    }
    for part in stderr {
        assert!(err.contains(part), "{args:?}: no {part:?} in stderr:\n{err}");
    }
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "colors in a file");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read(dir: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(dir.path().join(name)).unwrap()
}

/// IDX files of `n` black images of 28x28, labelled 0 to 9 in turn.
fn idx_folder(dir: &Path, n: u32) {
    let header = |kind: u8, dims: &[u32]| -> Vec<u8> {
        let rank = u8::try_from(dims.len()).unwrap();
        let sizes = dims.iter().flat_map(|dim| dim.to_be_bytes());
        [0, 0, kind, rank].into_iter().chain(sizes).collect()
    };
    std::fs::create_dir_all(dir).unwrap();
    let mut images = header(8, &[n, 28, 28]);
    images.resize(images.len() + (n * 28 * 28) as usize, 0);
    let mut labels = header(8, &[n]);
    labels.extend((0..n).map(|i| (i % 10) as u8));
    std::fs::write(dir.join("t10k-images-idx3-ubyte"), images).unwrap();
    std::fs::write(dir.join("t10k-labels-idx1-ubyte"), labels).unwrap();
}

const FAST: [&str; 5] = ["quantize", "--eval-images", "100", "--calib-images", "32"];

fn fast<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&FAST[..], more].concat()
}

#[test]
fn help_teaches() {
    check(&["--help"], 0, &["quantize", "eval", "inspect", "run", "data", "Examples:"], &[]);
    check(&["quantize", "--help"], 0, &["Examples:", "--max-drop", "--mean", "--data"], &[]);
    check(&["eval", "--help"], 0, &["Examples:", "--compare"], &[]);
    check(&["inspect", "--help"], 0, &["Examples:", "--target"], &[]);
    check(&["run", "--help"], 0, &["Examples:", "--classes"], &[]);
    check(&["bench", "--help"], 0, &["Examples:", "--layers"], &[]);
    check(&["data", "fetch", "--help"], 0, &["cifar10", "Example:"], &[]);
    check(&["--version"], 0, &["lowbit 0."], &[]);
}

#[test]
fn usage_errors_exit_with_2() {
    check(&[], 2, &[], &["Usage:"]);
    check(&["quantise"], 2, &[], &["quantize"]);
    check(&["quantize", "net.onnx"], 2, &[], &["images are needed: --data D"]);
    check(&["quantize", "net.onnx", "--calib", "c"], 2, &[], &["--calib needs --eval"]);
    check(&["quantize", "--observer", "x"], 2, &[], &["min-max, moving-average"]);
    check(&["quantize", "--max-drop=-3"], 2, &[], &["--max-drop"]);
    check(&["quantize", "--mean", "a"], 2, &[], &["numbers, one per channel"]);
    check(&["quantize", "--threads", "0"], 2, &[], &["--threads"]);
    check(&["quantize", "--data", "a", "--calib", "b"], 2, &[], &["cannot be used with"]);
    check(&["inspect", "net.onnx", "--input", "3x"], 2, &[], &["3x224x224"]);
}

#[test]
fn failures_exit_with_1_and_say_why() {
    let dir = TempDir::new().unwrap();
    idx_folder(&dir.path().join("data"), 20);
    std::fs::write(dir.path().join("bad.toml"), "means = [1]\n").unwrap();
    std::fs::write(dir.path().join("bad.onnx"), "not a model").unwrap();
    let check = |args: &[&str], stderr: &[&str]| check_in(&dir, args, 1, &[], stderr);
    check(
        &["quantize", "no.onnx", "--data", "data"],
        &["error: no.onnx: No such file or directory"],
    );
    check(&["quantize", "bad.onnx", "--data", "data"], &["error: bad.onnx: not an ONNX model"]);
    check(&["eval", "no.onnx", "--data", "nowhere"], &["error: nowhere"]);
    check(&["run", "no.onnx", "no.jpg"], &["error: no.jpg"]);
    check(&["data", "info", "."], &["expected one of: CIFAR-10"]);
    check(&["data", "fetch", "no-such-set"], &["expected one of: cifar10"]);
    check(&["quantize", "--preprocess", "bad.toml"], &["bad.toml line 1", "means", "layout"]);
    check(&["quantize", "--crop", "20"], &["[1, 20, 20]", "[1, 28, 28]"]);
    check(&["quantize", "--layout", "nhwc"], &["add --layout nchw"]);
    check(&["quantize", "-o", "no/such/dir/x.onnx"], &["does not exist"]);
    check(&["quantize", "-o", "."], &["is a folder"]);
    assert_eq!(files(&dir), ["bad.onnx", "bad.toml", "data"]);
}

#[test]
fn default_run_writes_a_model_that_eval_and_quantize_understand() {
    let dir = TempDir::new().unwrap();
    let found = ["float", "int8", "top-1", "95 % interval", "same class", "dB", "smaller"];
    check_in(&dir, &fast(&[]), 0, &found, &[]);
    assert_eq!(files(&dir), ["fashion_resnet8.int8.onnx"]);
    idx_folder(&dir.path().join("data"), 40);
    let model = "fashion_resnet8.int8.onnx";
    // Black images are of one class: one in ten is right, which deserves a warning.
    check_in(
        &dir,
        &["eval", model, "--data", "data", "--json", "eval.json"],
        0,
        &["10.00 %", "quantized"],
        &["close to guessing"],
    );
    assert_eq!(json(&dir, "eval.json")["top1"], 10.0);
    check_in(&dir, &["quantize", model, "--data", "data"], 1, &[], &["quantized already"]);
    let same = ["quantize", model, "--data", "data", "-o", model];
    check_in(&dir, &same, 2, &[], &["would overwrite the float model"]);
}

fn json(dir: &TempDir, name: &str) -> serde_json::Value {
    serde_json::from_slice(&read(dir, name)).unwrap()
}

#[test]
fn json_has_the_stable_keys() {
    let dir = TempDir::new().unwrap();
    check_in(&dir, &fast(&["--json", "r.json", "--seed", "7"]), 0, &["float"], &[]);
    let results = json(&dir, "r.json");
    for path in [
        "/model",
        "/recipe",
        "/float/top1",
        "/float/top5",
        "/float/ci95/1",
        "/quantized/top1",
        "/drop/top1",
        "/drop/ci95/0",
        "/agreement",
        "/size_bytes/float",
        "/layers/0/name",
        "/layers/0/op",
        "/layers/0/bits_w",
        "/layers/0/bits_a",
        "/layers/0/sqnr_db",
        "/layers/0/macs",
        "/layers/0/bytes",
        "/seconds/calibrate",
        "/seconds/quantize",
        "/seconds/evaluate",
    ] {
        assert!(results.pointer(path).is_some_and(|value| !value.is_null()), "{path}");
    }
    assert_eq!((&results["seed"], &results["images"]), (&7.into(), &100.into()));
    let written = read(&dir, "fashion_resnet8.int8.onnx").len();
    assert_eq!(results["size_bytes"]["quantized"], written);
}

#[test]
fn json_to_stdout_is_alone_there() {
    let dir = TempDir::new().unwrap();
    let output = lowbit(&dir, &fast(&["--json", "-"]));
    let results: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(results["images"], 100);
}

#[test]
fn quiet_prints_nothing() {
    let dir = TempDir::new().unwrap();
    let output = lowbit(&dir, &fast(&["--quiet", "--max-drop", "100"]));
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
    assert_eq!(output.status.code(), Some(0));
    let output = lowbit(&dir, &["quantize", "no.onnx", "--data", ".", "--quiet"]);
    assert!(text(&output.stderr).starts_with("error: "));
}

#[test]
fn a_drop_beyond_the_wanted_one_exits_with_3_and_still_writes() {
    let dir = TempDir::new().unwrap();
    // Ranges of a single image are too narrow for most others.
    let args = ["quantize", "--calib-images", "1", "--seed", "3", "--max-drop", "0"];
    let args = [&args[..], &["--eval-images", "500", "--json", "r.json"]].concat();
    check_in(&dir, &args, 3, &["wrote"], &["more than the 0 wanted"]);
    assert_eq!(files(&dir), ["fashion_resnet8.int8.onnx", "r.json"]);
    assert!(json(&dir, "r.json")["drop"]["top1"].as_f64().unwrap() > 0.0);
}

#[test]
fn same_seed_same_bytes_at_any_thread_count() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, seed: &str, threads: &str| {
        let args = ["--seed", seed, "--threads", threads, "-o", name, "--observer", "mse", "-q"];
        assert!(lowbit(&dir, &fast(&args)).status.success());
        read(&dir, name)
    };
    let first = write("a.onnx", "5", "1");
    assert!(first == write("b.onnx", "5", "2"), "threads change the file");
    assert!(first != write("c.onnx", "6", "2"), "the seed does nothing");
}

#[test]
fn flags_override_the_file_and_the_file_the_default() {
    let dir = TempDir::new().unwrap();
    idx_folder(&dir.path().join("data"), 20);
    std::fs::write(dir.path().join("p.toml"), "scale = 1\nmean = [3]\n").unwrap();
    let quantize = fast(&["--preprocess", "p.toml", "--mean", "-4", "-q"]);
    check_in(&dir, &quantize, 0, &[], &[]);
    let eval = ["eval", "fashion_resnet8.int8.onnx", "--data", "data", "-q", "--json", "e.json"];
    check_in(&dir, &eval, 0, &[], &[]);
    let checked = ["eval", "fashion_resnet8.int8.onnx", "--data", "data", "--check"];
    check_in(&dir, &checked, 0, &["every score is the executor's"], &[]);
    let used = &json(&dir, "e.json")["preprocess"];
    assert_eq!(used["scale"], 1.0);
    assert_eq!(used["mean"][0], -4.0);
    assert_eq!(used["channels"], "gray", "as the model's input shape says");
}

#[test]
fn unlabelled_and_unsplit_sets_are_handled() {
    let dir = TempDir::new().unwrap();
    idx_folder(&dir.path().join("data"), 20);
    let args = ["quantize", "--data", "data", "-o", "a.onnx"];
    check_in(&dir, &args, 0, &["wrote"], &["10 images from the start of the list", "the other 10"]);
    check_in(&dir, &["data", "info", "data"], 0, &["IDX files", "20 images"], &[]);
    let args = ["quantize", "--calib", "data", "--no-eval", "-o", "b.onnx"];
    check_in(&dir, &args, 0, &["not evaluated"], &[]);
}

#[test]
fn no_image_is_needed() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("r.toml"), "calibration = { images = 6, iterations = 4 }")
        .unwrap();
    let args = ["quantize", "--recipe", "r.toml", "--data-free", "--no-eval", "--json", "a.json"];
    check_in(&dir, &args, 0, &["not evaluated"], &[]);
    assert_eq!(json(&dir, "a.json")["calibration_images"], 6);
    let args = ["quantize", "--data-free", "--recipe", "s.toml", "--eval-images", "50"];
    let gptq = "calibration = \"statistics\"\n[[steps]]\nstep = \"gptq\"";
    std::fs::write(dir.path().join("s.toml"), gptq).unwrap();
    check_in(&dir, &args, 1, &[], &["gptq", "reads images, and there are none"]);
    check(&["quantize", "--data-free", "--calib", "c"], 2, &[], &["cannot be used with"]);
}

#[test]
fn run_names_the_classes() {
    let dir = TempDir::new().unwrap();
    check_in(&dir, &fast(&["-q"]), 0, &[], &[]);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../lowbit-data/tests/goldens/rgb.png");
    let model = "fashion_resnet8.int8.onnx";
    let all = ["run", model, image, "--resize", "28x28", "-k", "10"];
    check_in(&dir, &all, 0, &["Ankle boot", "Bag", " %"], &[]);
    let output = lowbit(&dir, &["run", model, image, image, "--resize", "28x28", "-k", "1"]);
    assert_eq!(text(&output.stdout).lines().count(), 4, "a name and a class for each");
    check_in(&dir, &["run", model, image], 1, &[], &["add --resize 28x28"]);
    std::fs::write(dir.path().join("names"), "a\nb\n").unwrap();
    check_in(&dir, &fast(&["--classes", "names"]), 1, &[], &["2 class names, expected 10"]);
}

#[test]
fn completions_complete() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        check(&["completions", shell], 0, &["quantize"], &[]);
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = TempDir::new().unwrap();
    let mut child = command(&dir, &["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;

    #[test]
    fn a_full_disk_is_reported() {
        check(
            &fast(&["-o", "/dev/full"]),
            1,
            &[],
            &["cannot write /dev/full", "because: No space"],
        );
        check(&fast(&["--json", "/dev/full"]), 1, &[], &["because: No space"]);
    }

    #[test]
    fn ctrl_c_leaves_nothing() {
        let dir = TempDir::new().unwrap();
        // Far more images than are run before the signal.
        let child = command(&dir, &["quantize", "--observer", "kl", "--threads", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(text(&output.stderr), "interrupted: nothing was written\n");
        assert!(files(&dir).is_empty());
    }
}

#[test]
fn inspect_shows_what_runs_as_integers() {
    let dir = TempDir::new().unwrap();
    check_in(&dir, &fast(&["-q"]), 0, &[], &[]);
    let model = "fashion_resnet8.int8.onnx";
    let found = ["quantized", "Conv", "8 bits", "parameters", "multiply-accumulates"];
    check_in(&dir, &["inspect", model], 0, &found, &[]);
    check_in(&dir, &["inspect", model, "--target", "ort", "--json", "i"], 0, &["onnxruntime"], &[]);
    let inspection = json(&dir, "i");
    assert_eq!(inspection["input"], serde_json::json!([1, 1, 28, 28]));
    assert!(inspection["nodes"][0]["op"].is_string());
    check_in(&dir, &["inspect", "no.onnx"], 1, &[], &["error: no.onnx: No such file"]);
}

#[test]
fn recipes_and_quantizers_are_listed() {
    check(&["recipes"], 0, &["int8 ", "w4a8 ", "deep-compression "], &[]);
    check(&["recipes", "--quantizers"], 0, &["apot-4 ", "arXiv:1909.13144"], &[]);
}

#[test]
fn formats_hold_the_same_model() {
    let dir = TempDir::new().unwrap();
    for (format, name) in [("qdq", "a.onnx"), ("qdq-packed", "b.onnx"), ("compressed", "c.lbz")] {
        let recipe = ["--recipe", "w4a8-nearest", "--format", format, "-o", name];
        check_in(&dir, &fast(&recipe), 0, &[], &[]);
    }
    check_in(&dir, &["export", "c.lbz", "--to", "qdq-packed", "-o", "d.onnx"], 0, &["d.onnx"], &[]);
    assert!(read(&dir, "d.onnx") == read(&dir, "b.onnx"), "what was compressed comes back");
    let sizes = ["a.onnx", "b.onnx", "c.lbz"].map(|name| read(&dir, name).len());
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
    for name in ["b.onnx", "c.lbz"] {
        check_in(&dir, &["inspect", name], 0, &["4 bits", "run as integers in lowbit"], &[]);
    }
    check_in(
        &dir,
        &["export", "b.onnx", "--to", "qonnx", "-o", "e.onnx"],
        1,
        &[],
        &["--format qonnx"],
    );
}

#[test]
fn bench_measures_every_layer() {
    let dir = TempDir::new().unwrap();
    check_in(&dir, &fast(&["--recipe", "w4a8-nearest", "-o", "net.onnx"]), 0, &[], &[]);
    let quick = ["bench", "net.onnx", "--seconds", "0.01", "--threads", "1"];
    let args = [&quick[..], &["--layers", "--json", "bench.json"]].concat();
    let columns = ["% of peak", "conv + add", "global average", "quantize", "images/s", "1 thread"];
    check_in(&dir, &args, 0, &columns, &[]);
    let measured = json(&dir, "bench.json");
    let layers = measured["layers"].as_array().unwrap();
    let sum = |key: &str| layers.iter().map(|layer| layer[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("macs"), measured["macs"].as_u64().unwrap());
    assert_eq!(sum("weight_bytes"), measured["memory_bytes"][0].as_u64().unwrap());
    assert!(measured["milliseconds"]["p10"].as_f64() <= measured["milliseconds"]["p90"].as_f64());
    assert!(measured["runs"].as_u64() >= Some(5));
    let batch = [&quick[..], &["--batch", "3", "--quiet", "--json", "batch.json"]].concat();
    check_in(&dir, &batch, 0, &[], &[]);
    assert_eq!(json(&dir, "batch.json")["batch"].as_u64(), Some(3));
    check_in(&dir, &["bench", "net.onnx", "--seconds", "0"], 2, &[], &["0.01 to 600"]);
    check_in(&dir, &["bench", "absent.onnx"], 1, &[], &["absent.onnx"]);
}

#[test]
fn qonnx_says_what_it_takes_from_a_recipe() {
    let lost = "--format qonnx leaves out channel_scales";
    check(&fast(&["--format", "qonnx"]), 0, &[], &[lost]);
    let output = lowbit(&TempDir::new().unwrap(), &fast(&["--format", "qdq"]));
    assert!(!text(&output.stderr).contains("channel_scales"));
}

#[test]
fn qonnx_refuses_other_grids_by_layer_and_grid() {
    let args = ["--weights", "kmeans-16", "--format", "qonnx"];
    check(&fast(&args), 1, &[], &["grid codebook per tensor", "use qdq-packed"]);
}
