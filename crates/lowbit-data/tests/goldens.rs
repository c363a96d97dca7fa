//! Decoding and resizing against Pillow, whose results goldens/make.py stored.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use lowbit_data::{Channels, Filter, Image, Layout, Preprocess, Resize};

fn goldens() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The rows of a table without its header.
fn rows(table: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(goldens().join(table)).unwrap();
    text.lines().skip(1).map(|line| line.split(',').map(String::from).collect()).collect()
}

fn number(text: &str) -> usize {
    text.parse().unwrap()
}

#[test]
fn resizing_equals_pillow_exactly() {
    let expected = std::fs::read(goldens().join("resized.bin")).unwrap();
    let cases = rows("cases.csv");
    assert_eq!(cases.len(), 28);
    for case in cases {
        let image = Image::open(goldens().join(&case[0])).unwrap();
        let gray = image.channels() == 1;
        let preprocess = Preprocess {
            resize: Some(Resize::Exact { width: number(&case[2]), height: number(&case[3]) }),
            filter: case[1].parse::<Filter>().unwrap(),
            scale: 1.0,
            channels: if gray { Channels::Gray } else { Channels::Rgb },
            layout: Layout::Nhwc,
            ..Preprocess::default()
        };
        let mut out = vec![0.0; number(&case[5])];
        preprocess.apply(&image, &mut out).unwrap();
        let found: Vec<u8> = out.iter().map(|&value| value as u8).collect();
        assert!(found == expected[number(&case[4])..][..out.len()], "{case:?}");
    }
}

/// The largest difference of a byte that a decoding may show: PNG none; JPEG what the decoders' inverse transforms and color
/// conversions differ by.
fn tolerance(file: &str) -> u8 {
    match file {
        "gray.jpg" | "cmyk.jpg" => 1,
        file if file.ends_with(".jpg") => 3,
        _ => 0,
    }
}

#[test]
fn decoding_agrees_with_pillow() {
    let expected = std::fs::read(goldens().join("decoded.bin")).unwrap();
    let cases = rows("decode.csv");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let image = Image::open(goldens().join(&case[0])).unwrap();
        let info = image.info();
        let size = [info.channels, info.width, info.height];
        assert_eq!(size, [number(&case[1]), number(&case[2]), number(&case[3])], "{case:?}");
        let expected = &expected[number(&case[4])..][..number(&case[5])];
        let differences = image.pixels().iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
        let highest = differences.clone().max().unwrap();
        let mean = differences.map(f64::from).sum::<f64>() / expected.len() as f64;
        assert!(highest <= tolerance(&case[0]), "{case:?}: mean {mean:.3} highest {highest}");
    }
}

#[test]
fn sixteen_bit_gray_is_refused() {
    let error = Image::open(goldens().join("gray_16_bits.png")).unwrap_err().to_string();
    let end = "found a grayscale PNG of 16 bits per pixel, expected 8 bits per channel";
    assert!(error.ends_with(end), "{error}");
}
