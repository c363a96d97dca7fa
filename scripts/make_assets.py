"""Makes the embedded default in assets/: a small model and a labelled sample of Fashion-MNIST.

usage: make_assets.py FASHION_MNIST_DIR MODEL.onnx
  FASHION_MNIST_DIR  the four IDX files, as `lowbit data fetch fashion-mnist` brings them
  MODEL.onnx         the ResNet-8 trained on its 60,000 training images

Keeps training images floor(i * 60000 / 512) for i in 0..512, for calibration, and test images 0..2000, for evaluation.
The output is the same bytes at every run: gzip headers carry no time and no name."""
import gzip
import pathlib
import shutil
import struct
import sys

source, model = map(pathlib.Path, sys.argv[1:3])
assets = pathlib.Path(__file__).parent.parent / "assets"
CALIBRATION, EVALUATION = 512, 2000


def write(name, data):
    path = assets / "fashion-mnist" / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(data)


def sample(split, choose):
    images = (source / f"{split}-images-idx3-ubyte").read_bytes()
    labels = (source / f"{split}-labels-idx1-ubyte").read_bytes()
    magic, count, height, width = struct.unpack(">IIII", images[:16])
    assert magic == 0x803 and struct.unpack(">II", labels[:8]) == (0x801, count)
    area = height * width
    indices = choose(count)
    records = [images[16 + i * area : 16 + (i + 1) * area] for i in indices]
    write(f"{split}-images-idx3-ubyte", struct.pack(">IIII", magic, len(indices), height, width) + b"".join(records))
    write(f"{split}-labels-idx1-ubyte", struct.pack(">II", 0x801, len(indices)) + bytes(labels[8 + i] for i in indices))


sample("train", lambda count: [i * count // CALIBRATION for i in range(CALIBRATION)])
sample("t10k", lambda count: range(EVALUATION))
shutil.copyfile(model, assets / "fashion_resnet8.onnx")
