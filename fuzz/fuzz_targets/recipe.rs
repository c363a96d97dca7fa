//! Any text is a recipe or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lowbit::Recipe;

fuzz_target!(|text: &str| {
    let _ = Recipe::from_toml(text, "fuzz");
});
