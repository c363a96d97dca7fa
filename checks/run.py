"""Compares lowbit with onnxruntime: the float engine, the exported integer models, and what of them runs as integers.

    python checks/run.py [--images N] [--large N] [--ranges RULE] [--weights RULE] [--recipe NAME|FILE [--format FORMAT]]
                         [--only MODEL,...] [--keep DIR] [--dump PATH] [--lowbit PATH] [CHECK ...]

CHECK is any of `float`, `integer`, `optimized`, `prediction`; all of them by default. `--dump` is the example binary
`ort_dump` (built by cargo when not given). `--recipe` quantizes by a recipe, such as those of checks/recipes, and writes
`--format` qdq or qdq-packed. Reading the written file back must give the same bits, whatever is checked. The exit code is 1 when a check fails.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from models import MODELS, REPO, Model

# Largest difference of float engines, over the largest output: sums in different orders.
FLOAT_TOLERANCE = 1e-4
# For the models with operators that stay float in onnxruntime: agreement and difference in top-1, percent.
AGREEMENT_MIN, DROP_MAX = 99.9, 0.05
# Nothing of these may be left in float by onnxruntime. HardSigmoid, Div and the like have no integer form there.
INTEGER_OPS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Add", "MaxPool", "AveragePool",
               "GlobalAveragePool", "NhwcMaxPool"}
# Operators that move codes, between equal parameters; Pad would, but onnxruntime does not fuse it.
MOVES = {"MaxPool", "NhwcMaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Expand",
         "Identity"}
FLOAT_MOVES = {"Pad"}
# What onnxruntime calls or makes of an operator.
RENAMED = {"FusedConv": "Conv", "FusedGemm": "Gemm", "NhwcMaxPool": "MaxPool"}
DECOMPOSED = {"HardSwish": ["HardSigmoid", "Mul"]}
CHECKS = ["float", "integer", "optimized", "prediction"]


@dataclass(frozen=True)
class Tools:
    """The Rust side."""

    dump: Path  # the example binary ort_dump
    lowbit: Path | None  # the command-line tool
    rules: tuple[str, ...]  # ranges of activations and scales of weights, or "recipe", its name, the file's format


class Failures(list):
    """What went wrong, as sentences."""

    def expect(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.append(sentence)


def session(model, optimized: Path | None = None, level=None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    if level is not None:
        options.graph_optimization_level = level
    model = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def outputs(runner: ort.InferenceSession, inputs: np.ndarray, batch: int = 1) -> np.ndarray:
    """The first output on all inputs, `batch` images at a time."""
    name = runner.get_inputs()[0].name
    parts = [runner.run(None, {name: inputs[i:i + batch]})[0] for i in range(0, len(inputs), batch)]
    return np.concatenate(parts).reshape(len(inputs), -1)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def percent(holds: np.ndarray) -> float:
    return 100 * float(np.mean(holds))


def run(dump: Path, *args) -> None:
    done = subprocess.run([dump, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ort_dump {args[0]}: {done.stderr.strip()}")


def prepare(model: Model, tools: Tools, work: Path, images: int) -> None:
    """Has lowbit quantize the model and run both forms of it on real images."""
    (work / "preprocess.toml").write_text(model.preprocess)
    run(tools.dump, "quantize", model.path, work, model.data, work / "preprocess.toml", model.calibration, images,
        *tools.rules)


def check_float(model: Model, tools: Tools, work: Path, failures: Failures) -> list[str]:
    runner, cells = session(model.path), []
    random = np.random.default_rng(7)
    for batch in (1, 3):
        folder = work / f"random{batch}"
        folder.mkdir(exist_ok=True)
        inputs = random.normal(size=(batch, *model.shape)).astype(np.float32)
        np.save(folder / "in_random.npy", inputs)
        run(tools.dump, "float", model.path, folder)
        ours = np.load(folder / "out_random.npy").reshape(batch, -1)
        cells.append(relative(ours, outputs(runner, inputs, batch)))
    inputs = np.load(work / "inputs.npy")
    cells.append(relative(np.load(work / "float.npy"), outputs(runner, inputs)))
    failures.expect(max(cells) <= FLOAT_TOLERANCE, f"{model.name}: float outputs differ by {max(cells):.1e}")
    return [f"{cell:.1e}" for cell in cells] + [str(len(inputs))]


def check_integer(model: Model, _tools: Tools, work: Path, failures: Failures) -> list[str]:
    path = work / "quantized.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    theirs, ours = outputs(session(path), np.load(work / "inputs.npy")), np.load(work / "integer.npy")
    equal = percent(theirs.view(np.int32) == ours.view(np.int32))
    agreement = percent(theirs.argmax(1) == ours.argmax(1))
    step = float(np.abs(theirs - ours).max())
    labels = np.load(work / "labels.npy")
    top1 = [percent(scores.argmax(1) == labels) for scores in (np.load(work / "float.npy"), ours, theirs)]
    if model.exact:
        failures.expect(equal == 100, f"{model.name}: {equal:.4f} % of the logits' bits are equal, expected all")
    else:
        failures.expect(agreement >= AGREEMENT_MIN, f"{model.name}: agrees with onnxruntime on {agreement:.2f} %")
        failures.expect(abs(top1[1] - top1[2]) <= DROP_MAX, f"{model.name}: top-1 {top1[1]:.2f} and {top1[2]:.2f}")
    same = percent(np.load(work / "float.npy").argmax(1) == ours.argmax(1))
    return [str(len(ours)), f"{equal:.4f}", f"{step:.2e}", f"{agreement:.2f}", f"{same:.2f}"]


def optimized_graph(work: Path) -> onnx.GraphProto:
    path = work / "optimized.onnx"
    session(work / "quantized.onnx", optimized=path)
    return onnx.load(path).graph


def coded_values(graph: onnx.GraphProto) -> set[str]:
    """Names of the values that are 8-bit codes."""
    integer = {onnx.TensorProto.UINT8, onnx.TensorProto.INT8}
    codes = {v.name for v in [*graph.value_info, *graph.input] if v.type.tensor_type.elem_type in integer}
    for node in graph.node:
        moved = node.op_type in MOVES | FLOAT_MOVES and node.input[0] in codes
        if moved or node.op_type == "QuantizeLinear" or node.op_type.startswith("QLinear"):
            codes |= set(node.output)
    return codes


def left_in_float(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that work on floats although an integer form exists."""
    codes = coded_values(graph)
    return [node for node in graph.node if node.op_type in INTEGER_OPS and node.input[0] not in codes]


