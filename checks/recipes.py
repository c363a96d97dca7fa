"""Quantizes models with named recipes below 8 bits and data-free, and prints what it cost, as Markdown.

    python checks/recipes.py [--lowbit PATH] [--only RECIPE,...] [--model MODEL,...] [--check]
    python checks/recipes.py --recipe NAME_OR_FILE --model MODEL,...

ResNet-20: 1,024 training images of CIFAR-10 without labels to learn on, all 10,000 test images to evaluate. ImageNet nets: the first 200
of the 1,000 photographs, the other 800 evaluate. With `--check` the exit code is 1 when a row misses its target.
"""

import sys
import tempfile
from pathlib import Path

from models import MODELS, Model
from quantizing import cost, parser, picked, quantize, smaller

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


def flags(model: Model, recipe: str, more: list[str]) -> list[str]:
    if "--data-free" not in more:
        return ["--recipe", recipe, *more, "--calib-images", "1024" if model.small else "200"]
    return ["--recipe", recipe, *more, *([] if model.small else ["--eval-images", "800"])]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="")
    arguments.add_argument("--recipe", default="", help="measures this one instead")
    args = arguments.parse_args()
    if args.recipe and (args.only or not args.model):
        arguments.error("--recipe needs --model and takes the place of --only")
    rows = [(name, args.recipe, [], None, 0) for name in args.model.split(",")] if args.recipe else ROWS
    models = {model.name: model for model in MODELS}
    print("| model | recipe | float | quantized | drop, points (95 %) | agreement % | file | quantizing |")
    print("|---|---|---|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for name, recipe, more, most, least in rows:
            if not picked(recipe, args.only) or not picked(name, args.model):
                continue
            found = quantize(args.lowbit, models[name], Path(folder), flags(models[name], recipe, more))
            missed = (most is not None and found["drop"]["top1"] > most + 1e-9) or smaller(found) < least
            good = good and not missed
            print(f"| {name} | {Path(recipe).stem} | {cost(found)} | {found['agreement']:.2f} | {smaller(found):.2f}x smaller "
                  f"| {found['seconds']['calibrate'] + found['seconds']['quantize']:.0f} s |{' missed' if missed else ''}", flush=True)
    return 1 if args.check and not good else 0


if __name__ == "__main__":
    sys.exit(main())
