//! Entropy coding of codes: real bytes for pipelines that prune and cluster (Deep Compression, entropy-constrained
//! quantization).
//!
//! An asymmetric numeral system (`constriction`) codes each symbol with -log2 of its frequency, which is stored with
//! it. Two streams are tried and the shorter one kept:
//!
//! ```text
//! dense   the codes
//! runs    for each code other than the most frequent: how many of that one come before it, then the code
//! ```
//!
//! Runs win where the zeros of a pruned weight make less than a bit of a code and cluster. The layout, little-endian:
//!
//! ```text
//! kind (1 byte: 0 dense, 1 runs) · count (4) · [frequent code (2) · number of runs (4)] · a stream, or two: codes, runs
//! stream: alphabet size (varint) · frequency of each symbol, of 65536 (varints) · number of words (varint) · words (4 each)
//! ```
//!
//! Decoding trusts nothing: it allocates no more than the caller's limit and the input's length allow.

use constriction::UnwrapInfallible;
use constriction::stream::Decode;
use constriction::stream::model::ContiguousCategoricalEntropyModel;
use constriction::stream::stack::DefaultAnsCoder;

use crate::QuantError;

/// Frequencies are multiples of 2^-16.
const PRECISION: usize = 16;

/// Symbols that a stream may have: beyond, frequencies of 2^-16 would be too coarse.
const ALPHABET_MAX: usize = 32768;

type Model = ContiguousCategoricalEntropyModel<u32, Vec<u32>, PRECISION>;

/// A run is cut at this length, so that its alphabet stays small: what is longer continues in a run that ends with the
/// frequent code.
const RUN_MAX: usize = 255;

/// Compresses codes; [`decode_codes`] gives them back.
///
/// # Errors
/// `Setting` for codes above 32767 or more than 2^32 - 1 of them.
pub fn encode_codes(codes: &[u16]) -> Result<Vec<u8>, QuantError> {
    let most = codes.iter().copied().max().unwrap_or(0);
    let fits = usize::from(most) < ALPHABET_MAX;
    crate::error::setting("largest code", f64::from(most), fits, "at most 32767")?;
    let counted = u32::try_from(codes.len());
    let count = counted.map_err(|_| QuantError::Setting {
        name: "number of codes",
        found: codes.len() as f64,
        expected: "below 2^32",
    })?;
    let mut dense = vec![0];
    dense.extend(count.to_le_bytes());
    put_stream(&mut dense, codes);
    let (frequent, (symbols, runs)) = split_runs(codes);
    let mut sparse = vec![1];
    sparse.extend(count.to_le_bytes());
    sparse.extend(frequent.to_le_bytes());
    sparse.extend((runs.len() as u32).to_le_bytes());
    put_stream(&mut sparse, &symbols);
    put_stream(&mut sparse, &runs);
    Ok(if sparse.len() < dense.len() { sparse } else { dense })
}

/// The codes that [`encode_codes`] compressed, at most `limit`.
///
/// # Errors
/// `Corrupt` when the bytes cannot have come from the encoder or hold more than `limit` codes.
pub fn decode_codes(bytes: &[u8], limit: usize) -> Result<Vec<u16>, QuantError> {
    let mut input = Input(bytes);
    let kind = input.take(1)?[0];
    let count = input.u32()? as usize;
    if count > limit {
        return corrupt(format!("{count} codes"), "no more than the caller's limit");
    }
    let codes = match kind {
        0 => input.stream(count)?,
        1 => {
            let frequent = u16::from_le_bytes([input.take(1)?[0], input.take(1)?[0]]);
            let runs = input.u32()? as usize;
            if runs > count + 1 {
                return corrupt(format!("{runs} runs"), "at most one more than codes");
            }
            let symbols = input.stream(runs)?;
            let lengths = input.stream(runs)?;
            join_runs(count, frequent, (&symbols, &lengths))?
        }
        kind => return corrupt(format!("kind {kind}"), "0 or 1"),
    };
    if !input.0.is_empty() {
        return corrupt(format!("{} bytes more", input.0.len()), "none after the last stream");
    }
    Ok(codes)
}

/// Entropy of the codes in bits, Σ -log2 p of each: what no coder that takes them as independent can go below.
#[must_use]
pub fn entropy_bits(codes: &[u16]) -> f64 {
    let total = codes.len() as f64;
    let counts = count(codes).into_iter().filter(|&n| n > 0);
    counts.map(|n| -(n as f64) * (n as f64 / total).log2()).sum()
}

fn count(codes: &[u16]) -> Vec<u64> {
    let mut counts = vec![0; codes.iter().max().map_or(0, |&most| usize::from(most) + 1)];
    codes.iter().for_each(|&code| counts[usize::from(code)] += 1);
    counts
}

fn corrupt<T>(found: String, expected: &'static str) -> Result<T, QuantError> {
    Err(QuantError::Corrupt { found, expected })
}

/// The most frequent code, the others with the number of it before each. A run that is cut, or that the codes end with,
/// is followed by the frequent code itself.
fn split_runs(codes: &[u16]) -> (u16, (Vec<u16>, Vec<u16>)) {
    let counts = count(codes);
    let most = (0..counts.len()).max_by_key(|&code| (counts[code], usize::MAX - code));
    let frequent = most.unwrap_or(0) as u16;
    let (mut symbols, mut runs) = (vec![], vec![]);
    let mut run = 0;
    for (i, &code) in codes.iter().enumerate() {
        if code == frequent && run < RUN_MAX && i + 1 < codes.len() {
            run += 1;
            continue;
        }
        symbols.push(code);
        runs.push(run as u16);
        run = 0;
    }
    (frequent, (symbols, runs))
}

