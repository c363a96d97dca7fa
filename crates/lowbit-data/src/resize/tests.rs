use super::*;

#[test]
fn a_flat_image_stays_flat() {
    for filter in [Filter::Bilinear, Filter::Bicubic] {
        for (width, height) in [(1, 1), (5, 300), (64, 64), (63, 65), (200, 7)] {
            let info = ImageInfo { width: 64, height: 64, channels: 3 };
            let resized = resize(&[201; 64 * 64 * 3], info, (width, height), filter);
            assert_eq!(resized, vec![201; width * height * 3], "{filter} {width}x{height}");
        }
    }
}

#[test]
fn channels_do_not_mix() {
    let info = ImageInfo { width: 9, height: 7, channels: 3 };
    let bytes: Vec<u8> = (0..9 * 7 * 3).map(|i| (i * 89 % 256) as u8).collect();
    let all = resize(&bytes, info, (5, 11), Filter::Bicubic);
    for channel in 0..3 {
        let one: Vec<u8> = bytes.iter().skip(channel).step_by(3).copied().collect();
        let one = resize(&one, ImageInfo { channels: 1, ..info }, (5, 11), Filter::Bicubic);
        assert!(all.iter().skip(channel).step_by(3).eq(&one), "channel {channel}");
    }
}
