//! From an image's bytes to the floats that a network reads: resize, crop, channels, scale, mean, standard deviation.
//!
//! The value of a pixel p is `(p / scale - mean) / std` per channel, in f32. The order is: gray or color, resize, crop,
//! value, channel order. Knows nothing of files of images or of networks.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::DataError;
use crate::image::{Image, PIXELS_MAX, SIDE_MAX};
use crate::resize;

const TOML_BYTES_MAX: u64 = 1 << 20;
const KEYS: &str = "resize, filter, crop, scale, mean, std, channels, layout";

/// What is done to every image before the network reads it. The default only divides by 255.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preprocess {
    /// The size to resize to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// How to interpolate.
    pub filter: Filter,
    /// The side of the square that is cut out of the center after resizing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<usize>,
    /// What pixels of 0 to 255 are divided by first.
    pub scale: f32,
    /// What is subtracted next: one for all channels, or one per channel in the order the network reads them.
    pub mean: Vec<f32>,
    /// What the difference is divided by: one for all channels, or one per channel in the order the network reads them.
    pub std: Vec<f32>,
    /// Which channels the network reads, in which order.
    pub channels: Channels,
    /// Whether channels come first or last.
    pub layout: Layout,
}

impl Default for Preprocess {
    fn default() -> Preprocess {
        Preprocess {
            resize: None,
            filter: Filter::Bicubic,
            crop: None,
            scale: 255.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels: Channels::Rgb,
            layout: Layout::Nchw,
        }
    }
}

/// A size to resize to, written `WxH` or `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Straight to this width and height.
    Exact {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The shorter side to this, the longer in proportion, rounded down: torchvision's `transforms.Resize(N)`
    /// (`_compute_resized_image_output_size`: `int(size * long / short)`).
    ShortSide(usize),
}

/// How resizing interpolates; both are antialiased, exactly as in Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// A triangle of 2 pixels.
    Bilinear,
    /// The cubic with a = -0.5 over 4 pixels.
    #[default]
    Bicubic,
}

/// Which channels the network reads, in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue; a gray image is repeated.
    #[default]
    Rgb,
    /// Blue, green, red; a gray image is repeated.
    Bgr,
    /// One: `0.299 r + 0.587 g + 0.114 b` (ITU-R 601-2) of a color image, as PIL's `convert("L")`.
    Gray,
}

/// The order of dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channels, rows, columns.
    #[default]
    Nchw,
    /// Rows, columns, channels.
    Nhwc,
}

/// The sizes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
}

/// Where the bytes of an image lie: the pixels themselves are borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Pixels<'a> {
    pub(crate) info: ImageInfo,
    pub(crate) bytes: &'a [u8],
    pub(crate) order: ByteOrder,
}

/// The order of an image's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    /// [height, width, channels], as decoders give them.
    Interleaved,
    /// [channels, height, width], as CIFAR stores them.
    Planar,
}

impl Preprocess {
    /// The smallest and largest value that each channel of the network's input can have; one pair for all where channels come last.
    #[must_use]
    pub fn value_limits(&self) -> Vec<(f32, f32)> {
        let channels = self.mean.len().max(self.std.len());
        let of = |all: &[f32], c: usize| all.get(c).or(all.first()).copied();
        let limits = |c: usize| {
            let (mean, std) = (of(&self.mean, c).unwrap_or(0.0), of(&self.std, c).unwrap_or(1.0));
            let value = |pixel: f32| (pixel / self.scale - mean) / std;
            (value(0.0).min(value(255.0)), value(0.0).max(value(255.0)))
        };
        let each: Vec<(f32, f32)> = (0..channels).map(limits).collect();
        match self.layout {
            Layout::Nchw => each,
            Layout::Nhwc => {
                let widest = |a: (f32, f32), b: (f32, f32)| (a.0.min(b.0), a.1.max(b.1));
                each.into_iter().reduce(widest).into_iter().collect()
            }
        }
    }

