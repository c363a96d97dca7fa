"""Quantizes models with named recipes below 8 bits and data-free, and prints what it cost, as Markdown.

    python checks/recipes.py [--lowbit PATH] [--only RECIPE,...] [--model MODEL,...] [--check]

ResNet-20: 1,024 training images of CIFAR-10 without labels to learn on, all 10,000 test images to evaluate. ImageNet nets: the first 200
of the 1,000 photographs, the other 800 evaluate. With `--check` the exit code is 1 when a row misses its target.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from models import MODELS, REPO, Model

# Model, recipe, more flags, largest drop in points (None: no target), least ratio of file sizes (0: no target).
ROWS = [
    ("resnet20", "w4a8-nearest", [], None, 0), ("resnet20", "w4a8", [], 0.08, 0), ("resnet20", "w4a4", [], 0.83, 0),
    ("resnet20", "w3a8", [], 0.33, 0), ("resnet20", "w2a8", [], 1.73, 0), ("resnet20", "kmeans4", [], 0.3, 0),
    ("resnet20", "deep-compression", ["--format", "compressed"], 0.5, 8), ("resnet20", "pot4", [], None, 0),
    ("resnet20", "apot4", [], None, 0), ("resnet20", "ternary", [], None, 0), ("resnet20", "binary-weights", [], None, 0),
    ("resnet20", "data-free-int8", ["--data-free"], 0.3, 0), ("resnet20", "data-free-w4a8", ["--data-free"], None, 0),
    ("mobilenetv1", "int8-per-tensor", [], None, 0), ("mobilenetv1", "int8-per-tensor-dfq", [], None, 0),
    ("efficientnet-lite0", "int8-per-tensor", [], None, 0), ("efficientnet-lite0", "int8-per-tensor-dfq", [], None, 0),
    ("efficientnet-lite0", "data-free-int8", ["--data-free"], 1.0, 0),
    ("efficientnet-lite0", "w4a8-nearest", [], None, 0), ("efficientnet-lite0", "w4a8", [], 2.5, 0),
]


def quantize(lowbit: Path, model: Model, folder: Path, recipe: str, more: list[str]) -> dict:
    preprocess = folder / f"{model.name}.toml"
    preprocess.write_text(model.preprocess)
    images = "1024" if model.small else "200"
    if "--data-free" in more:
        more = [*more, *([] if model.small else ["--eval-images", "800"])]
    else:
        more = [*more, "--calib-images", images]
    command = [lowbit, "quantize", model.path, "--data", model.data, "--preprocess", preprocess, "--recipe", recipe,
               "-o", folder / "out", "--json", "-", *more]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lowbit", type=Path, default=REPO / "target/release/lowbit")
    parser.add_argument("--only", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    picked = lambda name, choice: not choice or name in choice.split(",")
    models = {model.name: model for model in MODELS}
    print("| model | recipe | float | quantized | drop, points (95 %) | agreement % | file | quantizing |")
    print("|---|---|---|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe, more, most, least in ROWS:
            if not picked(recipe, args.only) or not picked(name, args.model):
                continue
            found = quantize(args.lowbit, models[name], Path(folder), recipe, more)
            points, (low, high) = found["drop"]["top1"], found["drop"]["ci95"]
            ratio = found["size_bytes"]["float"] / found["size_bytes"]["quantized"]
            missed = (most is not None and points > most + 1e-9) or ratio < least
            good = good and not missed
            print(f"| {name} | {recipe} | {found['float']['top1']:.2f} | {found['quantized']['top1']:.2f} "
                  f"| {points:+.2f} ({low:+.2f} to {high:+.2f}) | {found['agreement']:.2f} | {ratio:.2f}x smaller "
                  f"| {found['seconds']['calibrate'] + found['seconds']['quantize']:.0f} s |{' missed' if missed else ''}", flush=True)
    return 1 if args.check and not good else 0


if __name__ == "__main__":
    sys.exit(main())
