"""Measures lowbit beside onnxruntime, OpenVINO and rten on the same files in one interleaved run.

    python checks/peers.py --lowbit PATH [--rten PATH] [--only MODEL,...] [--batch N,...] [--threads N,...] [--rounds N]
        [--seconds S] [--json PATH]

Prints Markdown: milliseconds a run, medians over the rounds with their quartiles. Every engine runs for `--seconds` in each
round, one after the other, on noise. `int8` is the file that `lowbit quantize` wrote; `default` is the float model as the
engine runs it when nothing is asked of it (OpenVINO: bf16 where the CPU has it). The last column is lowbit's speed over
that of the fastest of the others that run integers or OpenVINO's default; where it is below 1, lowbit is slower.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from models import MODELS, Model
from run import print_table

BY_NAME = {model.name: model for model in MODELS}
DEFAULT = ["resnet20", "mobilenetv1", "efficientnet-lite0", "open-nsfw"]


class Lowbit:
    """The command-line tool; each block is a process of its own, which measures inside."""

    name = "lowbit int8"

    def __init__(self, tool: str, model: Model, path: Path, batch: int, threads: int):
        shape = "x".join(map(str, model.shape))
        self.command = [tool, "bench", str(path), "--batch", str(batch), "--threads", str(threads), "--input", shape,
                        "--quiet", "--json", "-"]

    def block(self, seconds: float) -> float:
        out = subprocess.run([*self.command, "--seconds", str(seconds)], check=True, capture_output=True).stdout
        self.measured = json.loads(out)
        return self.measured["milliseconds"]["median"]


class InProcess:
    """An engine that Python calls."""

    def block(self, seconds: float) -> float:
        for _ in range(3):
            self.run()
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < seconds or len(times) < 5:
            start = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)


class OnnxRuntime(InProcess):
    def __init__(self, kind: str, path: Path, inputs: np.ndarray, threads: int):
        import onnxruntime as ort
        self.name = f"onnxruntime {kind}"
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: inputs}
        self.run = lambda: session.run(None, feed)


class OpenVino(InProcess):
    def __init__(self, kind: str, path: Path, inputs: np.ndarray, threads: int):
        import openvino as ov
        self.name = f"OpenVINO {kind}"
        core = ov.Core()
        model = core.read_model(str(path))
        model.reshape(list(inputs.shape))
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(ov.Tensor(inputs))
        self.run = request.infer


class Rten:
    """Its command-line tool, with packed weights; each block is a process of its own."""

    SLOWEST = 500  # milliseconds

    def __init__(self, tool: str, kind: str, path: Path, batch: int, threads: int):
        import onnxruntime as ort
        self.name = f"rten {kind}"
        dims = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs()[0].shape
        size = ["--size", f'"{dims[0]}"={batch}'] if isinstance(dims[0], str) else []
        self.command = [tool, str(path), "--prepack", "--num-threads", str(threads), *size]
        first = self.iterations(1)[0]
        if first > self.SLOWEST:
            raise RuntimeError(f"a run takes {first:.0f} ms, which is too long to repeat")

    def iterations(self, count: int) -> list[float]:
        run = subprocess.run([*self.command, "--n-iters", str(count)], capture_output=True, text=True)
        times = [float(found) for found in re.findall(r"outputs in ([\d.]+)ms", run.stdout)]
        if run.returncode or len(times) != count:
            raise RuntimeError((run.stderr or run.stdout).strip() or "no times were printed")
        return times

    def block(self, seconds: float) -> float:
        one = min(self.iterations(2))
        return statistics.median(self.iterations(max(3, int(1e3 * seconds / max(one, 0.01)))))


def quantize(tool: str, model: Model, folder: Path) -> Path:
    path, preprocess = folder / f"{model.name}.onnx", folder / f"{model.name}.toml"
    preprocess.write_text(model.preprocess)
    data = model.data
    if model.name == "open-nsfw":  # it has no labels: any images calibrate it
        data = unlabelled(folder)
    subprocess.run([tool, "quantize", str(model.path), "--data", str(data), "--preprocess", str(preprocess), "--calib-images",
                    "64", "--eval-images", "1", "-o", str(path), "--quiet"], check=True)
    return path


def unlabelled(folder: Path) -> Path:
    from models import PHOTOGRAPHS
    lines = PHOTOGRAPHS.read_text().splitlines()
    names = [line.split(",")[0] for line in lines if line.split(",")[0].endswith((".jpg", ".png", ".jpeg"))]
    path = folder / "unlabelled.csv"
    path.write_text("file\n" + "".join(f"{(PHOTOGRAPHS.parent / name).resolve()}\n" for name in names))
    return path


def engines(options: argparse.Namespace, model: Model, path: Path, batch: int, threads: int) -> list:
    inputs = np.random.default_rng(7).uniform(-1, 1, size=(batch, *model.shape)).astype(np.float32)
    made = [Lowbit(options.lowbit, model, path, batch, threads)]
    wanted = [(OnnxRuntime, "int8", path), (OnnxRuntime, "float", model.path), (OpenVino, "int8", path), (OpenVino, "default", model.path)]
    if options.rten:
        wanted += [(Rten, "int8", path), (Rten, "float", model.path)]
    for engine, kind, file in wanted:
        try:
            if engine is Rten:
                peer = Rten(options.rten, kind, file, batch, threads)
            else:
                peer = engine(kind, file, inputs, threads)
                peer.run()
            made.append(peer)
        except Exception as error:  # the row says what could not be measured, and goes on
            print(f"{engine.__name__} {kind} does not run {model.name} at batch {batch}: {str(error).splitlines()[0]}", file=sys.stderr)
    return made


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowbit", required=True)
    parser.add_argument("--rten", help="the program of the crate rten-cli")
    parser.add_argument("--only", default=",".join(DEFAULT))
    parser.add_argument("--batch", type=numbers, default=[1, 32])
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows, found, names = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only.split(","):
            model = BY_NAME[name]
            path = quantize(options.lowbit, model, Path(folder))
            for batch in options.batch:
                for threads in options.threads:
                    runners = engines(options, model, path, batch, threads)
                    blocks = {runner.name: [] for runner in runners}
                    for _ in range(options.rounds):
                        for runner in runners:
                            blocks[runner.name].append(runner.block(options.seconds))
                    names = names if len(names) > len(blocks) else list(blocks)
                    rivals = [statistics.median(times) for rival, times in blocks.items()
                              if rival not in (Lowbit.name, "onnxruntime float", "rten float")]
                    ratio = min(rivals) / statistics.median(blocks[Lowbit.name])
                    rows.append((name, batch, threads, blocks, ratio))
                    measured = runners[0].measured
                    found.append({"model": name, "batch": batch, "threads": threads, "milliseconds": blocks, "ratio": ratio,
                                  "cpu": measured["cpu"], "isa": measured["isa"]})
                    print(name, batch, threads, f"{ratio:.2f}", file=sys.stderr, flush=True)
    print(f"{found[0]['cpu']}, lowbit on {found[0]['isa']}; milliseconds a run, median (quartiles) of {options.rounds} blocks\n")

    def cell(times: list[float] | None) -> str:
        if not times:
            return "-"
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        return f"{middle:.3g} ({low:.3g}-{high:.3g})"

    table = [[name, str(batch), str(threads), *(cell(blocks.get(engine)) for engine in names), f"{ratio:.2f}"]
             for name, batch, threads, blocks, ratio in rows]
    print_table("Milliseconds a run", ["model", "batch", "threads", *names, "speed"], table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
