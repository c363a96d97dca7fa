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
    let recipe = Recipe::from_toml("weights = \"mse\"\nbias_correction = false", "r.toml").unwrap();
    assert_eq!(
        recipe,
        Recipe { weights: WeightRule::Mse, bias_correction: false, ..Recipe::default() }
    );
}

#[test]
fn errors_name_line_and_key() {
    check("weights = \"mse\"\nwidth = 4", "r.toml line 2: unknown field `width`");
    check("weights = \"best\"", "line 1: unknown variant `best`");
    check("activations = { rule = \"percentile\", percent = 20.0 }", "percent: found 20");
    check("activations = { rule = \"moving-average\", momentum = 0.0 }", "momentum: found 0");
    check("channel_scales = 3", "line 1: invalid type");
}

#[test]
fn an_unknown_name_lists_the_names() {
    let error = Recipe::open("int9").unwrap_err().to_string();
    assert!(error.contains("int9") && error.contains("the one there is: int8"), "{error}");
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
