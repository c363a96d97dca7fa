//! The triangular factor of an inverse.

/// U, upper triangular and row-major, with H⁻¹ = UᵀU, of a positive definite H of `n` rows.
///
/// H⁻¹ = UᵀU says H = RRᵀ with the upper triangular R = U⁻¹. Turned end for end, that is the usual factor H' = LLᵀ, so U is L⁻¹
/// turned back: one factorization, one triangular inverse.
pub(super) fn inverse_factor(h: &[f64], n: usize) -> Vec<f64> {
    let turned: Vec<f64> = h.iter().rev().copied().collect();
    let mut factor = inverse(&factor(&turned, n), n);
    factor.reverse();
    factor
}

/// L, lower triangular, with A = LLᵀ. A pivot that rounding made too small counts as the least that it can be told from.
fn factor(a: &[f64], n: usize) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        let (done, row) = l.split_at_mut(i * n);
        for j in 0..i {
            let other = &done[j * n..=j * n + j];
            row[j] = (a[i * n + j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = a[i * n + i] - dot(&row[..i], &row[..i]);
        row[i] = pivot.max(a[i * n + i] * PIVOT_LEAST).sqrt();
    }
    l
}

/// Least pivot, as a share of the diagonal.
const PIVOT_LEAST: f64 = 1e-12;

/// L⁻¹.
fn inverse(l: &[f64], n: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; n * n];
    for i in 0..n {
        let (done, row) = inverse.split_at_mut(i * n);
        for k in 0..i {
            let factor = l[i * n + k];
            let other = &done[k * n..=k * n + k];
            row.iter_mut().zip(other).for_each(|(x, y)| *x -= factor * y);
        }
        let pivot = l[i * n + i];
        row[..i].iter_mut().for_each(|x| *x /= pivot);
        row[i] = 1.0 / pivot;
    }
    inverse
}

/// Four running sums, which the compiler can keep in one vector.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (left, right) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0; 4];
    for (x, y) in left.zip(right) {
        sums = std::array::from_fn(|i| sums[i] + x[i] * y[i]);
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let n = 7;
        let x: Vec<f64> = (0..n * n).map(|i| ((i * i * 7 + i) % 13) as f64 - 6.0).collect();
        let entry = |i: usize, j: usize| -> f64 {
            let product: f64 = (0..n).map(|k| x[i * n + k] * x[j * n + k]).sum();
            product + if i == j { 1.0 } else { 0.0 }
        };
        let h: Vec<f64> = (0..n * n).map(|e| entry(e / n, e % n)).collect();
        let u = inverse_factor(&h, n);
        for i in 0..n {
            for j in 0..n {
                assert!(j >= i || u[i * n + j] == 0.0, "upper triangular");
                let inverse = |a: usize| (0..n).map(|k| u[k * n + i] * u[k * n + a]).sum::<f64>();
                let one: f64 = (0..n).map(|a| inverse(a) * h[a * n + j]).sum();
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((one - expected).abs() < 1e-6, "({i}, {j}): {one}");
            }
        }
    }
}