    /// Reads a TOML file with any of the keys of this struct; `resize` is `"WxH"`, `"N"` or N.
    /// # Errors
    /// `Io`; `PreprocessText` with the line and key for unknown keys and values of a wrong type; `Preprocess` for senseless values.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Preprocess, DataError> {
        let path = path.as_ref();
        let bytes = std::fs::metadata(path).map_err(DataError::io(path, "read"))?.len();
        if bytes > TOML_BYTES_MAX {
            let expected = format!("a TOML file of at most {TOML_BYTES_MAX} bytes");
            let place = path.display().to_string();
            return Err(DataError::format(place, format!("{bytes} bytes"), expected));
        }
        let text = std::fs::read_to_string(path).map_err(DataError::io(path, "read"))?;
        Preprocess::from_toml(&text, &path.display().to_string())
    }

    /// Reads the text of a TOML file; `file` names it in errors.
    /// # Errors
    /// `PreprocessText` with the line and key for unknown keys and values of a wrong type; `Preprocess` for senseless values.
    pub fn from_toml(text: &str, file: &str) -> Result<Preprocess, DataError> {
        let preprocess: Preprocess = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
            let number = text[..start].matches('\n').count() + 1;
            let line = text[line_start..].lines().next().unwrap_or_default().trim();
            DataError::PreprocessText {
                place: format!("{file} line {number} (`{line}`)"),
                message: error.message().replace('\n', " "),
                expected: KEYS,
            }
        })?;
        preprocess.validated()
    }

    /// This preprocessing as a line of JSON, as kept in a model's metadata.
    /// # Panics
    /// Never: plain fields always serialize.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain fields serialize")
    }

    /// Reads what `to_json` wrote.
    /// # Errors
    /// `PreprocessText` for unknown keys and values of a wrong type, `Preprocess` for senseless values.
    pub fn from_json(text: &str) -> Result<Preprocess, DataError> {
        let preprocess: Preprocess = serde_json::from_str(text).map_err(|error| {
            let place = "preprocessing".to_string();
            DataError::PreprocessText { place, message: error.to_string(), expected: KEYS }
        })?;
        preprocess.validated()
    }

    /// This preprocessing if its values make sense: callers that fill the fields themselves ask here once.
    /// # Errors
    /// `Preprocess` names the first key whose value does not.
    pub fn validated(self) -> Result<Preprocess, DataError> {
        if let Some(resize) = self.resize {
            resize.check()?;
        }
        if let Some(crop) = self.crop.filter(|crop| !(1..=SIDE_MAX).contains(crop)) {
            return Err(wrong("crop", crop, format!("1 to {SIDE_MAX}")));
        }
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(wrong("scale", self.scale, "a number above 0"));
        }
        let channels = self.channels.count();
        check_channels("mean", &self.mean, channels)?;
        check_channels("std", &self.std, channels)?;
        if let Some(&std) = self.std.iter().find(|&&std| std <= 0.0) {
            return Err(wrong("std", std, "numbers above 0"));
        }
        Ok(self)
    }

    /// The shape of one preprocessed image: [c, h, w], or [h, w, c] when `layout` is `Nhwc`.
    /// # Errors
    /// `Preprocess` when the crop is larger than the resized image, or the resized image too large.
    pub fn output_shape(&self, info: &ImageInfo) -> Result<[usize; 3], DataError> {
        let (width, height) = self.resized(info)?;
        let (width, height) = match self.crop {
            Some(crop) if crop > width || crop > height => {
                let expected = format!("at most the image's size, here {width}x{height}");
                return Err(wrong("crop", crop, expected));
            }
            Some(crop) => (crop, crop),
            None => (width, height),
        };
        Ok(self.layout.shape(self.channels.count(), height, width))
    }

    /// The shape of every image whatever its size, where a resize or a crop fixes it.
    pub fn fixed_shape(&self) -> Option<[usize; 3]> {
        let (width, height) = match (self.crop, self.resize) {
            (Some(crop), _) => (crop, crop),
            (None, Some(Resize::Exact { width, height })) => (width, height),
            (None, Some(Resize::ShortSide(_)) | None) => return None,
        };
        Some(self.layout.shape(self.channels.count(), height, width))
    }

    /// Writes the preprocessed `image` to `out`, in the order of `output_shape`.
    /// # Errors
    /// As `output_shape`.
    /// # Panics
    /// When `out` is not as long as `output_shape` says, or the fields were never `validated`.
    pub fn apply(&self, image: &Image, out: &mut [f32]) -> Result<(), DataError> {
        let bytes = image.pixels();
        self.apply_pixels(Pixels { info: image.info(), bytes, order: ByteOrder::Interleaved }, out)
    }

    /// Writes the preprocessed `pixels` to `out`; allocates only if they need a resize, or are color and gray is wanted.
    pub(crate) fn apply_pixels(&self, pixels: Pixels, out: &mut [f32]) -> Result<(), DataError> {
        let shape = self.output_shape(&pixels.info)?;
        let len: usize = shape.iter().product();
        assert_eq!(out.len(), len, "output of a preprocessed image of shape {shape:?}");
        let (width, height) = self.resized(&pixels.info)?;
        let wants_gray = self.channels == Channels::Gray && pixels.info.channels == 3;
        let same_size = (width, height) == (pixels.info.width, pixels.info.height);
        if same_size && !wants_gray {
            self.write(pixels, out);
            return Ok(());
        }
        let bytes = if wants_gray { Cow::Owned(gray_of(pixels)) } else { interleaved(pixels) };
        let channels = if wants_gray { 1 } else { pixels.info.channels };
        let from = ImageInfo { channels, ..pixels.info };
        let bytes = match same_size {
            true => bytes,
            false => Cow::Owned(resize::resize(&bytes, from, (width, height), self.filter)),
        };
        let info = ImageInfo { width, height, channels };
        self.write(Pixels { info, bytes: &bytes, order: ByteOrder::Interleaved }, out);
        Ok(())
    }

    fn resized(&self, info: &ImageInfo) -> Result<(usize, usize), DataError> {
        let Some(resize) = self.resize else {
            return Ok((info.width, info.height));
        };
        let (width, height) = resize.size_of(info);
        if width > SIDE_MAX || height > SIDE_MAX || width * height > PIXELS_MAX {
            let expected = format!("a resized image of sides up to {SIDE_MAX}");
            return Err(wrong("resize", format!("{resize} giving {width}x{height}"), expected));
        }
        Ok((width, height))
    }

    /// Crops and maps bytes to values through a table per channel.
    fn write(&self, pixels: Pixels, out: &mut [f32]) {
        let ImageInfo { width, height, channels } = pixels.info;
        let (crop_width, crop_height) = self.crop.map_or((width, height), |crop| (crop, crop));
        let top = center_offset(height, crop_height);
        let left = center_offset(width, crop_width);
        let (row_stride, column_stride, channel_stride) = match pixels.order {
            ByteOrder::Interleaved => (width * channels, channels, 1),
            ByteOrder::Planar => (width, 1, width * height),
        };
        let count = self.channels.count();
        let area = crop_width * crop_height;
        for channel in 0..count {
            let source_channel = self.channels.source(channel).min(channels - 1);
            let table = self.value_table(channel);
            for row in 0..crop_height {
                let start = source_channel * channel_stride
                    + (top + row) * row_stride
                    + left * column_stride;
                let source = pixels.bytes[start..].iter().step_by(column_stride);
                let values = source.take(crop_width).map(|&byte| table[usize::from(byte)]);
                match self.layout {
                    Layout::Nchw => {
                        let target = &mut out[channel * area + row * crop_width..][..crop_width];
                        target.iter_mut().zip(values).for_each(|(target, value)| *target = value);
                    }
                    Layout::Nhwc => {
                        let target = out[row * crop_width * count + channel..].iter_mut();
                        let target = target.step_by(count).zip(values);
                        target.for_each(|(target, value)| *target = value);
                    }
                }
            }
        }
    }

    /// `(p / scale - mean) / std` of every byte p.
    fn value_table(&self, channel: usize) -> [f32; 256] {
        let mean = self.mean[channel.min(self.mean.len() - 1)];
        let std = self.std[channel.min(self.std.len() - 1)];
        std::array::from_fn(|byte| (byte as f32 / self.scale - mean) / std)
    }
}