def check_optimized(model: Model, _tools: Tools, work: Path, failures: Failures) -> list[str]:
    graph = optimized_graph(work)
    left = left_in_float(graph)
    named = ", ".join(f"{node.op_type} {node.name}" for node in left)
    failures.expect(not left, f"{model.name}: left in float: {named}")
    counts = collections.Counter(node.op_type for node in graph.node)
    return [str(len(left)), ", ".join(f"{n} {op}" for op, n in counts.most_common())]


def predicted(work: Path) -> collections.Counter:
    """(operator, "codes" or "float") of every node, as lowbit places it and onnxruntime writes it."""
    counts = collections.Counter()
    for line in (work / "placements.tsv").read_text().splitlines():
        op, _node, runs = line.split("\t")
        if runs.startswith('Integer("Q'):
            counts[runs.split('"')[1], "codes"] += 1
        elif runs == "Codes":
            counts[op, "float" if op in FLOAT_MOVES else "codes"] += 1
        elif runs.startswith("Float"):
            for part in DECOMPOSED.get(op, [op]):
                counts[part, "float"] += 1
    return counts


def inspected(model: Model, lowbit: Path, work: Path) -> collections.Counter:
    """As `predicted`, from what `lowbit inspect --target ort` tells its user."""
    command = [lowbit, "inspect", work / "quantized.onnx", "--target", "ort", "--input", "x".join(map(str, model.shape)),
               "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"lowbit inspect: {done.stderr.strip()}")
    counts = collections.Counter()
    for node in json.loads(done.stdout)["nodes"]:
        if node["op"] in ("QuantizeLinear", "DequantizeLinear"):
            continue
        if not node["integer"]:
            for part in DECOMPOSED.get(node["op"], [node["op"]]):
                counts[part, "float"] += 1
        elif node["runs_as"].startswith("Q") or node["op"] in MOVES or node["runs_as"] == "Clip":
            counts[node["runs_as"] if node["runs_as"].startswith("Q") else node["op"], "codes"] += 1
    return counts


def found(graph: onnx.GraphProto) -> collections.Counter:
    counts = collections.Counter()
    codes = coded_values(graph)
    for node in graph.node:
        op = RENAMED.get(node.op_type, node.op_type)
        on_codes = op.startswith("Q") or node.input[0] in codes
        if op not in ("QuantizeLinear", "DequantizeLinear"):
            counts[op, "codes" if on_codes else "float"] += 1
    return counts


def check_prediction(model: Model, tools: Tools, work: Path, failures: Failures) -> list[str]:
    """Whether as many nodes of each operator run on codes, and in float, as lowbit says. Movements that onnxruntime adds
    or removes around its own layouts do not count: only those that stay in float do."""
    ours = inspected(model, tools.lowbit, work) if tools.lowbit else predicted(work)
    theirs = found(optimized_graph(work))
    ignored = [key for key in ours | theirs if key[0] in MOVES and key[1] == "codes"]
    keys = sorted(set(ours | theirs) - set(ignored) - {("Transpose", "float")})
    differ = [f"{op} on {kind}: predicted {ours[op, kind]}, found {theirs[op, kind]}"
              for op, kind in keys if ours[op, kind] != theirs[op, kind]]
    text = "; ".join(differ)
    failures.expect(not differ, f"{model.name}: {text}")
    return [str(sum(ours.values())), text or "none"]


TABLES = {
    "float": (check_float, "float outputs, largest relative difference",
              ["model", "random, 1", "random, 3", "real images", "images"]),
    "integer": (check_integer, "integer outputs against onnxruntime's",
                ["model", "images", "equal bits %", "largest difference", "agreement %", "agreement with float %"]),
    "optimized": (check_optimized, "onnxruntime's optimized graphs", ["model", "left in float", "operators"]),
    "prediction": (check_prediction, "predicted operators against onnxruntime's", ["model", "nodes", "differences"]),
}


def build_dump() -> Path:
    command = ["cargo", "build", "--release", "-q", "-p", "lowbit", "--example", "ort_dump", "--message-format=json"]
    built = subprocess.run(command, cwd=REPO, check=True, capture_output=True, text=True).stdout
    made = (json.loads(line).get("executable") for line in built.splitlines())
    return Path([path for path in made if path][-1])


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", metavar="CHECK")
    parser.add_argument("--images", type=int, default=1000, help="real images for nets of 32x32")
    parser.add_argument("--large", type=int, default=100, help="real images for the larger nets")
    parser.add_argument("--only", type=lambda text: text.split(","), help="models, by name")
    parser.add_argument("--dump", type=Path, help="the example binary ort_dump")
    parser.add_argument("--lowbit", type=Path, help="the binary lowbit: `prediction` asks its inspect")
    parser.add_argument("--ranges", default="mse", help="how activation ranges are chosen")
    parser.add_argument("--weights", default="int8", help="how weights are quantized: a named quantizer")
    parser.add_argument("--recipe", help="what is done instead: a named recipe, or a file")
    parser.add_argument("--format", default="qdq-packed", choices=["qdq", "qdq-packed"], help="of --recipe's file")
    parser.add_argument("--keep", type=Path, help="folder for the arrays and models, kept")
    args = parser.parse_args()
    if unknown := set(args.checks) - set(CHECKS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; expected any of {', '.join(CHECKS)}")
    args.checks = args.checks or CHECKS
    return args


def main() -> int:
    args = arguments()
    rules = ("recipe", args.recipe, args.format) if args.recipe else (args.ranges, args.weights)
    tools = Tools(args.dump or build_dump(), args.lowbit, rules)
    failures, rows = Failures(), {check: [] for check in args.checks}
    with tempfile.TemporaryDirectory() as temporary:
        for model in MODELS:
            if args.only and model.name not in args.only:
                continue
            if not model.path.exists() or not model.data.exists():
                print(f"SKIPPED {model.name}: {model.path if not model.path.exists() else model.data} is absent")
                continue
            work = (args.keep or Path(temporary)) / model.name
            work.mkdir(parents=True, exist_ok=True)
            try:
                prepare(model, tools, work, args.images if model.small else args.large)
                for check in args.checks:
                    rows[check].append([model.name, *TABLES[check][0](model, tools, work, failures)])
            except (RuntimeError, OSError, onnx.checker.ValidationError) as error:
                failures.append(f"{model.name}: {error}")
            print(f"{model.name}: done", file=sys.stderr)
    for check in args.checks:
        print_table(*TABLES[check][1:], rows[check])
    print()
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"onnxruntime {ort.__version__}: {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
