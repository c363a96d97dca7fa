//! Where the pixels of an image lie.

use std::ops::Range;

/// One image of bytes in NHWC with a border of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// Rows, without the border.
    pub height: usize,
    /// Pixels in a row, without the border.
    pub width: usize,
    /// Codes, or bits, of a pixel that mean something.
    pub channels: usize,
    /// Bytes from one pixel to the next: a multiple of 4. What follows the channels may hold anything.
    pub pixel: usize,
    /// Pixels of border: top, left, bottom, right.
    pub border: [usize; 4],
}

impl ImageLayout {
    /// A layout whose pixels take `channels` bytes, rounded up to a multiple of 4.
    #[must_use]
    pub fn new(height: usize, width: usize, channels: usize, border: [usize; 4]) -> Self {
        Self { height, width, channels, pixel: channels.next_multiple_of(4), border }
    }

    /// A layout of images of bits. Each pixel has its planes one after the other, each of whole words of 32 bits: channel `c` is bit
    /// `c % 8` of byte `c / 8`.
    #[must_use]
    pub fn bits([height, width, channels]: [usize; 3], planes: usize, border: [usize; 4]) -> Self {
        let mut layout = Self { height, width, channels, pixel: 0, border };
        layout.pixel = planes * layout.plane();
        layout
    }

    /// Bytes of a plane of bits in a pixel.
    #[must_use]
    pub fn plane(&self) -> usize {
        self.channels.div_ceil(32) * 4
    }

    /// Bytes of a row with its border.
    #[must_use]
    pub fn row(&self) -> usize {
        (self.width + self.border[1] + self.border[3]) * self.pixel
    }

    /// Bytes of the image with its border.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.height + self.border[0] + self.border[2]) * self.row()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the pixel at row `y` and column `x` begins, in bytes; the border does not count.
    #[must_use]
    pub fn at(&self, y: usize, x: usize) -> usize {
        (self.border[0] + y) * self.row() + (self.border[1] + x) * self.pixel
    }

    /// The pixels of row `y` of an image, without the border.
    /// # Panics
    /// When `image` is shorter than [`ImageLayout::len`], or has no such row.
    #[inline(always)]
    #[must_use]
    pub fn pixels<'a>(&self, image: &'a [u8], y: usize) -> &'a [u8] {
        &image[self.at(y, 0)..][..self.width * self.pixel]
    }

    /// As [`ImageLayout::pixels`], to be written.
    /// # Panics
    /// As [`ImageLayout::pixels`].
    #[inline(always)]
    pub fn pixels_mut<'a>(&self, image: &'a mut [u8], y: usize) -> &'a mut [u8] {
        &mut image[self.at(y, 0)..][..self.width * self.pixel]
    }

    /// The bytes of some rows, and how they lie there: as an image without a border above and below.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> (Range<usize>, Self) {
        let [top, left, _, right] = self.border;
        let bytes = (top + rows.start) * self.row()..(top + rows.end) * self.row();
        (bytes, Self { height: rows.len(), border: [0, left, 0, right], ..*self })
    }

    /// Writes `code` to every byte of the border.
    /// # Panics
    /// When `image` is shorter than [`ImageLayout::len`].
    pub fn fill_border(&self, image: &mut [u8], code: u8) {
        let [top, left, bottom, right] = self.border;
        let (row, pixel) = (self.row(), self.pixel);
        let image = &mut image[..self.len()];
        image[..top * row].fill(code);
        for y in 0..self.height {
            let line = &mut image[(top + y) * row..][..row];
            line[..left * pixel].fill(code);
            line[row - right * pixel..].fill(code);
        }
        image[(top + self.height) * row..][..bottom * row].fill(code);
    }
}
