//! Random changes of images that leave what they show: a network that knows one knows the other, so few images serve as many.

use lowbit_tensor::{Rng, Tensor};

/// Largest shift, as a share of the side: 4 of 32 pixels, as is usual for CIFAR-10.
const SHIFT: f32 = 0.125;

/// One image [1, c, h, w], mirrored or not and shifted; what is shifted in is zero.
pub(crate) fn augmented(image: &Tensor, rng: &mut Rng) -> Vec<f32> {
    let &[_, _, height, width] = &image.shape()[..] else { return image.f32s().to_vec() };
    let mut shift = |side: usize| {
        let most = (side as f32 * SHIFT) as usize;
        rng.below(2 * most + 1) as isize - most as isize
    };
    let (down, right) = (shift(height), shift(width));
    let mirrored = rng.below(2) == 1;
    let mut values = vec![0.0; image.len()];
    for (to, from) in values.chunks_mut(height * width).zip(image.f32s().chunks(height * width)) {
        for y in 0..height {
            let Some(row) = y.checked_add_signed(-down).filter(|&row| row < height) else {
                continue;
            };
            for x in 0..width {
                let Some(column) = x.checked_add_signed(-right).filter(|&c| c < width) else {
                    continue;
                };
                let column = if mirrored { width - 1 - column } else { column };
                to[y * width + x] = from[row * width + column];
            }
        }
    }
    values
}
