//! Weights packed in panels: the words that a tile reads one after another.

use std::ops::Range;

use super::arena::Words;
use super::spec::ConvSpec;
use crate::isa::TileShape;

/// Outputs that are computed together: one or two vectors of lanes.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// The first output channel.
    pub(crate) output: usize,
    /// Output channels, at most `columns`.
    pub(crate) outputs: usize,
    /// Lanes.
    pub(crate) columns: usize,
    /// Where its entries begin among the padded biases and factors.
    pub(crate) column: usize,
    /// Where its weights begin, in words.
    pub(crate) words: usize,
    /// Its inner dimension, among the offsets.
    pub(crate) offsets: Range<usize>,
}

/// All panels of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Panels {
    pub(crate) list: Vec<Panel>,
    /// Lanes of all panels.
    pub(crate) columns: usize,
    /// From a pixel's first tap to each word of the inner dimension, in bytes; a range for each group.
    pub(crate) offsets: Vec<u32>,
    /// `[panel][word of the inner dimension][lane]`.
    pub(crate) words: Words,
}

/// A word of the inner dimension: the tap, and the first of its four channels in the pixel.
struct Word {
    tap: [usize; 2],
    channel: usize,
}

impl Panels {
    /// Packs `weights`, `[o, i / groups, kh, kw]`, four channels of a tap to a word; channels that are no group's give 0.
    pub(crate) fn new(spec: &ConvSpec, weights: &[i8], tile: TileShape) -> Self {
        let mut words = Vec::new();
        let mut panels =
            Self { list: Vec::new(), columns: 0, offsets: Vec::new(), words: Words::new(&[]) };
        for group in 0..spec.groups {
            panels.push_group(spec, (weights, &mut words), tile, group);
        }
        panels.words = Words::new(&words);
        panels
    }

    fn push_group(
        &mut self,
        spec: &ConvSpec,
        (weights, words): (&[i8], &mut Vec<u32>),
        tile: TileShape,
        group: usize,
    ) {
        let inner = inner_words(spec, group);
        let base = spec.tap([0, 0], [0, 0]);
        let first = self.offsets.len();
        self.offsets.extend(inner.iter().map(|word| {
            u32::try_from(spec.tap([0, 0], word.tap) + word.channel - base)
                .expect("an image has less than 2^31 bytes")
        }));
        let outputs = group * spec.group_outputs()..(group + 1) * spec.group_outputs();
        let mut output = outputs.start;
        while output < outputs.end {
            let left = outputs.end - output;
            let vectors = left.div_ceil(tile.lanes).min(tile.vectors);
            let panel = Panel {
                output,
                outputs: left.min(vectors * tile.lanes),
                columns: vectors * tile.lanes,
                column: self.columns,
                words: words.len(),
                offsets: first..self.offsets.len(),
            };
            for word in &inner {
                words.extend((0..panel.columns).map(|lane| {
                    if lane < panel.outputs {
                        weight_word(spec, weights, output + lane, word)
                    } else {
                        0
                    }
                }));
            }
            self.columns += panel.columns;
            output += panel.outputs;
            self.list.push(panel);
        }
    }

    /// Calls `visit` with every byte of the lanes that have an output.
    pub(crate) fn for_each_used(&self, mut visit: impl FnMut(i8)) {
        for panel in &self.list {
            let words = &self.words[panel.words..][..panel.offsets.len() * panel.columns];
            for row in words.chunks_exact(panel.columns) {
                for word in &row[..panel.outputs] {
                    word.to_le_bytes().into_iter().for_each(|byte| visit(byte as i8));
                }
            }
        }
    }

    /// Replaces the bytes by indices of `bits`: those of `8 / bits` words of the inner dimension share a word.
    pub(crate) fn pack(&mut self, bits: usize, index: impl Fn(i8) -> u32) {
        let mut packed = Vec::new();
        for panel in &mut self.list {
            let words = &self.words[panel.words..][..panel.offsets.len() * panel.columns];
            panel.words = packed.len();
            for block in words.chunks(8 / bits * panel.columns) {
                let first = packed.len();
                packed.resize(first + panel.columns, 0);
                for (at, word) in block.iter().enumerate() {
                    let indices = word.to_le_bytes().map(|byte| index(byte as i8) as u8);
                    let shift = at / panel.columns * bits;
                    packed[first + at % panel.columns] |= u32::from_le_bytes(indices) << shift;
                }
            }
        }
        self.words = Words::new(&packed);
    }

    /// `values`, one for each output channel, in the order of the lanes; zeros in lanes without output.
    pub(crate) fn spread<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut spread = vec![T::default(); self.columns];
        for panel in &self.list {
            spread[panel.column..][..panel.outputs]
                .copy_from_slice(&values[panel.output..][..panel.outputs]);
        }
        spread
    }
}

/// The words that hold the channels of `group`, tap by tap.
fn inner_words(spec: &ConvSpec, group: usize) -> Vec<Word> {
    let channels = group * spec.group_channels()..(group + 1) * spec.group_channels();
    let mut words = Vec::new();
    for ky in 0..spec.kernel[0] {
        for kx in 0..spec.kernel[1] {
            let first = channels.start / 4 * 4;
            words.extend(
                (first..channels.end).step_by(4).map(|channel| Word { tap: [ky, kx], channel }),
            );
        }
    }
    words
}

fn weight_word(spec: &ConvSpec, weights: &[i8], output: usize, word: &Word) -> u32 {
    let (channels, [kh, kw]) = (spec.group_channels(), spec.kernel);
    let first = output / spec.group_outputs() * channels;
    u32::from_le_bytes(std::array::from_fn(|byte| {
        let channel = (word.channel + byte).wrapping_sub(first);
        if channel < channels {
            weights[((output * channels + channel) * kh + word.tap[0]) * kw + word.tap[1]] as u8
        } else {
            0
        }
    }))
}
