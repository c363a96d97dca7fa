"""Quantizes every model with the command-line tool and prints what it cost, as Markdown.

    python checks/accuracy.py [--lowbit PATH] [--only MODEL,...] [--observer RULE] [--recipe NAME_OR_FILE] [--check]

CIFAR-10: 512 training images calibrate, all 10,000 test images evaluate. Photographs: the first 200 of the 1,000 calibrate, the other
800 evaluate. With `--check` the exit code is 1 when a model misses its target.
"""

import sys
import tempfile
from pathlib import Path

from models import MODELS, Model
from quantizing import cost, parser, picked, quantize, smaller

# Model: largest drop in points (None: no labels that fit), least agreement in percent.
TARGETS = {
    "resnet8": (0.20, 98.2), "resnet20": (0.15, 99.2), "resnet20-raw": (0.15, 99.2), "mobilenetv1": (1.0, 92.0),
    "efficientnet-lite0": (0.8, 98.2), "orientation": (None, 98.0), "ppocr-cls": (None, 98.0), "open-nsfw": (None, 98.0),
}


def flags(model: Model, folder: Path) -> list:
    calibration = ["--calib-images", "512" if model.small else "200"]
    if TARGETS.get(model.name, (0, 0))[0] is not None:
        return calibration
    data = folder / "unlabelled.csv"
    rows = model.data.read_text().splitlines()[1:]
    data.write_text("file\n" + "".join(f"{model.data.parent / row.split(',')[0]}\n" for row in rows))
    return [*calibration, "--data", data]


def row(model: Model, found: dict) -> tuple[str, bool]:
    drop, least = TARGETS.get(model.name, (None, 0.0))
    accuracy, good = "| - | - | - ", True
    if found["float"]:
        accuracy = f"| {cost(found)} "
        good = drop is None or found["drop"]["top1"] <= drop
    good = good and found["agreement"] >= least
    return f"| {model.name} | {found['images']:,} {accuracy}| {found['agreement']:.2f} | {smaller(found):.2f}x |", good


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--observer", default="")
    arguments.add_argument("--recipe", default="")
    args = arguments.parse_args()
    more = [part for name in ("observer", "recipe") if getattr(args, name) for part in (f"--{name}", getattr(args, name))]
    print("| model | images | float | int8 | drop, points (95 %) | agreement % | smaller |\n|---|---|---|---|---|---|---|")
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            if not picked(model.name, args.only):
                continue
            found = quantize(args.lowbit, model, Path(folder), [*flags(model, Path(folder)), *more])
            text, good = row(model, found)
            print(text, flush=True)
            if not good:
                missed.append(model.name)
    if missed:
        print("missed: " + ", ".join(missed), file=sys.stderr)
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
