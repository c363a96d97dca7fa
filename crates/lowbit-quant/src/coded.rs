//! A coded weight: what fitting found. Its codes, scales and tables are all that is needed to store it and to decode it.

use crate::error::{finite, length, setting};
use crate::pack::{pack_widths, unpack_widths};
use crate::quantizer::assign_vectors;
use crate::scale::Group;
use crate::{FoundBasis, Granularity, Groups, Levels, QuantError, decode_codes, encode_codes};

/// The levels of a group, by code.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// Numbers.
    Scalar(Levels),
    /// Sums of basis numbers.
    Basis(FoundBasis),
    /// Vectors, one after the other.
    Vectors {
        /// Numbers in a vector.
        dimension: usize,
        /// All numbers.
        entries: Vec<f32>,
    },
    /// Shared values; code 2j is value j, code 2j + 1 its negative, and the position alone decides.
    Hashed {
        /// The values.
        values: Vec<f32>,
        /// The seed of the hash.
        seed: u64,
    },
}

impl Table {
    /// Number of codes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        match self {
            Table::Scalar(levels) => levels.len(),
            Table::Basis(basis) => basis.levels.len(),
            Table::Vectors { dimension, entries } => entries.len() / dimension,
            Table::Hashed { values, .. } => 2 * values.len(),
        }
    }

    /// Numbers that are stored where the table is.
    pub(crate) fn numbers(&self) -> usize {
        match self {
            Table::Scalar(levels) => levels.len(),
            Table::Basis(basis) => basis.numbers.len(),
            Table::Vectors { entries, .. } => entries.len(),
            Table::Hashed { values, .. } => values.len(),
        }
    }

    /// Bits a stored code takes.
    #[must_use]
    pub fn bits(&self) -> u8 {
        match self {
            Table::Scalar(levels) => levels.bits(),
            Table::Basis(basis) => basis.levels.bits(),
            Table::Vectors { .. } => (usize::BITS - (self.len() - 1).leading_zeros()) as u8,
            Table::Hashed { .. } => 0,
        }
    }

    /// The sorted levels, where codes are numbers' ranks.
    #[must_use]
    pub fn levels(&self) -> Option<&Levels> {
        match self {
            Table::Scalar(levels) => Some(levels),
            Table::Basis(basis) => Some(&basis.levels),
            Table::Vectors { .. } | Table::Hashed { .. } => None,
        }
    }

    fn value(&self, code: u16, lane: usize) -> f32 {
        match self {
            Table::Scalar(levels) => levels.value(code),
            Table::Basis(basis) => basis.levels.value(code),
            Table::Vectors { dimension, entries } => entries[usize::from(code) * dimension + lane],
            Table::Hashed { values, .. } => {
                let value = values[usize::from(code / 2)];
                if code % 2 == 1 { -value } else { value }
            }
        }
    }

    /// All numbers by code; of vectors one after the other.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        match self {
            Table::Scalar(levels) => levels.values(),
            Table::Basis(basis) => basis.levels.values(),
            Table::Vectors { entries, .. } => entries.clone(),
            Table::Hashed { values, .. } => values.iter().flat_map(|&v| [v, -v]).collect(),
        }
    }

    /// All numbers by code as multiples of a unit, as [`Levels::integers`].
    #[must_use]
    pub fn integers(&self) -> Option<(Vec<i8>, f32)> {
        match self {
            Table::Scalar(levels) => levels.integers(),
            Table::Basis(basis) => basis.levels.integers(),
            Table::Vectors { entries, .. } => {
                let fits = |x: &f32| x.fract() == 0.0 && (-128.0..=127.0).contains(x);
                let whole = entries.iter().all(fits);
                whole.then(|| (entries.iter().map(|&x| x as i8).collect(), 1.0))
            }
            Table::Hashed { .. } => None,
        }
    }
}

/// What a coded weight is made of.
pub(crate) struct Parts {
    pub(crate) shape: Vec<usize>,
    pub(crate) groups: Groups,
    pub(crate) codes: Vec<u16>,
    pub(crate) scales: Vec<f32>,
    /// One for all groups, or one for each.
    pub(crate) tables: Vec<Table>,
    pub(crate) scale_bits: u8,
    pub(crate) table_bits: u64,
}

/// Codes, scales and tables of a weight: element e is level(code) · scale, one f32 product.
#[derive(Clone, Debug, PartialEq)]
pub struct CodedWeight {
    shape: Vec<usize>,
    groups: Groups,
    codes: Vec<u16>,
    scales: Vec<f32>,
    tables: Vec<Table>,
    scale_bits: u8,
    table_bits: u64,
}

/// Sizes in bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeBits {
    /// Codes, packed without gaps.
    pub codes: u64,
    /// Scales: 32 bits, 8 for powers of two.
    pub scales: u64,
    /// Found levels, zero points, and bit widths where channels differ.
    pub tables: u64,
}

