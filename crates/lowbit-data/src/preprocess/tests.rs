use super::*;

fn info(width: usize, height: usize, channels: usize) -> ImageInfo {
    ImageInfo { width, height, channels }
}

fn image(width: usize, height: usize, channels: usize) -> Image {
    let bytes = (0..width * height * channels).map(|i| (i * 37 % 256) as u8).collect();
    Image::new(info(width, height, channels), bytes).unwrap()
}

fn apply(preprocess: &Preprocess, image: &Image) -> Vec<f32> {
    let shape = preprocess.output_shape(&image.info()).unwrap();
    let mut out = vec![f32::NAN; shape.iter().product()];
    preprocess.apply(image, &mut out).unwrap();
    out
}

#[test]
fn resize_is_parsed_and_refused() {
    let cases = [
        ("224x192", Ok(Resize::Exact { width: 224, height: 192 })),
        ("256", Ok(Resize::ShortSide(256))),
        ("", Err("found resize = \"\", expected WxH")),
        ("x", Err("found resize = \"x\", expected WxH")),
        ("224x", Err("found resize = \"224x\", expected WxH")),
        ("2x3x4", Err("found resize = \"2x3x4\", expected WxH")),
        ("0", Err("found resize = 0, expected sides of 1 to 16384")),
        ("16385x1", Err("found resize = 16385x1, expected sides of 1 to 16384")),
    ];
    for (text, expected) in cases {
        match (text.parse::<Resize>(), expected) {
            (Ok(resize), Ok(expected)) => assert_eq!(resize, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (result, _) => panic!("{text}: {result:?}"),
        }
    }
}

#[test]
fn words_list_the_valid_ones() {
    let error = "lanczos".parse::<Filter>().unwrap_err().to_string();
    let expected = "preprocessing: found filter = \"lanczos\", expected one of: bilinear, bicubic";
    assert_eq!(error, expected);
    assert_eq!(parse_numbers("mean", "0.5, 1,-2").unwrap(), [0.5, 1.0, -2.0]);
    assert!(parse_numbers("mean", "0.5,,1").unwrap_err().to_string().contains("A or A,B,C"));
}

#[test]
fn short_side_and_crop_round_as_torchvision() {
    // int(size * long / short) and int(round((size - crop) / 2.0)) in Python.
    let short = [((500, 375), 256, (341, 256)), ((375, 500), 256, (256, 341)), ((7, 7), 3, (3, 3))];
    for ((width, height), side, expected) in short {
        assert_eq!(Resize::ShortSide(side).size_of(&info(width, height, 3)), expected);
    }
    for (size, crop, expected) in [(8, 8, 0), (9, 8, 0), (10, 8, 1), (11, 8, 2), (13, 8, 2)] {
        assert_eq!(center_offset(size, crop), expected, "{size} {crop}");
    }
}

#[test]
fn values_follow_the_formula_in_every_layout_and_order() {
    let image = image(7, 5, 3);
    let (mean, std) = (vec![1.5, 2.5, 3.5], vec![2.0, 4.0, 8.0]);
    for (channels, order) in [(Channels::Rgb, [0, 1, 2]), (Channels::Bgr, [2, 1, 0])] {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let preprocess = Preprocess {
                crop: Some(3),
                scale: 3.0,
                mean: mean.clone(),
                std: std.clone(),
                channels,
                layout,
                ..Preprocess::default()
            };
            let out = apply(&preprocess, &image);
            for (c, y, x) in (0..27).map(|i| (i / 9, i / 3 % 3, i % 3)) {
                let pixel = image.pixels()[((y + 1) * 7 + x + 2) * 3 + order[c]];
                let expected = (f32::from(pixel) / 3.0 - mean[c]) / std[c];
                let at = match layout {
                    Layout::Nchw => (c * 3 + y) * 3 + x,
                    Layout::Nhwc => (y * 3 + x) * 3 + c,
                };
                assert_eq!(out[at], expected, "{channels} {layout} {c} {y} {x}");
            }
        }
    }
}

