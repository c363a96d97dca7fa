"""Quantizes every model with the command-line tool and prints what it cost, as Markdown.

    python checks/accuracy.py [--lowbit PATH] [--only MODEL,...] [--observer RULE] [--check]

CIFAR-10: 512 training images calibrate, all 10,000 test images evaluate. Photographs: the first 200 of the 1,000 calibrate, the other
800 evaluate. With `--check` the exit code is 1 when a model misses its target.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from models import MODELS, REPO, Model

# Model: largest drop in points (None: no labels that fit), least agreement in percent.
TARGETS = {
    "resnet8": (0.20, 98.2), "resnet20": (0.15, 99.2), "resnet20-raw": (0.15, 99.2), "mobilenetv1": (1.0, 92.0),
    "efficientnet-lite0": (0.8, 98.2), "orientation": (None, 98.0), "ppocr-cls": (None, 98.0), "open-nsfw": (None, 98.0),
}


def quantize(lowbit: Path, model: Model, folder: Path, more: list[str]) -> dict:
    preprocess = folder / f"{model.name}.toml"
    preprocess.write_text(model.preprocess)
    calibration = "512" if model.small else "200"
    data = model.data
    if TARGETS.get(model.name, (0, 0))[0] is None:
        data = folder / "unlabelled.csv"
        rows = model.data.read_text().splitlines()[1:]
        data.write_text("file\n" + "".join(f"{model.data.parent / row.split(',')[0]}\n" for row in rows))
    command = [lowbit, "quantize", model.path, "--data", data, "--preprocess", preprocess, "--calib-images", calibration,
               "-o", folder / f"{model.name}.onnx", "--json", "-", *more]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def row(model: Model, found: dict) -> tuple[str, bool]:
    drop, least = TARGETS.get(model.name, (None, 0.0))
    accuracy, good = "| - | - | - ", True
    if found["float"]:
        points = found["drop"]["top1"]
        low, high = found["drop"]["ci95"]
        accuracy = (f"| {found['float']['top1']:.2f} | {found['quantized']['top1']:.2f} "
                    f"| {points:+.2f} ({low:+.2f} to {high:+.2f}) ")
        good = drop is None or points <= drop
    good = good and found["agreement"] >= least
    ratio = found["size_bytes"]["float"] / found["size_bytes"]["quantized"]
    return f"| {model.name} | {found['images']:,} {accuracy}| {found['agreement']:.2f} | {ratio:.2f}x |", good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowbit", type=Path, default=REPO / "target/release/lowbit")
    parser.add_argument("--only", default="")
    parser.add_argument("--observer", default="")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    more = ["--observer", args.observer] if args.observer else []
    print("| model | images | float | int8 | drop, points (95 %) | agreement % | smaller |\n|---|---|---|---|---|---|---|")
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            if args.only and model.name not in args.only.split(","):
                continue
            text, good = row(model, quantize(args.lowbit, model, Path(folder), more))
            print(text, flush=True)
            if not good:
                missed.append(model.name)
    if missed:
        print("missed: " + ", ".join(missed), file=sys.stderr)
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