/// The compact form that logs and reports show: `resize=224x224 filter=bicubic scale=255 mean=0.5,0.4,0.3 ...`.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        if let Some(resize) = self.resize {
            write!(f, "resize={resize} filter={} ", self.filter)?;
        }
        if let Some(crop) = self.crop {
            write!(f, "crop={crop} ")?;
        }
        write!(f, "scale={} mean={} std={}", self.scale, list(&self.mean), list(&self.std))?;
        write!(f, " channels={} layout={}", self.channels, self.layout)
    }
}

impl Resize {
    /// The width and height that an image gets.
    pub fn size_of(&self, info: &ImageInfo) -> (usize, usize) {
        let (width, height) = (info.width, info.height);
        match *self {
            Resize::Exact { width, height } => (width, height),
            Resize::ShortSide(side) if width <= height => (side, side * height / width),
            Resize::ShortSide(side) => (side * width / height, side),
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let sides = match *self {
            Resize::Exact { width, height } => [width, height],
            Resize::ShortSide(side) => [side, side],
        };
        match sides.iter().all(|side| (1..=SIDE_MAX).contains(side)) {
            true => Ok(()),
            false => Err(wrong("resize", self, format!("sides of 1 to {SIDE_MAX}"))),
        }
    }
}

impl FromStr for Resize {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Resize, DataError> {
        let resize = match text.split_once('x') {
            None => text.parse().ok().map(Resize::ShortSide),
            Some((width, height)) => match (width.parse(), height.parse()) {
                (Ok(width), Ok(height)) => Some(Resize::Exact { width, height }),
                _ => None,
            },
        };
        let forms = "WxH (width and height, as in 224x224) or N (the short side, as in 256)";
        let resize = resize.ok_or_else(|| wrong("resize", format!("\"{text}\""), forms))?;
        resize.check()?;
        Ok(resize)
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Resize::Exact { width, height } => write!(f, "{width}x{height}"),
            Resize::ShortSide(side) => write!(f, "{side}"),
        }
    }
}