fn join_runs(
    count: usize,
    frequent: u16,
    (symbols, runs): (&[u16], &[u16]),
) -> Result<Vec<u16>, QuantError> {
    let total: usize = runs.iter().map(|&run| usize::from(run) + 1).sum();
    if total != count {
        return corrupt(format!("runs of {total} codes"), "as many as the header says");
    }
    let mut codes = Vec::with_capacity(count);
    for (&symbol, &run) in symbols.iter().zip(runs) {
        codes.extend(std::iter::repeat_n(frequent, usize::from(run)));
        codes.push(symbol);
    }
    Ok(codes)
}

/// Frequencies of 65536 in all, at least 1 for what occurs, the rest shared by the counts: the remainders go to the
/// largest counts, which suffer least.
fn frequencies(counts: &[u64]) -> Vec<u32> {
    let total: u64 = counts.iter().sum();
    let used = counts.iter().filter(|&&n| n > 0).count() as u64;
    let spare = (1u64 << PRECISION) - used;
    let share = |&n: &u64| {
        if n == 0 { 0 } else { 1 + (u128::from(n) * u128::from(spare) / u128::from(total)) as u32 }
    };
    let mut shares: Vec<u32> = counts.iter().map(share).collect();
    let left = (1u32 << PRECISION) - shares.iter().sum::<u32>();
    if let Some(largest) = (0..counts.len()).max_by_key(|&i| counts[i]) {
        shares[largest] += left;
    }
    shares
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a stream. One of no symbols, or of a single one repeated, has no words.
fn put_stream(out: &mut Vec<u8>, symbols: &[u16]) {
    let shares = frequencies(&count(symbols));
    put_varint(out, shares.len() as u32);
    shares.iter().for_each(|&share| put_varint(out, share));
    let used: Vec<u16> = (0..shares.len() as u16).filter(|&i| shares[usize::from(i)] > 0).collect();
    let mut words = vec![];
    if used.len() > 1 {
        let mut rank = vec![0; shares.len()];
        used.iter().enumerate().for_each(|(i, &symbol)| rank[usize::from(symbol)] = i);
        let model = model(&shares).expect("frequencies sum to 2^16");
        let mut coder = DefaultAnsCoder::new();
        let ranks = symbols.iter().map(|&symbol| rank[usize::from(symbol)]);
        let coded = coder.encode_iid_symbols_reverse(ranks, &model);
        coded.expect("every symbol that occurs has a frequency");
        words = coder.into_compressed().unwrap_infallible();
    }
    put_varint(out, words.len() as u32);
    words.iter().for_each(|word: &u32| out.extend(word.to_le_bytes()));
}

/// The model of the symbols that occur; `None` when their frequencies do not sum to 2^16.
fn model(shares: &[u32]) -> Option<Model> {
    let used = shares.iter().copied().filter(|&share| share > 0);
    Model::from_nonzero_fixed_point_probabilities(used, false).ok()
}

/// Bytes that are yet to be read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], QuantError> {
        let Some((head, tail)) = self.0.split_at_checked(count) else {
            return corrupt(format!("{} bytes", self.0.len()), "more: the stream is cut");
        };
        self.0 = tail;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, QuantError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn varint(&mut self) -> Result<u32, QuantError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        corrupt("a number of more than 28 bits".to_owned(), "at most 28 bits")
    }

    /// A stream of `count` symbols.
    fn stream(&mut self, count: usize) -> Result<Vec<u16>, QuantError> {
        let alphabet = self.varint()? as usize;
        if alphabet > ALPHABET_MAX {
            return corrupt(format!("{alphabet} symbols"), "at most 32768");
        }
        let shares: Vec<u32> = (0..alphabet).map(|_| self.varint()).collect::<Result<_, _>>()?;
        let words = self.varint()? as usize;
        let bytes = self.take(words * 4)?;
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let words: Vec<u32> = bytes.chunks_exact(4).map(word).collect();
        let used: Vec<u16> = (0..alphabet as u16).filter(|&i| shares[usize::from(i)] > 0).collect();
        let sum: u64 = shares.iter().map(|&share| u64::from(share)).sum();
        match used[..] {
            [] if count == 0 && words.is_empty() => Ok(vec![]),
            [only] if sum == 1 << PRECISION && words.is_empty() => Ok(vec![only; count]),
            [_, _, ..] if sum == 1 << PRECISION => decode_words(words, &shares, (&used, count)),
            _ => corrupt(format!("frequencies of {sum} in all"), "65536"),
        }
    }
}

fn decode_words(
    words: Vec<u32>,
    shares: &[u32],
    (used, count): (&[u16], usize),
) -> Result<Vec<u16>, QuantError> {
    let Some(model) = model(shares) else {
        return corrupt("frequencies that do not sum up".to_owned(), "65536 in all");
    };
    let Ok(mut coder) = DefaultAnsCoder::from_compressed(words) else {
        return corrupt("a last word of 0".to_owned(), "none");
    };
    let ranks = coder.decode_iid_symbols(count, &model);
    let codes: Vec<u16> = ranks.map(|rank| used[rank.unwrap_infallible()]).collect();
    if !coder.is_empty() {
        return corrupt("words after the last code".to_owned(), "none");
    }
    Ok(codes)
}

#[cfg(test)]
mod tests;
