use std::path::Path;

use lowbit_tensor::Rng;

use super::*;

fn check(text: &str, expected: &str) {
    let error = Recipe::from_toml(text, "r.toml").expect_err(text).to_string();
    assert!(error.contains(expected), "{text:?}: {error:?} lacks {expected:?}");
}

#[test]
fn keys_may_be_left_out() {
    assert_eq!(Recipe::from_toml("", "r.toml").unwrap(), Recipe::default());
    let text = "weights = \"int8-mse\"\nbias_correction = false";
    let recipe = Recipe::from_toml(text, "r.toml").unwrap();
    let weights = Quantizer::preset("int8-mse").unwrap();
    assert_eq!(recipe, Recipe { weights, steps: vec![], ..Recipe::default() });
}

#[test]
fn weights_may_have_an_importance_and_share_a_codebook() {
    let text = "base = \"kmeans4\"\nimportance = \"activations\"\nshared_codebook = true";
    let recipe = Recipe::from_toml(text, "r.toml").unwrap();
    assert_eq!((recipe.importance, recipe.shared_codebook), (Some(Importance::Activations), true));
    let text = "weights = \"int4-fisher\"\nimportance = \"activations\"";
    assert!(Recipe::from_toml(text, "r.toml").is_ok());
}

#[test]
fn a_file_changes_a_named_recipe() {
    let text = r#"
        base = "w4a8"
        [activations]
        bits = 4
        [ends]
        same = true
        [[layers]]
        kind = "depthwise"
        weights = { quantizer = "int4-mse", granularity = { per = "group", size = 32 } }
        [[steps]]
        step = "adaround"
        iterations = 7
    "#;
    let recipe = Recipe::from_toml(text, "r.toml").unwrap();
    assert_eq!((recipe.activation_bits, recipe.ends), (4, None));
    let weights = recipe.layers[0].weights.as_ref().unwrap();
    assert_eq!(weights.granularity, Granularity::Group { size: 32 });
    let [Step::Reconstruct(settings)] = &recipe.steps[..] else { panic!("{:?}", recipe.steps) };
    assert_eq!((settings.name(), settings.iterations), ("adaround", 7));
}

#[test]
fn errors_name_line_and_key() {
    check("weights = \"int8\"\nwidth = 4", "r.toml line 2: unknown field `width`");
    check("weights = \"best\"", "line 1: unknown quantizer \"best\"");
    check("weights = 4", "line 1: expected the name of a quantizer");
    check("activations = { rule = \"percentile\", percent = 20.0 }", "percent: found 20");
    check("activations = { rule = \"moving-average\", momentum = 0.0 }", "momentum: found 0");
    check("activations = { rule = \"mse\", percent = 99.0 }", "percent belongs to");
    check("\n[activations]\nbits = 9", "line 2: activation bits: found 9, expected 2 to 8");
    check("channel_scales = 3", "line 1: invalid type");
    check("base = \"int9\"", "line 1: base: no recipe \"int9\"");
    check(
        "[[steps]]\nstep = \"brecq\"\n[[steps]]\nstep = \"magic\"",
        "line 3: step: found \"magic\"",
    );
    check("[[steps]]\nstep = \"brecq\"\ndrop = 2.0", "drop: found 2, expected 0 to 1");
    check("[[steps]]\nstep = \"equalize\"\nceiling = \"low\"", "unknown variant `low`");
    check("[[steps]]\nstep = \"gptq\"\ndamping = 0.0", "damping: found 0");
    check("[[steps]]\nstep = \"channel-bits\"\nmost = 20", "most: found 20, expected 1 to 16");
    check(
        "[[steps]]\nstep = \"brecq\"\n[[steps]]\nstep = \"equalize\"",
        "line 3: step: equalize changes",
    );
    check(
        "[[steps]]\nstep = \"squant\"\niterations = 5",
        "line 1: squant: unknown field `iterations`",
    );
    check("[[steps]]\nstep = \"adaround\"\ndamping = 0.1", "adaround: unknown field `damping`");
    check("[[steps]]\niterations = 5", "line 1: steps: expected step = \"NAME\"");
    check(
        "[[steps]]\nstep = \"distillation\"\nbudget_mib = 5",
        "line 1: budget_mib: a network keeps no",
    );
    check("bias_correction = true\n[[steps]]\nstep = \"squant\"", "line 1: bias_correction: list");
    check("[ends]\nsame = true\nweights = \"int8\"", "line 2: ends: same = true leaves no room");
    check("\nimportance = \"labels\"", "line 2: unknown variant `labels`");
    check(
        "\nimportance = \"activations\"",
        "line 2: importance: the scale rule max-abs ignores it",
    );
    check(
        "importance = \"activations\"\nweights = \"int4-mse\"\n[[steps]]\nstep = \"channel-bits\"",
        "line 1: importance: the step channel-bits",
    );
    check(
        "weights = \"int4-mse\"\nshared_codebook = true",
        "line 2: shared_codebook: found weights",
    );
    check("calibration = \"none\"", "line 1: calibration: found \"none\", expected images");
    check("\ncalibration = { slack = 2.0 }", "line 2: calibration slack: found 2, expected 0 to 1");
    check("calibration = { size = 2 }", "line 1: expected \"images\", \"distilled\"");
    check("[[layers]]\nactivation_bits = 4", "line 1: layers: expected name or kind");
}