impl Serialize for Resize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Resize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Resize, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "resize: a text \"WxH\" or \"N\", or a number N")]
        enum Written {
            Number(usize),
            Text(String),
        }
        let resize = match Written::deserialize(deserializer)? {
            Written::Number(side) => side.to_string().parse(),
            Written::Text(text) => text.parse(),
        };
        resize.map_err(serde::de::Error::custom)
    }
}

impl Channels {
    /// How many channels the network reads.
    pub fn count(&self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Gray => 1,
        }
    }

    /// Which of red, green, blue is read as channel `channel`.
    fn source(&self, channel: usize) -> usize {
        match self {
            Channels::Rgb | Channels::Gray => channel,
            Channels::Bgr => 2 - channel,
        }
    }
}

impl Layout {
    fn shape(&self, channels: usize, height: usize, width: usize) -> [usize; 3] {
        match self {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }
}

/// Gives an enum of plain words `FromStr`, whose error lists the words, and `Display`.
macro_rules! words {
    ($type:ident, $key:literal, [$($word:literal => $variant:ident),+]) => {
        impl FromStr for $type {
            type Err = DataError;

            fn from_str(text: &str) -> Result<$type, DataError> {
                match text {
                    $($word => Ok($type::$variant),)+
                    other => {
                        let words = [$($word),+].join(", ");
                        Err(wrong($key, format!("\"{other}\""), format!("one of: {words}")))
                    }
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $word,)+ })
            }
        }
    };
}

words!(Filter, "filter", ["bilinear" => Bilinear, "bicubic" => Bicubic]);
words!(Channels, "channels", ["rgb" => Rgb, "bgr" => Bgr, "gray" => Gray]);
words!(Layout, "layout", ["nchw" => Nchw, "nhwc" => Nhwc]);

/// Parses `--mean` and `--std`: numbers with commas between them.
/// # Errors
/// `Preprocess` naming `key` and the forms allowed.
pub fn parse_numbers(key: &'static str, text: &str) -> Result<Vec<f32>, DataError> {
    let numbers: Result<Vec<f32>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    numbers.map_err(|_| wrong(key, format!("\"{text}\""), "A or A,B,C (numbers, one per channel)"))
}

fn wrong(key: &'static str, found: impl ToString, expected: impl Into<String>) -> DataError {
    DataError::Preprocess { key, found: found.to_string(), expected: expected.into() }
}

fn check_channels(key: &'static str, values: &[f32], channels: usize) -> Result<(), DataError> {
    if (values.len() == 1 || values.len() == channels) && values.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    let count = if channels == 1 { "1".to_string() } else { format!("1 or {channels}") };
    Err(wrong(key, format!("{values:?}"), format!("{count} finite numbers")))
}

/// torchvision's `center_crop`: `int(round((size - crop) / 2.0))`, halves to even.
fn center_offset(size: usize, crop: usize) -> usize {
    let gap = size - crop;
    gap / 2 + usize::from(gap % 4 == 3)
}

/// The bytes in the order [height, width, channels].
pub(crate) fn interleaved(pixels: Pixels<'_>) -> Cow<'_, [u8]> {
    match pixels.order {
        ByteOrder::Interleaved => Cow::Borrowed(pixels.bytes),
        ByteOrder::Planar => {
            let ImageInfo { width, height, channels } = pixels.info;
            let source = |i| i % channels * width * height + i / channels;
            Cow::Owned((0..pixels.bytes.len()).map(|i| pixels.bytes[source(i)]).collect())
        }
    }
}

/// PIL's `convert("L")`: ITU-R 601-2 in 16-bit fixed point.
fn gray_of(pixels: Pixels) -> Vec<u8> {
    let luma = |pixel: &[u8]| {
        let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
        ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
    };
    interleaved(pixels).chunks_exact(3).map(luma).collect()
}

#[cfg(test)]
mod tests;
