//! Flags that several commands share, and what they mean together.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use lowbit::{Channels, DataError, Filter, InputShape, Layout, Preprocess, Resize, preprocess};

/// A combination of arguments that makes no sense: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; see --help", self.0)
    }
}

impl std::error::Error for Usage {}

/// Where `--json` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// `-`.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl From<&str> for Destination {
    fn from(text: &str) -> Destination {
        if text == "-" { Destination::Stdout } else { Destination::File(text.into()) }
    }
}

impl Destination {
    /// The file, if it is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Destination::Stdout => None,
            Destination::File(path) => Some(path),
        }
    }
}

/// What every command that works takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct GeneralArgs {
    /// Print nothing but errors (and the JSON, if asked for)
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Threads to use; results do not depend on it [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl GeneralArgs {
    /// Sets up the threads.
    pub(crate) fn apply(&self) -> anyhow::Result<()> {
        let Some(threads) = self.threads else {
            return Ok(());
        };
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .context("cannot start threads")
    }
}

/// Numbers with commas between them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers(Vec<f32>);

fn numbers(text: &str) -> Result<Numbers, DataError> {
    preprocess::parse_numbers("numbers", text).map(Numbers)
}

/// How images become the input of the model.
#[derive(Clone, Debug, Args)]
#[command(
    next_help_heading = "Preprocessing (a pixel p of 0 to 255 becomes (p / scale - mean) / std)"
)]
pub(crate) struct PreprocessArgs {
    /// What pixels are divided by first; 1 for raw pixels [default: 255]
    #[arg(long, value_name = "S")]
    scale: Option<f32>,
    /// What is subtracted next: one number, or one per channel [default: 0]
    #[arg(long, value_name = "A,B,C", value_parser = numbers, allow_hyphen_values = true)]
    mean: Option<Numbers>,
    /// What the difference is divided by: one number, or one per channel [default: 1]
    #[arg(long, value_name = "A,B,C", value_parser = numbers)]
    std: Option<Numbers>,
    /// Resize to this width and height, or (one number) the shorter side to this
    #[arg(long, value_name = "WxH|N", value_parser = Resize::from_str)]
    resize: Option<Resize>,
    /// How resizing interpolates: bilinear or bicubic [default: bicubic]
    #[arg(long, value_name = "NAME", value_parser = Filter::from_str)]
    filter: Option<Filter>,
    /// Cut a square of this side out of the center, after resizing
    #[arg(long, value_name = "N")]
    crop: Option<usize>,
    /// The channels the model reads: rgb, bgr or gray [default: gray if the model reads one channel, else rgb]
    #[arg(long, value_name = "NAME", value_parser = Channels::from_str)]
    channels: Option<Channels>,
    /// The order of the model's dimensions: nchw or nhwc [default: as the model's input shape says]
    #[arg(long, value_name = "NAME", value_parser = Layout::from_str)]
    layout: Option<Layout>,
    /// A TOML file with any of these, by the same names; flags override it
    #[arg(long, value_name = "FILE")]
    preprocess: Option<PathBuf>,
}

/// Which part of a preprocessing was said, rather than assumed.
#[derive(Clone, Debug)]
struct Base {
    preprocess: Preprocess,
    channels_said: bool,
    layout_said: bool,
}

impl PreprocessArgs {
    /// Whether the command line says which values the model reads; sizes and layouts are checked, values cannot be.
    pub(crate) fn says_values(&self) -> bool {
        self.preprocess.is_some()
            || self.scale.is_some()
            || self.mean.is_some()
            || self.std.is_some()
    }

