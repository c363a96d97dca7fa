use proptest::prelude::*;

use super::*;

fn check(codes: &[u16]) {
    let bytes = encode_codes(codes).unwrap();
    assert_eq!(decode_codes(&bytes, codes.len()).unwrap(), codes);
    if !codes.is_empty() {
        assert!(decode_codes(&bytes, codes.len() - 1).is_err());
    }
}

/// Codes of which `zeros` percent are 3, the others 0..16 with falling probability.
fn sparse(seed: u64, count: usize, zeros: usize) -> Vec<u16> {
    let mut rng = lowbit_tensor::Rng::new(seed);
    let code = |_| {
        if rng.below(100) < zeros { 3 } else { (rng.uniform() * rng.uniform() * 16.0) as u16 }
    };
    (0..count).map(code).collect()
}

proptest! {
    #[test]
    fn coding_loses_nothing(codes in prop::collection::vec(0u16..40, 0..300)) {
        check(&codes);
    }

    #[test]
    fn sparse_codes_survive(seed in any::<u64>(), count in 0usize..3000, zeros in 0usize..=100) {
        check(&sparse(seed, count, zeros));
    }

    #[test]
    fn hostile_bytes_are_an_error_or_few_codes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(codes) = decode_codes(&bytes, 1000) {
            prop_assert!(codes.len() <= 1000);
        }
    }

    #[test]
    fn a_changed_byte_does_no_harm(at in 0usize..400, to in any::<u8>()) {
        let codes = sparse(1, 1500, 60);
        let mut bytes = encode_codes(&codes).unwrap();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(decoded) = decode_codes(&bytes, 2000) {
            prop_assert!(decoded.len() <= 2000);
        }
        prop_assert!(decode_codes(&bytes[..at], 2000).is_err());
    }
}

#[test]
fn special_cases_survive() {
    check(&[]);
    check(&[7]);
    check(&[0; 1000]);
    check(&[32767, 0, 1]);
    check(&[[5; 255].as_slice(), &[5; 3], &[1], &[5; 600]].concat());
    assert!(encode_codes(&[32768]).is_err());
    // A single repeated code costs its header only.
    assert!(encode_codes(&[9; 100_000]).unwrap().len() < 30);
}

#[test]
fn bytes_come_near_the_entropy() {
    for zeros in [0, 50, 90, 99] {
        let codes = sparse(2, 50_000, zeros);
        let bytes = encode_codes(&codes).unwrap().len() as f64;
        let bound = entropy_bits(&codes) / 8.0;
        assert!(bytes < bound * 1.01 + 60.0, "{zeros} %: {bytes} bytes, bound {bound}");
    }
    assert_eq!(entropy_bits(&[0, 1, 2, 3]), 8.0);
}

#[test]
fn runs_win_where_zeros_cluster() {
    let mut codes = vec![0u16; 10_000];
    (0..10_000).filter(|i| i / 500 % 4 == 0).for_each(|i| codes[i] = (i % 7) as u16 + 1);
    let bytes = encode_codes(&codes).unwrap();
    assert_eq!(bytes[0], 1);
    assert!((bytes.len() as f64) < entropy_bits(&codes) / 8.0);
    check(&codes);
}

#[test]
fn the_decoder_says_what_is_wrong() {
    let error = |bytes: &[u8]| decode_codes(bytes, 10).unwrap_err().to_string();
    assert!(error(&[]).contains("cut"));
    assert!(error(&[9, 1, 0, 0, 0]).contains("kind 9"));
    assert!(error(&[0, 255, 255, 255, 255]).contains("4294967295 codes"));
    let mut bytes = encode_codes(&[1, 2, 3]).unwrap();
    bytes.push(0);
    assert!(error(&bytes).contains("1 bytes more"));
    // Alphabet of two symbols with a frequency of 1 each.
    assert!(error(&[0, 1, 0, 0, 0, 2, 1, 1, 0]).contains("frequencies of 2 in all"));
}
