"""Compares what onnxruntime computes for each model and for lowbit's rewriting of it.

    cargo run --example roundtrip -- OUT MODEL...
    python ort_check.py OUT MODEL...

Needs the packages onnx and onnxruntime.
"""

import pathlib
import sys

import numpy
import onnx
import onnxruntime

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


def compare(original, written):
    onnx.checker.check_model(str(written), full_check=True)
    before, after = session(original), session(written)
    given = feeds(before, numpy.random.default_rng(0))
    worst = 0.0
    for a, b in zip(before.run(None, given), after.run(None, given), strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise SystemExit(f"{written}: {b.dtype}{b.shape}, expected {a.dtype}{a.shape}")
        numpy.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=str(written))
        worst = max(worst, float(numpy.abs(a.astype(float) - b.astype(float)).max(initial=0.0)))
    opset = onnx.load(written, load_external_data=False).opset_import[0].version
    print(f"{original.name}: opset {opset}, largest difference {worst:.2g}")


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    for name in map(pathlib.Path, sys.argv[2:]):
        compare(name, folder / name.name)
