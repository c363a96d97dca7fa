"""What the checks that quantize with the command-line tool share: their flags, one run, its row."""

import argparse
import json
import subprocess
from pathlib import Path

from models import REPO, Model


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser of the flags that all have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--lowbit", type=Path, default=REPO / "target/release/lowbit")
    made.add_argument("--only", default="")
    made.add_argument("--check", action="store_true")
    return made


def picked(name: str, choice: str) -> bool:
    """Whether a list with commas holds the name; an empty one holds all."""
    return not choice or name in choice.split(",")


def quantize(lowbit: Path, model: Model, folder: Path, flags: list) -> dict:
    """Runs `lowbit quantize` on the model and its data and returns results.json. A later `--data` takes the place of the model's."""
    preprocess = folder / f"{model.name}.toml"
    preprocess.write_text(model.preprocess)
    data = [] if "--data" in flags else ["--data", model.data]
    command = [lowbit, "quantize", model.path, *data, "--preprocess", preprocess, "-o", folder / "out", "--json", "-", *flags]
    return json.loads(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout)


def cost(found: dict) -> str:
    """The cells float, quantized and drop of a row."""
    points, (low, high) = found["drop"]["top1"], found["drop"]["ci95"]
    return f"{found['float']['top1']:.2f} | {found['quantized']['top1']:.2f} | {points:+.2f} ({low:+.2f} to {high:+.2f})"


def smaller(found: dict) -> float:
    """Size of the float file by that of the quantized one."""
    return found["size_bytes"]["float"] / found["size_bytes"]["quantized"]
