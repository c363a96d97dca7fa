"""Binary networks end to end: writes ResNet-18s with sign activations, quantizes them, compares and measures.

    python checks/binary.py --lowbit PATH [--dump PATH] [--only NET,...] [--rounds N] [--seconds S] [--threads N] [--size N]
                            [--keep DIR] [--json PATH]

The weights are random but fixed, since only arithmetic and speed are looked at. `bi-real` has a shortcut around every 3x3
convolution (Liu et al. 2018, arXiv:1808.00278), `reactnet` also a bias per channel before each sign and a shifted PRelu behind
each sum (Liu et al. 2020, arXiv:2003.03488), with weights of one magnitude per channel or, `reactnet-ternary`, 0 besides. First
and last layer and the shortcuts' 1x1 convolutions are float, and int8 once quantized.

The compiled network must give the executor's bits (`ort_dump`, built by cargo when not given, checks it) and those of onnxruntime on
the quantized file. Prints Markdown: milliseconds a run in interleaved blocks, medians over rounds, and where the time goes. The exit
code is 1 when a check fails.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models import IMAGENET, PHOTOGRAPHS, SQUARE, Model
from peers import Lowbit, OnnxRuntime
from run import build_dump, outputs, print_table, session

STAGES = [(64, 1), (128, 2), (256, 2), (512, 2)]
BLOCKS = 4  # 3x3 convolutions in a stage
CLASSES = 1000
NETS = ["bi-real", "reactnet", "reactnet-ternary"]
CALIBRATION, EVALUATION = 16, 4


class Net:
    """A float graph under construction."""

    def __init__(self, name: str):
        self.shifted, self.ternary = name.startswith("reactnet"), name.endswith("ternary")
        self.rng = np.random.default_rng(18)
        self.nodes, self.constants, self.name = [], [], name

    def constant(self, values) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attributes) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def per_channel(self, channels: int, mean: float, deviation: float) -> str:
        return self.constant(self.rng.normal(mean, deviation, (1, channels, 1, 1)))

    def norm(self, x: str, channels: int, variance) -> str:
        """Batch normalization of sums that have this variance."""
        gamma = self.rng.uniform(0.5, 1.5, channels) * np.where(self.rng.random(channels) < 0.1, -1, 1)
        of_channels = [gamma, self.rng.normal(0, 0.3, channels), np.zeros(channels), np.broadcast_to(variance, channels)]
        return self.node("BatchNormalization", x, *map(self.constant, of_channels))

    def conv(self, x: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        weight = self.rng.normal(0, 1 / np.sqrt(inputs * kernel * kernel), (outputs, inputs, kernel, kernel))
        return self.node("Conv", x, self.constant(weight), strides=[stride] * 2, pads=[kernel // 2] * 4)

    def sign(self, x: str, channels: int) -> str:
        if self.shifted:
            x = self.node("Add", x, self.per_channel(channels, 0, 0.3))
        positive = self.node("GreaterOrEqual", x, self.constant(0))
        return self.node("Where", positive, self.constant(1), self.constant(-1))

    def sign_conv(self, x: str, inputs: int, outputs: int, stride: int) -> str:
        shape = (outputs, inputs, 3, 3)
        weight = self.rng.choice([-1, 0, 1] if self.ternary else [-1, 1], shape).astype(np.float32)
        weight *= self.rng.uniform(0.02, 0.08, (outputs, 1, 1, 1)).astype(np.float32)
        y = self.node("Conv", self.sign(x, inputs), self.constant(weight), strides=[stride] * 2, pads=[1] * 4)
        return self.norm(y, outputs, (weight ** 2).sum((1, 2, 3)))

    def block(self, x: str, inputs: int, outputs: int, stride: int) -> str:
        y = self.sign_conv(x, inputs, outputs, stride)
        if stride > 1:
            x = self.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        if inputs != outputs:
            x = self.norm(self.conv(x, inputs, outputs, 1, 1), outputs, 1)
        y = self.node("Add", y, x)
        if self.shifted:
            y = self.node("Add", y, self.per_channel(outputs, 0, 0.2))
            y = self.node("PRelu", y, self.constant(self.rng.uniform(0.1, 0.4, (outputs, 1, 1))))
            y = self.node("Add", y, self.per_channel(outputs, 0, 0.2))
        return y

    def build(self, size: int) -> onnx.ModelProto:
        x = self.norm(self.conv("image", 3, 64, 7, 2), 64, 1)
        x = self.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        channels = 64
        for outputs, stride in STAGES:
            for index in range(BLOCKS):
                x = self.block(x, channels, outputs, stride if index == 0 else 1)
                channels = outputs
        x = self.node("Flatten", self.node("GlobalAveragePool", x))
        weight = self.constant(self.rng.normal(0, 0.05, (CLASSES, channels)))
        scores = self.node("Gemm", x, weight, self.constant(np.zeros(CLASSES)), transB=1)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, size, size])
        made = helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["n", CLASSES])
        graph = helper.make_graph(self.nodes, self.name, [image], [made], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def quantized(options, model: Model, folder: Path) -> tuple[Path, list[str]]:
    """The file that the tool writes, and what is wrong with its scores."""
    preprocess = folder / "preprocess.toml"
    preprocess.write_text(model.preprocess)
    path = folder / f"{model.name}.int8.onnx"
    subprocess.run([options.lowbit, "quantize", model.path, "--data", model.data, "--preprocess", preprocess, "--calib-images",
                    str(CALIBRATION), "--eval-images", "1", "-o", path, "--quiet"], check=True)
    work = folder / model.name
    work.mkdir()
    done = subprocess.run([options.dump, "quantize", model.path, work, model.data, preprocess, str(CALIBRATION),
                           str(EVALUATION)], capture_output=True, text=True)
    if done.returncode:
        return path, [done.stderr.strip()]
    own, inputs = np.load(work / "integer.npy"), np.load(work / "inputs.npy")
    theirs = outputs(session(work / "quantized.onnx"), inputs)
    wrong = int((own != theirs).any(1).sum())
    return path, [f"onnxruntime gives other scores for {wrong} of {len(own)} images"] if wrong else []


def shares(layers: list[dict]) -> list[list[str]]:
    """Time of each kind of step, and the speed of its multiplications."""
    kinds = collections.defaultdict(lambda: [0.0, 0, 0])
    for layer in layers:
        kernel = (layer["kernel"] or "").split()
        kind = " ".join([kernel[0], layer["kind"]]) if kernel and kernel[0] in ("binary", "ternary") else layer["kind"]
        found = kinds[kind]
        found[0], found[1], found[2] = found[0] + layer["microseconds"], found[1] + layer["macs"], found[2] + 1
    total = sum(time for time, _, _ in kinds.values())
    rows = sorted(kinds.items(), key=lambda row: -row[1][0])
    return [[kind, str(count), f"{time:.0f}", f"{100 * time / total:.1f} %", f"{macs / time / 1e3:.0f}" if macs else "-"]
            for kind, (time, macs, count) in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowbit", required=True)
    parser.add_argument("--dump", type=Path)
    parser.add_argument("--only", default=",".join(NETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--keep", type=Path, help="a folder for the files that are made")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.dump = options.dump or build_dump()
    failures, found, rows, tables = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = options.keep or Path(folder)
        folder.mkdir(exist_ok=True)
        for name in options.only.split(","):
            path, shape = folder / f"{name}.onnx", (3, options.size, options.size)
            onnx.save(Net(name).build(options.size), path)
            preprocess = SQUARE.replace("224", str(options.size)) + IMAGENET
            model = Model(name, path, PHOTOGRAPHS, preprocess, CALIBRATION, True, shape)
            integer, wrong = quantized(options, model, folder)
            failures += [f"{name}: {sentence}" for sentence in wrong]
            images = np.random.default_rng(7).normal(0, 1, (1, *shape)).astype(np.float32)
            engines = [Lowbit(options.lowbit, model, integer, 1, options.threads),
                       OnnxRuntime("float", path, images, options.threads),
                       OnnxRuntime("int8", integer, images, options.threads)]
            blocks = {engine.name: [] for engine in engines}
            for _ in range(options.rounds):
                for engine in engines:
                    blocks[engine.name].append(engine.block(options.seconds))
            medians = [statistics.median(times) for times in blocks.values()]
            rows.append([name, *(f"{median:.2f}" for median in medians), *(f"{m / medians[0]:.2f}" for m in medians[1:])])
            measured = engines[0].measured
            tables.append((f"{name}: where the time goes", shares(measured["layers"])))
            found.append({"net": name, "milliseconds": blocks, "cpu": measured["cpu"], "isa": measured["isa"],
                          "layers": measured["layers"]})
    print(f"{found[0]['cpu']}, lowbit on {found[0]['isa']}, {options.threads} threads, batch 1\n")
    print_table("Milliseconds a run", ["net", *blocks, "times float", "times int8"], rows)
    for title, table in tables:
        print_table(title, ["step", "count", "µs", "share", "GMAC/s"], table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    for sentence in failures:
        print(sentence, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
