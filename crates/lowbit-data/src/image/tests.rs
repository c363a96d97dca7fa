use super::*;

const JPEG: &[u8] = include_bytes!("../../tests/goldens/rgb_420.jpg");
const PNG: &[u8] = include_bytes!("../../tests/goldens/rgb.png");

fn check(bytes: &[u8], expected: &str) {
    let error = Image::decode(bytes, "dog.jpg").unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn what_is_no_image_is_refused() {
    check(b"", "dog.jpg: found an empty file, expected a JPEG or PNG image");
    check(b"GIF89a", "dog.jpg: found a file that begins with [47, 49, 46, 38]");
}

#[test]
fn truncated_images_are_refused_at_any_length() {
    const PROGRESSIVE: &[u8] = include_bytes!("../../tests/goldens/rgb_422_progressive.jpg");
    // What may be missing: the end markers, and the checksum of the pixels.
    for (format, bytes, end) in [("JPEG", JPEG, 2), ("JPEG", PROGRESSIVE, 2), ("PNG", PNG, 16)] {
        for length in 8..bytes.len() - end {
            check(&bytes[..length], &format!("dog.jpg: cannot decode this {format} image"));
        }
    }
}

#[test]
fn corrupt_images_are_refused_or_decoded_but_never_panic() {
    for bytes in [JPEG, PNG] {
        for at in 4..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0xff;
            let _ = Image::decode(&bytes, "corrupt");
        }
    }
}

#[test]
fn huge_sizes_are_refused_before_the_pixels_are_allocated() {
    // The height and width of the frame header, after its marker, length and precision.
    let frame = JPEG.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    let mut jpeg = JPEG.to_vec();
    jpeg[frame + 5..frame + 9].fill(0xff);
    check(&jpeg, "dog.jpg: found an image of 65535x65535x3");
    let mut png = PNG.to_vec();
    png[16..24].copy_from_slice(&[0, 0, 0x40, 1, 0, 0, 0x40, 1]);
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    check(&png, "dog.jpg: found an image of 16385x16385x3");
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[test]
fn an_image_is_of_one_or_three_full_channels() {
    let info = |channels| ImageInfo { width: 2, height: 3, channels };
    assert!(Image::new(info(3), vec![0; 18]).is_ok());
    for (channels, bytes) in [(3, 17), (2, 12), (1, 7)] {
        assert!(Image::new(info(channels), vec![0; bytes]).is_err(), "{channels} {bytes}");
    }
}
