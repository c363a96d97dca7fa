//! What can go wrong in this crate: one enum, each variant saying what was found and what was expected.

/// What can be wrong with values, settings and stored codes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantError {
    /// No sample was seen.
    #[error("no samples were observed")]
    NoSamples,
    /// A sample or weight is NaN or infinite.
    #[error("found {found}, expected finite values")]
    NotFinite {
        /// The offending value.
        found: f32,
    },
    /// A bit width that the quantizer does not have.
    #[error("found {found} bits, expected {expected}")]
    Bits {
        /// The bits asked for.
        found: u8,
        /// What is allowed.
        expected: &'static str,
    },
    /// A name that is not a rule.
    #[error("unknown {kind} \"{found}\", expected one of {expected}")]
    UnknownRule {
        /// What was being named.
        kind: &'static str,
        /// What was given.
        found: String,
        /// The valid names.
        expected: &'static str,
    },
    /// Two parts of a quantizer that make no sense together.
    #[error("{part} \"{found}\" does not suit {with}, expected {expected}")]
    Unsuited {
        /// The part at fault: "scale rule", "granularity", ...
        part: &'static str,
        /// Its name.
        found: &'static str,
        /// What it was combined with.
        with: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// A setting outside its range.
    #[error("{name} is {found}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        found: f64,
        /// The allowed range.
        expected: &'static str,
    },
    /// A list whose length does not fit the others.
    #[error("{what}: found {found} values, expected {expected}")]
    Length {
        /// What the list holds.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that fits.
        expected: usize,
    },
    /// A code that names no level.
    #[error("code {found} of element {element}, expected below {levels}")]
    Code {
        /// The code.
        found: u16,
        /// Where it stands.
        element: usize,
        /// Number of levels.
        levels: usize,
    },
    /// A compressed stream that cannot have come from the encoder.
    #[error("compressed codes: found {found}, expected {expected}")]
    Corrupt {
        /// What is wrong.
        found: String,
        /// What the decoder accepts.
        expected: &'static str,
    },
}

/// Refuses NaN and infinities.
pub(crate) fn finite(values: &[f32]) -> Result<(), QuantError> {
    match values.iter().find(|x| !x.is_finite()) {
        Some(&found) => Err(QuantError::NotFinite { found }),
        None => Ok(()),
    }
}

/// Refuses a list of another length than `expected`.
pub(crate) fn length(what: &'static str, found: usize, expected: usize) -> Result<(), QuantError> {
    if found == expected { Ok(()) } else { Err(QuantError::Length { what, found, expected }) }
}

/// Refuses a bit width outside `range`.
pub(crate) fn bits_within(
    found: u8,
    range: std::ops::RangeInclusive<u8>,
    expected: &'static str,
) -> Result<(), QuantError> {
    if range.contains(&found) { Ok(()) } else { Err(QuantError::Bits { found, expected }) }
}

/// Refuses a setting for which `allowed` is false.
pub(crate) fn setting(
    name: &'static str,
    found: f64,
    allowed: bool,
    expected: &'static str,
) -> Result<(), QuantError> {
    if allowed { Ok(()) } else { Err(QuantError::Setting { name, found, expected }) }
}