/// Every step there is, with the keys that differ from its own defaults.
const STEPS: &[&str] = &[
    "step = \"equalize\"\nceiling = \"skip\"",
    "step = \"outlier-channel-splitting\"\nshare = 0.1",
    "step = \"bias-correction\"",
    "step = \"empirical-bias-correction\"",
    "step = \"batch-norm-reestimation\"",
    "step = \"channel-bits\"\nmost = 6",
    "step = \"squant\"",
    "step = \"gptq\"\ndamping = 0.1",
    "step = \"adaround\"\npull = 3.0",
    "step = \"adaquant\"\nrate = 0.02",
    "step = \"brecq\"\nsettled = 0.5",
    "step = \"qdrop\"\ndrop = 0.25",
    "step = \"distillation\"\nfeatures = 1.0",
];

#[test]
fn steps_go_through_json_unchanged() {
    let text: String = STEPS.iter().map(|step| format!("[[steps]]\n{step}\n")).collect();
    let recipe = Recipe::from_toml(&text, "r.toml").unwrap();
    let names = recipe.float_steps.iter().map(FloatStep::name);
    let names: Vec<&str> = names.chain(recipe.steps.iter().map(Step::name)).collect();
    let typed: Vec<&str> = STEPS.iter().filter_map(|step| step.split('"').nth(1)).collect();
    assert_eq!(names, typed);
    let json = serde_json::to_string(&recipe).unwrap();
    assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe, "{json}");
}

#[test]
fn an_unknown_name_lists_the_names() {
    let error = Recipe::open("int9").unwrap_err().to_string();
    assert!(error.contains("int9") && error.contains("there are: int8, "), "{error}");
}

#[test]
fn names_match_with_stars() {
    let is = |pattern: &str, text: &str| glob(pattern.as_bytes(), text.as_bytes());
    assert!(is("*/conv1/*", "/layer1/conv1/Conv") && is("a", "a") && is("*", ""));
    assert!(!is("conv", "conv1") && !is("*/conv2/*", "/layer1/conv1/Conv"));
}

/// The fuzz target's seeds, as they are and with bytes changed: a recipe or an error, never a panic.
#[test]
fn seeds_and_their_mutations_do_not_panic() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/recipe");
    let mut rng = Rng::new(7);
    let mut seen = 0;
    for entry in std::fs::read_dir(seeds).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        seen += 1;
        for round in 0..400 {
            let mut bytes = seed.clone();
            for _ in 0..round % 5 {
                let at = rng.below(bytes.len());
                bytes[at] = rng.below(256) as u8;
            }
            let _ = Recipe::from_toml(&String::from_utf8_lossy(&bytes), "seed");
        }
    }
    assert!(seen >= 4, "the seeds are there");
}

#[test]
fn every_recipe_that_has_a_name_opens() {
    for preset in PRESETS {
        let (name, recipe) = Recipe::open(preset.name).unwrap();
        assert_eq!((name.as_str(), recipe), (preset.name, (preset.recipe)()));
    }
}
