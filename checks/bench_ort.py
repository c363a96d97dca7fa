"""Measures lowbit beside onnxruntime in one interleaved run: float throughput, and the cost of quantizing.

    python checks/bench_ort.py [--bench PATH] [--repeat N] [--blocks N] [--only RANGES,...] [PART ...]

Prints Markdown. `float`: images a second, medians of alternating blocks of about 0.4 s, with the quartiles. `quantize`:
wall time and peak memory of calibrating, quantizing and writing, each in a process of its own; onnxruntime's time leaves
its imports and its own preprocessing of the model out, lowbit's is that of the whole process. `memory`: lowbit's peak
for 200 and for 10,000 images. `packed`: onnxruntime's time on one image of ResNet-20 as float, int8, and 4- and 2-bit
files of either format, made with `--lowbit`, in alternating blocks. `layers`: GMAC/s of onnxruntime on float 3x3 convolutions
alone, those of `cargo bench -p lowbit-kernels --bench nhwc -- bits`, one thread. `agreement`: on how many of 800 photographs onnxruntime's own
quantization, calibrated on 200 others, gives the class of the float model. Without a PART, the first three. `--bench` is the example binary
`ort_bench` (built by cargo when not given).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from models import MODELS, REPO, Model
from run import print_table

OF_BENCH = ["float", "quantize", "memory"]
PARTS = [*OF_BENCH, "packed", "layers", "agreement"]
BY_NAME = {model.name: model for model in MODELS}
FLOAT_MODELS = ["resnet20", "mobilenetv1", "efficientnet-lite0", "open-nsfw"]
QUANTIZE = {"resnet20": 512, "efficientnet-lite0": 200}
OURS = ["min-max", "moving-average", "percentile", "mse", "kl"]
THEIRS = ["MinMax", "Percentile", "Entropy"]
# Its histograms of larger models take more than 12 GB.
AGREEMENT = {"mobilenetv1": THEIRS[:1], "efficientnet-lite0": THEIRS[:1], "orientation": THEIRS, "ppocr-cls": THEIRS}
PHOTOGRAPHS, CALIBRATION = 1000, 200
LAYERS = [(64, 56), (128, 28), (256, 14), (512, 7)]
BLOCK_S = 0.4


def build() -> Path:
    command = ["cargo", "build", "--release", "-q", "-p", "lowbit", "--example", "ort_bench", "--message-format=json"]
    built = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout
    return Path([path for line in built.splitlines() if (path := json.loads(line).get("executable"))][-1])


class Ours:
    """A process that runs the float model on request."""

    def __init__(self, bench: Path, model: Model, batch: int, threads: int, how: str):
        command = [bench, "float", model.path, str(batch), str(threads), "x".join(map(str, model.shape)), how]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, rounds: int) -> float:
        self.process.stdin.write(f"{rounds}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Theirs:
    """An onnxruntime session."""

    def __init__(self, model: Model, batch: int, threads: int, path: Path | None = None):
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = ort.InferenceSession(str(path or model.path), options, providers=["CPUExecutionProvider"])
        inputs = np.random.default_rng(7).normal(size=(batch, *model.shape)).astype(np.float32)
        self.feed = {self.session.get_inputs()[0].name: inputs}

    def seconds(self, rounds: int) -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            self.session.run(None, self.feed)
        return time.perf_counter() - start

    def close(self) -> None:
        self.session = None


def interleaved(runners: list, blocks: int) -> list[list[float]]:
    """Seconds a round of each runner, in `blocks` alternating blocks."""
    rounds = []
    for runner in runners:
        runner.seconds(2)
        rounds.append(max(1, round(BLOCK_S / (runner.seconds(3) / 3))))
    found = [[] for _ in runners]
    for _ in range(blocks):
        for i, runner in enumerate(runners):
            time.sleep(0.03)  # the other's spinning threads go to sleep
            found[i].append(runner.seconds(rounds[i]) / rounds[i])
    return found


def spread(rates: list[float]) -> str:
    low, middle, high = statistics.quantiles(rates, n=4)
    digits = 0 if middle >= 100 else 1
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def float_throughput(bench: Path, blocks: int) -> None:
    rows = []
    for name in FLOAT_MODELS:
        model = BY_NAME[name]
        for batch in (1, 32):
            for threads in (1, 2):
                runners = [Ours(bench, model, batch, threads, "whole"), Theirs(model, batch, threads)]
                if batch > 1 and threads > 1:
                    runners.append(Ours(bench, model, batch, threads, "images"))
                rates = [[batch / s for s in seconds] for seconds in interleaved(runners, blocks)]
                for runner in runners:
                    runner.close()
                ratio = statistics.median(rates[0]) / statistics.median(rates[1])
                images = spread(rates[2]) if len(rates) > 2 else ""
                rows.append([name, str(batch), str(threads), spread(rates[0]), spread(rates[1]), f"{ratio:.2f}", images])
                print(f"{rows[-1]}", file=sys.stderr)
    print_table("float, images a second: median (quartiles)",
                ["model", "batch", "threads", "lowbit", "onnxruntime", "ratio", "lowbit, an image a thread"], rows)


def measure(command: list) -> tuple[float, list[str]]:
    """Wall seconds of a process, and the words it prints last."""
    start = time.perf_counter()
    output = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True).stdout
    return time.perf_counter() - start, output.splitlines()[-1].split()


def ours_quantize(bench: Path, model: Model, images: int, rule: str, work: Path) -> tuple[float, float]:
    (work / "preprocess.toml").write_text(model.preprocess)
    command = [bench, "quantize", model.path, work / "ours.onnx", model.data, work / "preprocess.toml", images, rule,
               "int8"]
    seconds, words = measure(command)
    return seconds, float(words[0]) / 1024


def theirs_quantize(model: Model, images: int, method: str, work: Path) -> tuple[float, float]:
    _, words = measure([sys.executable, __file__, "--ort", model.name, method, images, work])
    return float(words[0]), float(words[1]) / 1024


def quantize_cost(bench: Path, repeat: int, only: list[str]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, images in QUANTIZE.items():
            model, work = BY_NAME[name], Path(folder)
            jobs = [("lowbit", rule, ours_quantize, (bench,)) for rule in OURS if rule in only]
            jobs += [("onnxruntime", method, theirs_quantize, ()) for method in THEIRS if method in only]
            found = [[] for _ in jobs]
            for _ in range(repeat):
                for i, (_, rule, job, first) in enumerate(jobs):
                    found[i].append(job(*first, model, images, rule, work))
            for (who, rule, _, _), runs in zip(jobs, found):
                seconds = [run[0] for run in runs]
                middle, peak = statistics.median(seconds), max(run[1] for run in runs)
                rows.append([name, str(images), who, rule, f"{middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
                             f"{peak:.0f}"])
                print(f"{rows[-1]}", file=sys.stderr)
    print_table(f"calibrating and quantizing, {repeat} runs each",
                ["model", "images", "tool", "ranges", "seconds: median (least to most)", "peak MB"], rows)


def memory(bench: Path) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rule in OURS:
            peaks = [ours_quantize(bench, BY_NAME["resnet20"], n, rule, Path(folder))[1] for n in (200, 10_000)]
            rows.append([rule, *(f"{peak:.0f}" for peak in peaks)])
    print_table("lowbit, ResNet-20, peak MB", ["ranges", "200 images", "10,000 images"], rows)


def packed(lowbit: Path, blocks: int) -> None:
    model, recipes = BY_NAME["resnet20"], REPO / "checks/recipes"
    files = [("float", None)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocess.toml").write_text(model.preprocess)
        for recipe, kind in [("int8", "qdq"), ("w4a8-nearest", "qdq"), ("w4a8-nearest", "qdq-packed"),
                             (recipes / "w2.toml", "qdq-packed"), (recipes / "kmeans.toml", "qdq-packed")]:
            path = Path(folder) / f"{Path(recipe).stem}.{kind}.onnx"
            subprocess.run([lowbit, "quantize", model.path, "--data", model.data, "--no-eval", "-q", "--recipe", recipe,
                            "--preprocess", f"{folder}/preprocess.toml", "--format", kind, "-o", path], check=True)
            files.append((path.stem, path))
        runners = [Theirs(model, 1, 1, path) for _, path in files]
        found = interleaved(runners, blocks)
        base = statistics.median(found[1])
        rows = [[name, f"{os.path.getsize(path or model.path):,}", spread([1e6 * s for s in seconds]),
                 f"{statistics.median(seconds) / base:.3f}"] for (name, path), seconds in zip(files, found)]
    print_table("onnxruntime, ResNet-20, one image, one thread",
                ["file", "bytes", "µs: median (quartiles)", "time over int8's"], rows)


def float_layers(blocks: int) -> None:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper
    rows, rng = [], np.random.default_rng(1)
    for channels, size in LAYERS:
        weight = numpy_helper.from_array(rng.normal(0, 1, (channels, channels, 3, 3)).astype(np.float32), "w")
        node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)
        shape = [1, channels, size, size]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
        graph = helper.make_graph([node], "layer", ends[:1], ends[1:], [weight])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {"x": rng.normal(0, 1, shape).astype(np.float32)}
        rates = []
        for _ in range(blocks):
            begin, runs = time.perf_counter(), 0
            while (passed := time.perf_counter() - begin) < BLOCK_S / 4:
                session.run(None, feed)
                runs += 1
            rates.append(9 * channels**2 * size**2 * runs / passed / 1e9)
        rows.append([f"{channels} channels, {size}x{size}", f"{statistics.median(rates):.1f}", f"{max(rates):.1f}"])
    print_table("onnxruntime, float, one thread", ["layer", "GMAC/s", "at best"], rows)


def ort_job(name: str, method: str, images: int, work: Path) -> None:
    """The onnxruntime side, in this process; prints seconds and peak kilobytes."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = BY_NAME[name]
    loaded = onnx.load(model.path)

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.inputs = read_images(model, images)

        def get_next(self):
            found = next(self.inputs, None)
            return None if found is None else {loaded.graph.input[0].name: found}

    if loaded.opset_import[0].version < 13:  # the first with scales for each channel
        loaded = onnx.version_converter.convert_version(loaded, 13)
    onnx.save(loaded, work / "opset.onnx")
    quant_pre_process(str(work / "opset.onnx"), str(work / "pre.onnx"), skip_symbolic_shape=True)
    start = time.perf_counter()
    quantize_static(str(work / "pre.onnx"), str(work / "theirs.onnx"), Reader(), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method=CalibrationMethod[method])
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    print(seconds, next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


def agreement(only: list[str]) -> None:
    import onnxruntime as ort

    rows = []
    for name, methods in AGREEMENT.items():
        model = BY_NAME[name]
        images = list(read_images(model, PHOTOGRAPHS))[CALIBRATION:]

        def classes(path: Path) -> np.ndarray:
            session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            feed = session.get_inputs()[0].name
            return np.array([session.run(None, {feed: image})[0].argmax() for image in images])

        expected = classes(model.path)
        for method in (method for method in methods if method in only):
            with tempfile.TemporaryDirectory() as folder:
                theirs_quantize(model, CALIBRATION, method, Path(folder))
                found = classes(Path(folder) / "theirs.onnx")
            rows.append([name, method, f"{100 * (found == expected).mean():.2f}"])
            print(f"{rows[-1]}", file=sys.stderr)
    print_table(f"onnxruntime's own quantization, {PHOTOGRAPHS - CALIBRATION} photographs", ["model", "ranges", "agreement %"], rows)


def read_images(model: Model, images: int):
    """The same images as lowbit reads, one at a time."""
    import tomllib

    from PIL import Image
    settings = tomllib.loads(model.preprocess)
    mean, std = (np.float32(settings.get(key, [default])).reshape(-1, 1, 1) for key, default in (("mean", 0), ("std", 1)))
    scale = np.float32(settings.get("scale", 255))
    if model.small:
        raw = np.fromfile(model.data / "data_batch_1.bin", np.uint8).reshape(-1, 3073)[:images, 1:]
        pixels = (row.reshape(3, 32, 32) for row in raw)
    else:
        names = [line.split(",")[0] for line in model.data.read_text().splitlines()[1:images + 1]]
        opened = (Image.open(model.data.parent / name).convert("RGB") for name in names)
        pixels = (np.asarray(image.resize(model.shape[:0:-1], Image.BICUBIC)).transpose(2, 0, 1) for image in opened)
    return (((image.astype(np.float32) / scale - mean) / std)[None] for image in pixels)


def main() -> None:
    if sys.argv[1:2] == ["--ort"]:
        return ort_job(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--bench", type=Path, help="the example binary ort_bench")
    parser.add_argument("--lowbit", type=Path, default=Path("lowbit"), help="the command-line tool: for `packed`")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*OURS, *THEIRS], help="ranges to measure")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each quantization")
    parser.add_argument("--blocks", type=int, default=9, help="blocks of each throughput")
    args = parser.parse_args()
    parts = args.parts or OF_BENCH
    bench = args.bench or (build() if {*parts} & {*OF_BENCH} else None)
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    print(f"{cpu}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    if "float" in parts:
        float_throughput(bench, args.blocks)
    if "quantize" in parts:
        quantize_cost(bench, args.repeat, args.only)
    if "memory" in parts:
        memory(bench)
    if "packed" in parts:
        packed(args.lowbit, args.blocks)
    if "layers" in parts:
        float_layers(args.blocks)
    if "agreement" in parts:
        agreement(args.only)


if __name__ == "__main__":
    main()
