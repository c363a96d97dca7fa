//! The levels of a scalar quantizer and the thresholds between them: what every scalar grid reduces to.
//!
//! Codes are ranks: code 0 is the lowest level. A value's code is the number of thresholds below it; a value on a threshold
//! takes the level that the threshold names.

/// Sorted levels with the thresholds between neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    /// The integers low..=high, thresholds halfway, ties to even.
    Steps { low: i32, high: i32 },
    /// Any levels; `upper[i]` says that a value equal to `thresholds[i]` takes level i + 1.
    Listed { values: Vec<f32>, thresholds: Vec<f64>, upper: Vec<bool> },
}

impl Levels {
    /// The integers low..=high. A value is rounded half to even, as onnxruntime's `QuantizeLinear` does.
    ///
    /// # Panics
    /// When there are none or more than 65536.
    #[must_use]
    pub fn steps(low: i32, high: i32) -> Self {
        assert!(low <= high && high - low < 65536, "levels {low}..={high}, expected 1 to 65536");
        Levels { form: Form::Steps { low, high } }
    }

    /// These levels, sorted and made distinct, with thresholds halfway. A value on a threshold takes the level of smaller
    /// magnitude, and the positive one where both have the same.
    ///
    /// # Panics
    /// When there are none or more than 65536, or one is not finite.
    #[must_use]
    pub fn nearest(mut values: Vec<f32>) -> Self {
        assert!(values.iter().all(|x| x.is_finite()), "a level that is not finite");
        values.iter_mut().for_each(|x| *x += 0.0); // -0 becomes 0
        values.sort_by(f32::total_cmp);
        values.dedup();
        let upper = values.windows(2).map(|pair| pair[1].abs() <= pair[0].abs()).collect();
        let thresholds = midpoints(&values);
        Self::listed(values, thresholds, upper)
    }

    /// Ascending levels with given thresholds and tie rules.
    ///
    /// # Panics
    /// When levels or thresholds are not strictly ascending, or their numbers do not fit.
    #[must_use]
    pub fn listed(values: Vec<f32>, thresholds: Vec<f64>, upper: Vec<bool>) -> Self {
        assert!((1..=65536).contains(&values.len()), "{} levels", values.len());
        assert!(thresholds.len() + 1 == values.len() && upper.len() == thresholds.len());
        assert!(values.windows(2).all(|p| p[0] < p[1]), "levels do not ascend");
        assert!(thresholds.windows(2).all(|p| p[0] < p[1]), "thresholds do not ascend");
        Levels { form: Form::Listed { values, thresholds, upper } }
    }

    /// Number of levels, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Steps { low, high } => (high - low) as usize + 1,
            Form::Listed { values, .. } => values.len(),
        }
    }

    /// Bits a code takes: ⌈log2 len⌉.
    #[must_use]
    pub fn bits(&self) -> u8 {
        (usize::BITS - (self.len() - 1).leading_zeros()) as u8
    }

    /// The level of a code.
    ///
    /// # Panics
    /// When there is no such code.
    #[must_use]
    pub fn value(&self, code: u16) -> f32 {
        match &self.form {
            Form::Steps { low, high } => {
                let level = low + i32::from(code);
                assert!(level <= *high, "code {code} of {} levels", self.len());
                level as f32
            }
            Form::Listed { values, .. } => values[usize::from(code)],
        }
    }

    /// All levels, ascending.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        (0..self.len()).map(|code| self.value(code as u16)).collect()
    }

    /// The thresholds between neighbouring levels, ascending.
    #[must_use]
    pub fn thresholds(&self) -> Vec<f64> {
        match &self.form {
            Form::Steps { low, high } => (*low..*high).map(|k| f64::from(k) + 0.5).collect(),
            Form::Listed { thresholds, .. } => thresholds.clone(),
        }
    }

    /// The code of a finite value.
    #[must_use]
    pub fn project(&self, x: f32) -> u16 {
        match &self.form {
            Form::Steps { low, high } => {
                (x.round_ties_even().clamp(*low as f32, *high as f32) as i32 - low) as u16
            }
            Form::Listed { thresholds, upper, .. } => {
                let x = f64::from(x);
                let code = thresholds.partition_point(|&t| t < x);
                let up = thresholds.get(code) == Some(&x) && upper[code];
                (code + usize::from(up)) as u16
            }
        }
    }

    /// The codes of the last level at or below a value and of the first above it; twice the outermost one beyond the ends.
    #[must_use]
    pub fn neighbours(&self, x: f32) -> (u16, u16) {
        let above = match &self.form {
            Form::Steps { low, .. } => (f64::from(x).floor() + 1.0 - f64::from(*low))
                .clamp(0.0, self.len() as f64) as usize,
            Form::Listed { values, .. } => values.partition_point(|&level| level <= x),
        };
        (above.saturating_sub(1) as u16, above.min(self.len() - 1) as u16)
    }

    /// Every level as a multiple of one unit, 2^-7 to 1, where all fit i8: the multiples by code, and the largest such
    /// unit.
    #[must_use]
    pub fn integers(&self) -> Option<(Vec<i8>, f32)> {
        if self.len() > 256 {
            return None;
        }
        let values = self.values();
        (0..8u8).map(|shift| 0.5f32.powi(i32::from(shift))).find_map(|unit| {
            let fits = |x: f32| x.fract() == 0.0 && (-128.0..=127.0).contains(&x);
            let multiples = values.iter().map(|level| level / unit);
            multiples.clone().all(fits).then(|| (multiples.map(|x| x as i8).collect(), unit))
        })
    }
}

fn midpoints(values: &[f32]) -> Vec<f64> {
    values.windows(2).map(|pair| f64::midpoint(f64::from(pair[0]), f64::from(pair[1]))).collect()
}
