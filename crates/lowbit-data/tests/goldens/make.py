"""Makes the goldens beside this file with Pillow (made with 13.0.0, libjpeg-turbo 3.2.0). usage: make.py

cases.csv lists the resizes: source image, filter, width, height, offset and length in resized.bin.
decode.csv lists the decodings: file, mode, width, height, offset and length in decoded.bin."""
import csv
import pathlib

import numpy as np
from PIL import Image

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)


def picture(width, height):
    """Smooth waves, an edge and noise: ringing, clipping and rounding all show."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / a + y / b) for a, b in ((5, 9), (3, 7), (11, 4))]
    image = np.stack(waves, axis=-1) + rng.normal(0, 20, (height, width, 3))
    image[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 255)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


class Writer:
    """Rows of a table whose last fields say where the bytes lie in a binary file."""

    def __init__(self, table, binary, header):
        self.rows, self.blob, self.table, self.binary = [header], b"", table, binary

    def add(self, *fields, pixels):
        data = pixels.tobytes()
        self.rows.append([*fields, len(self.blob), len(data)])
        self.blob += data

    def close(self):
        with open(here / self.table, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(self.rows)
        (here / self.binary).write_bytes(self.blob)


rgb = picture(37, 29)
gray = rgb.convert("L")
rgb.save(here / "rgb.png")
gray.save(here / "gray.png")
resized = Writer("cases.csv", "resized.bin", ["source", "filter", "width", "height", "offset", "length"])
for source, image in (("rgb.png", rgb), ("gray.png", gray)):
    for name, code in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        for size in ((13, 11), (53, 41), (37, 17), (20, 29), (61, 9), (5, 50), (1, 1)):
            resized.add(source, name, *size, pixels=image.resize(size, code))
resized.close()

alpha = Image.fromarray(rng.integers(0, 256, (29, 37), np.uint8))
saved = {
    "rgba.png": lambda f: Image.merge("RGBA", (*rgb.split(), alpha)).save(f),
    "gray_alpha.png": lambda f: Image.merge("LA", (gray, alpha)).save(f),
    "palette.png": lambda f: rgb.quantize(16).save(f),
    "palette_transparent.png": lambda f: rgb.quantize(16).save(f, transparency=3),
    "one_bit.png": lambda f: gray.convert("1").save(f),
    "gray.jpg": lambda f: gray.save(f, quality=90),
    "rgb_444.jpg": lambda f: rgb.save(f, quality=90, subsampling=0),
    "rgb_420.jpg": lambda f: rgb.save(f, quality=90, subsampling=2),
    "rgb_422_progressive.jpg": lambda f: rgb.save(f, quality=90, subsampling=1, progressive=True),
    "cmyk.jpg": lambda f: rgb.convert("CMYK").save(f, quality=90),
}
decoded = Writer("decode.csv", "decoded.bin", ["file", "channels", "width", "height", "offset", "length"])
for name, save in saved.items():
    save(here / name)
    image = Image.open(here / name)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    image = image.convert(mode)
    decoded.add(name, 1 if mode == "L" else 3, *image.size, pixels=image)
decoded.close()
Image.fromarray(np.arange(0, 60000, 1000, np.uint16).reshape(6, 10)).save(here / "gray_16_bits.png")