#[test]
fn planar_bytes_give_the_same_values() {
    let image = image(6, 4, 3);
    let planar: Vec<u8> =
        (0..3).flat_map(|c| image.pixels().iter().skip(c).step_by(3).copied()).collect();
    let pixels = Pixels { info: image.info(), bytes: &planar, order: ByteOrder::Planar };
    for resize in [None, Some(Resize::Exact { width: 3, height: 9 })] {
        for channels in [Channels::Rgb, Channels::Bgr, Channels::Gray] {
            let preprocess = Preprocess { resize, channels, ..Preprocess::default() };
            let expected = apply(&preprocess, &image);
            let mut out = vec![f32::NAN; expected.len()];
            preprocess.apply_pixels(pixels, &mut out).unwrap();
            assert_eq!(out, expected, "{preprocess}");
        }
    }
}

#[test]
fn gray_repeats_and_color_becomes_luma() {
    let gray = image(4, 3, 1);
    let out = apply(&Preprocess::default(), &gray);
    assert!(out[..12] == out[12..24] && out[..12] == out[24..]);
    let color = Image::new(info(1, 1, 3), vec![200, 100, 50]).unwrap();
    let preprocess = Preprocess { channels: Channels::Gray, scale: 1.0, ..Preprocess::default() };
    // PIL: Image.new("RGB", (1, 1), (200, 100, 50)).convert("L").getpixel((0, 0)).
    assert_eq!(apply(&preprocess, &color), [124.0]);
}

#[test]
fn a_crop_larger_than_the_image_is_refused() {
    let preprocess = Preprocess { crop: Some(8), ..Preprocess::default() };
    let error = preprocess.output_shape(&info(9, 7, 3)).unwrap_err().to_string();
    assert_eq!(error, "preprocessing: found crop = 8, expected at most the image's size, here 9x7");
    let preprocess = Preprocess { resize: Some(Resize::ShortSide(224)), ..Preprocess::default() };
    let error = preprocess.output_shape(&info(16384, 1, 3)).unwrap_err().to_string();
    assert!(error.contains("resize = 224 giving 3670016x224"), "{error}");
}

#[test]
fn toml_and_json_round_trip() {
    let text = "resize = 256\nfilter = \"bilinear\"\ncrop = 224\nmean = [0.485, 0.456, 0.406]\n\
                std = [0.229, 0.224, 0.225]\nchannels = \"bgr\"\nlayout = \"nhwc\"\n";
    let preprocess = Preprocess::from_toml(text, "p.toml").unwrap();
    assert_eq!(preprocess.resize, Some(Resize::ShortSide(256)));
    assert_eq!(preprocess.scale, 255.0);
    assert_eq!(Preprocess::from_json(&preprocess.to_json()).unwrap(), preprocess);
    let default = Preprocess::default();
    assert_eq!(Preprocess::from_toml("", "empty.toml").unwrap(), default);
    assert_eq!(Preprocess::from_json(&default.to_json()).unwrap(), default);
    let shown = "resize=256 filter=bilinear crop=224 scale=255 mean=0.485,0.456,0.406 \
                 std=0.229,0.224,0.225 channels=bgr layout=nhwc";
    assert_eq!(preprocess.to_string(), shown);
}

#[test]
fn wrong_toml_names_line_and_key() {
    let cases = [
        ("crop = 224\nmeen = [1.0]", "p.toml line 2 (`meen = [1.0]`): unknown field `meen`"),
        ("resize = \"big\"", "p.toml line 1 (`resize = \"big\"`): preprocessing: found resize"),
        ("resize = true", "p.toml line 1 (`resize = true`): resize: a text"),
        ("filter = \"area\"", "p.toml line 1 (`filter = \"area\"`): unknown variant `area`"),
        ("mean = [0.5, 0.5]", "preprocessing: found mean = [0.5, 0.5], expected 1 or 3 finite"),
        ("mean = []", "preprocessing: found mean = [], expected 1 or 3 finite numbers"),
        ("std = [1.0, 0.0, 1.0]", "preprocessing: found std = 0, expected numbers above 0"),
        ("scale = 0", "preprocessing: found scale = 0, expected a number above 0"),
        ("crop = 0", "preprocessing: found crop = 0, expected 1 to 16384"),
        ("mean = [nan]", "preprocessing: found mean = [NaN], expected 1 or 3 finite numbers"),
        ("channels = \"gray\"\nstd = [1, 2, 3]", "preprocessing: found std = [1.0, 2.0, 3.0]"),
        ("crop = ", "p.toml line 1 (`crop =`)"),
    ];
    for (text, expected) in cases {
        let error = Preprocess::from_toml(text, "p.toml").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}