impl SizeBits {
    /// All of it in bytes, rounded up.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        (self.codes + self.scales + self.tables).div_ceil(8)
    }
}

impl CodedWeight {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { shape, groups, codes, scales, tables, scale_bits, table_bits } = parts;
        assert!(tables.len() == 1 || tables.len() == groups.count(), "{} tables", tables.len());
        assert_eq!(scales.len(), groups.count(), "one scale per group");
        CodedWeight { shape, groups, codes, scales, tables, scale_bits, table_bits }
    }

    /// Part of a weight whose groups are one, as a weight of its own.
    pub(crate) fn part(&self, codes: Vec<u16>, shape: &[usize]) -> Self {
        let groups = Groups::of(Granularity::Tensor, shape).expect("a tensor is a group");
        CodedWeight { shape: shape.to_vec(), groups, codes, ..self.clone() }
    }

    /// The weight's shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// A code for each element, or for each vector, in element order.
    #[must_use]
    pub fn codes(&self) -> &[u16] {
        &self.codes
    }

    /// A scale for each group.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// One table for all groups, or one for each.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Which weights share a scale.
    #[must_use]
    pub fn granularity(&self) -> Granularity {
        self.groups.granularity()
    }

    /// Number of weights.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The group of an element.
    #[must_use]
    pub fn group_of(&self, element: usize) -> usize {
        self.groups.group_of(element)
    }

    /// The table of an element.
    #[must_use]
    pub fn table_of(&self, element: usize) -> &Table {
        match &self.tables[..] {
            [only] => only,
            all => &all[self.group_of(element)],
        }
    }

    /// Elements that share a code.
    #[must_use]
    pub fn dimension(&self) -> usize {
        match &self.tables[0] {
            Table::Vectors { dimension, .. } => *dimension,
            Table::Scalar(_) | Table::Basis(_) | Table::Hashed { .. } => 1,
        }
    }

    /// What the codes mean: level · scale in f32, in element order.
    #[must_use]
    pub fn decode(&self) -> Vec<f32> {
        let dimension = self.dimension();
        let value = |e: usize| {
            let level = self.table_of(e).value(self.codes[e / dimension], e % dimension);
            level * self.scales[self.group_of(e)]
        };
        (0..self.elements()).map(value).collect()
    }

    /// The codes of the levels at or below `value` and above it, for an element: beyond the ends twice the outermost.
    /// Where a code is not a number's rank (vectors, hashed weights), twice the element's own.
    #[must_use]
    pub fn neighbours(&self, element: usize, value: f32) -> (u16, u16) {
        match self.table_of(element).levels() {
            Some(levels) => levels.neighbours(value / self.scales[self.group_of(element)]),
            None => {
                let own = self.codes[element / self.dimension()];
                (own, own)
            }
        }
    }

    /// The same parameters with the nearest codes for other values. Hashed weights keep theirs.
    ///
    /// # Errors
    /// `Length` when there is not a value for each weight, `NotFinite`.
    pub fn round_to(&self, values: &[f32]) -> Result<CodedWeight, QuantError> {
        length("weights", values.len(), self.elements())?;
        finite(values)?;
        let dimension = self.dimension();
        let code = |i: usize| {
            let e = i * dimension;
            let scale = self.scales[self.group_of(e)];
            match self.table_of(e) {
                Table::Vectors { entries, .. } => {
                    let group = Group { values: &values[e..e + dimension], importance: None };
                    assign_vectors(&group, dimension, entries, scale)[0]
                }
                Table::Scalar(levels) => levels.project(values[e] / scale),
                Table::Basis(basis) => basis.levels.project(values[e] / scale),
                Table::Hashed { .. } => self.codes[i],
            }
        };
        let codes = (0..self.codes.len()).map(code).collect();
        Ok(CodedWeight { codes, ..self.clone() })
    }

    /// The same parameters with other codes.
    ///
    /// # Errors
    /// `Length` when there are not as many codes, `Code` when one names no level; of hashed weights every change.
    pub fn with_codes(&self, codes: Vec<u16>) -> Result<CodedWeight, QuantError> {
        length("codes", codes.len(), self.codes.len())?;
        for (i, &found) in codes.iter().enumerate() {
            let element = i * self.dimension();
            let table = self.table_of(element);
            let moved = matches!(table, Table::Hashed { .. }) && found != self.codes[i];
            if usize::from(found) >= table.len() || moved {
                return Err(QuantError::Code { found, element, levels: table.len() });
            }
        }
        Ok(CodedWeight { codes, ..self.clone() })
    }

    /// What `code` would mean for an element.
    #[must_use]
    pub fn value(&self, element: usize, code: u16) -> f32 {
        let level = self.table_of(element).value(code, element % self.dimension());
        level * self.scales[self.group_of(element)]
    }

    /// An int8 for each element and a scale for each channel (or one), where scales are per tensor or channel and every
    /// level is an integer -128..=127 times a unit: integer · scale is exactly what [`CodedWeight::decode`] gives.
    #[must_use]
    pub fn integers(&self) -> Option<(Vec<i8>, Vec<f32>)> {
        match self.groups.granularity() {
            Granularity::Tensor | Granularity::Channel => {}
            Granularity::Group { .. } | Granularity::Pixel | Granularity::Row => return None,
        }
        let tables: Option<Vec<(Vec<i8>, f32)>> = self.tables.iter().map(Table::integers).collect();
        let tables = tables?;
        let table = |group: usize| &tables[if tables.len() == 1 { 0 } else { group }];
        let dimension = self.dimension();
        let integer = |e: usize| {
            let code = usize::from(self.codes[e / dimension]);
            table(self.group_of(e)).0[code * dimension + e % dimension]
        };
        let scales = self.scales.iter().enumerate().map(|(group, scale)| scale * table(group).1);
        Some(((0..self.elements()).map(integer).collect(), scales.collect()))
    }

    /// The integer levels by code, where all groups share one table of integers; of vectors all numbers, one vector
    /// after the other.
    #[must_use]
    pub fn integer_table(&self) -> Option<Vec<i8>> {
        let [only] = &self.tables[..] else { return None };
        only.integers().map(|(integers, _)| integers)
    }

    /// Bits a code takes: the most of any group.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.tables.iter().map(Table::bits).max().unwrap_or(0)
    }

    fn width(&self, i: usize) -> u8 {
        self.table_of(i * self.dimension()).bits()
    }

    /// The codes as bits, each as wide as its group's codes are: [`crate::pack`].
    #[must_use]
    pub fn packed(&self) -> Vec<u8> {
        pack_widths(&self.codes, |i| self.width(i))
    }

    /// The same parameters with codes read from bits.
    ///
    /// # Errors
    /// `Length` when the number of bytes does not fit, `Code` when a code names no level.
    pub fn with_packed(&self, bytes: &[u8]) -> Result<CodedWeight, QuantError> {
        if self.is_hashed() {
            length("packed bytes", bytes.len(), 0)?;
            return Ok(self.clone());
        }
        self.with_codes(unpack_widths(bytes, self.codes.len(), |i| self.width(i))?)
    }

    /// The codes as an entropy-coded stream: [`encode_codes`]. Of hashed weights nothing.
    ///
    /// # Errors
    /// `Setting` for codes above 32767.
    pub fn compressed(&self) -> Result<Vec<u8>, QuantError> {
        if self.is_hashed() { Ok(vec![]) } else { encode_codes(&self.codes) }
    }

    /// The same parameters with codes read from an entropy-coded stream.
    ///
    /// # Errors
    /// `Corrupt` for bytes that are no such stream, `Length` and `Code` for codes that do not fit.
    pub fn with_compressed(&self, bytes: &[u8]) -> Result<CodedWeight, QuantError> {
        if self.is_hashed() {
            length("compressed bytes", bytes.len(), 0)?;
            return Ok(self.clone());
        }
        self.with_codes(decode_codes(bytes, self.codes.len())?)
    }

    fn is_hashed(&self) -> bool {
        matches!(self.tables[0], Table::Hashed { .. })
    }

    /// The same codes and tables with other scales, one for each group: how training moves the scale of a
    /// [`crate::ScaleRule::Learned`]. New codes for them are [`CodedWeight::round_to`]'s.
    ///
    /// # Errors
    /// `Length` when there is not a scale for each group, `NotFinite`, `Setting` unless all are above 0.
    pub fn with_scales(&self, scales: Vec<f32>) -> Result<CodedWeight, QuantError> {
        length("scales", scales.len(), self.scales.len())?;
        finite(&scales)?;
        let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
        setting("scale", f64::from(least), least > 0.0, "above 0")?;
        Ok(CodedWeight { scales, ..self.clone() })
    }

    /// Exact sizes, packed.
    #[must_use]
    pub fn size(&self) -> SizeBits {
        SizeBits {
            codes: (0..self.codes.len()).map(|i| u64::from(self.width(i))).sum(),
            scales: self.scales.len() as u64 * u64::from(self.scale_bits),
            tables: self.table_bits,
        }
    }
}

/// The size of weights that share scales and tables, as [`crate::Quantizer::fit_shared`] gives them.
#[must_use]
pub fn shared_size(weights: &[CodedWeight]) -> SizeBits {
    let mut size = weights.first().map(CodedWeight::size).unwrap_or_default();
    size.codes = weights.iter().map(|weight| weight.size().codes).sum();
    size
}