    /// The preprocessing for a model of image dimensions `dims`: flags, over the file, over the model's own notes, over what
    /// its dimensions tell, over the defaults.
    pub(crate) fn resolve(
        &self,
        notes: Option<&Preprocess>,
        dims: [Option<usize>; 3],
    ) -> anyhow::Result<Preprocess> {
        let base = self.base(notes)?;
        let mut found = base.preprocess;
        if !base.layout_said && looks_nhwc(dims) {
            found.layout = Layout::Nhwc;
        }
        found.layout = self.layout.unwrap_or(found.layout);
        let channels = match found.layout {
            Layout::Nchw => dims[0],
            Layout::Nhwc => dims[2],
        };
        if !base.channels_said && channels == Some(1) {
            found.channels = Channels::Gray;
        }
        found.channels = self.channels.unwrap_or(found.channels);
        found.scale = self.scale.unwrap_or(found.scale);
        found.mean = self.mean.clone().map_or(found.mean, |numbers| numbers.0);
        found.std = self.std.clone().map_or(found.std, |numbers| numbers.0);
        found.resize = self.resize.or(found.resize);
        found.filter = self.filter.unwrap_or(found.filter);
        found.crop = self.crop.or(found.crop);
        Ok(found.validated()?)
    }

    fn base(&self, notes: Option<&Preprocess>) -> anyhow::Result<Base> {
        if let Some(path) = &self.preprocess {
            let preprocess = Preprocess::from_toml_file(path)?;
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{}: cannot read", path.display()))?;
            let keys: toml::Table = text.parse().context("preprocessing file")?;
            return Ok(Base {
                preprocess,
                channels_said: keys.contains_key("channels"),
                layout_said: keys.contains_key("layout"),
            });
        }
        let said = notes.is_some();
        let preprocess = notes.cloned().unwrap_or_default();
        Ok(Base { preprocess, channels_said: said, layout_said: said })
    }
}

/// Whether the channels come last: [h, w, 3], where [3, h, w] would not read as well.
fn looks_nhwc(dims: [Option<usize>; 3]) -> bool {
    let channels = |dim: Option<usize>| matches!(dim, Some(1 | 3));
    channels(dims[2]) && !channels(dims[0])
}

/// Three sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims(pub(crate) InputShape);

/// Sizes with x between them.
pub(crate) fn parse_shape(text: &str) -> Result<Dims, String> {
    let sizes: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
    let sizes = sizes.ok().and_then(|sizes| InputShape::try_from(sizes).ok());
    let sizes = sizes.filter(|sizes| sizes.iter().all(|&size| size > 0));
    sizes.map(Dims).ok_or_else(|| "expected three sizes, as in 3x224x224".to_owned())
}

/// Reads class names, one per line.
pub(crate) fn read_classes(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot read", path.display()))?;
    Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> PreprocessArgs {
        PreprocessArgs {
            scale: None,
            mean: None,
            std: None,
            resize: None,
            filter: None,
            crop: None,
            channels: None,
            layout: None,
            preprocess: None,
        }
    }

    #[test]
    fn dimensions_tell_layout_and_gray() {
        let check = |dims, layout, channels| {
            let found = none().resolve(None, dims).unwrap();
            assert_eq!((found.layout, found.channels), (layout, channels), "{dims:?}");
        };
        check([Some(3), Some(32), Some(32)], Layout::Nchw, Channels::Rgb);
        check([Some(224), Some(224), Some(3)], Layout::Nhwc, Channels::Rgb);
        check([Some(1), Some(28), Some(28)], Layout::Nchw, Channels::Gray);
        check([Some(28), Some(28), Some(1)], Layout::Nhwc, Channels::Gray);
        check([Some(3), None, None], Layout::Nchw, Channels::Rgb);
        check([None, None, Some(3)], Layout::Nhwc, Channels::Rgb);
        check([None, None, None], Layout::Nchw, Channels::Rgb);
        check([Some(3), Some(5), Some(3)], Layout::Nchw, Channels::Rgb);
    }

    #[test]
    fn flags_override_notes() {
        let args = PreprocessArgs { scale: Some(1.0), ..none() };
        let notes = Preprocess { crop: Some(9), channels: Channels::Bgr, ..Preprocess::default() };
        let found = args.resolve(Some(&notes), [Some(3), Some(9), Some(9)]).unwrap();
        assert_eq!((found.scale, found.crop, found.channels), (1.0, Some(9), Channels::Bgr));
    }
}
