"""Compares onnxruntime's results for each model with those for lowbit's rewriting of it, and with lowbit's own results.

    cargo build --examples -p lowbit-onnx
    python ort_check.py TARGET/debug/examples MODEL...

Needs the packages numpy, onnx and onnxruntime.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import numpy_helper

BATCH = 2
OTHER_EXTENT = 192  # of axes other than the batch that a model leaves open


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(model, random):
    made = {}
    for value in model.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else OTHER_EXTENT for d in value.shape]
        if not isinstance(value.shape[0], int) or value.shape[0] < 1:
            shape[0] = BATCH
        if value.type == "tensor(float)":
            made[value.name] = random.normal(size=shape).astype(numpy.float32)
        else:
            made[value.name] = random.integers(0, 100, shape).astype(value.type[7:-1])
    return made


def native(examples, model, given, folder):
    paths = []
    for i, array in enumerate(given.values()):
        path = folder / f"input_{i}.pb"
        path.write_bytes(numpy_helper.from_array(array).SerializeToString())
        paths.append(path)
    subprocess.run([examples / "run", model, folder, *paths], check=True)
    return [numpy_helper.to_array(onnx.load_tensor(str(p))) for p in sorted(folder.glob("output_*.pb"))]


def worst(found, expected, what):
    difference = 0.0
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise SystemExit(f"{what}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}")
        numpy.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=what)
        difference = max(difference, float(numpy.abs(a.astype(float) - b.astype(float)).max(initial=0.0)))
    return difference


def check(examples, model, folder):
    subprocess.run([examples / "roundtrip", folder, model], check=True)
    written = folder / model.name
    onnx.checker.check_model(str(written), full_check=True)
    before = session(model)
    given = feeds(before, numpy.random.default_rng(0))
    expected = before.run(None, given)
    rewritten = worst(session(written).run(None, given), expected, f"{model.name} rewritten")
    own = worst(native(examples, model, given, folder), expected, f"{model.name} run by lowbit")
    opset = onnx.load(written).opset_import[0].version
    print(f"{model.name}: opset {opset}, largest difference rewritten {rewritten:.2g}, run by lowbit {own:.2g}")


if __name__ == "__main__":
    for name in map(pathlib.Path, sys.argv[2:]):
        with tempfile.TemporaryDirectory() as temporary:
            check(pathlib.Path(sys.argv[1]), name, pathlib.Path(temporary))
