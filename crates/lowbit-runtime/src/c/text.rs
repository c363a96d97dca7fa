//! The text of the two files.

use std::fmt::{Display, Write};

use super::costs::Costs;
use super::exported::Exported;
use super::golden::{Golden, INCREMENT, MULTIPLIER, SEED};
use super::unit::Unit;

/// Columns that lines of numbers keep within.
const WIDTH: usize = 118;

/// A float that C reads as the same bits: the shortest decimal that does.
pub(super) fn float(value: f32) -> String {
    format!("{value:e}f")
}

/// A constant array.
pub(super) fn array<T: Display>(
    kind: &str,
    name: &str,
    values: impl IntoIterator<Item = T>,
) -> String {
    let mut lines = vec![String::new()];
    let mut count = 0;
    for value in values {
        let value = format!("{value},");
        let line = lines.last_mut().filter(|line| line.len() + value.len() + 5 <= WIDTH);
        match line {
            Some(line) => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(&value);
            }
            None => lines.push(value),
        }
        count += 1;
    }
    format!("static const {kind} {name}[{count}] = {{\n    {}\n}};\n", lines.join("\n    "))
}

/// A name that cannot end the comment it stands in.
pub(super) fn comment(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    name.chars().map(plain).collect::<String>().replace("*/", "* /").replace("/*", "/ *")
}

pub(super) fn header(exported: &Exported, name: &str, costs: &Costs) -> String {
    let upper = name.to_uppercase();
    let [height, width, channels] = exported.value(exported.codes).image();
    let scores = exported.value(exported.scores).len();
    let order = if exported.quantize.pixels { "pixel by pixel" } else { "channel by channel" };
    let softmax = match &exported.softmax {
        Some(name) => {
            format!(" What the model's softmax \"{}\" makes of them is left out.", comment(name))
        }
        None => String::new(),
    };
    let arena = costs.arena_bytes;
    format!(
        r#"/* {model}: written by lowbit export --to c. Not reentrant: all runs share one static arena. */
#ifndef {upper}_H
#define {upper}_H

#include <stdint.h>

#define {upper}_IMAGE_HEIGHT {height}
#define {upper}_IMAGE_WIDTH {width}
#define {upper}_IMAGE_CHANNELS {channels}
#define {upper}_INPUT_LEN {input}
#define {upper}_SCORES {scores}
#define {upper}_ARENA_BYTES {arena}

#ifdef __cplusplus
extern "C" {{
#endif

/* Codes of an image of floats, as the model reads them: {order}. */
void {name}_quantize(const float image[{upper}_INPUT_LEN], uint8_t codes[{upper}_INPUT_LEN]);

/* The scores of an image of codes, which lie row by row, pixel by pixel, channel by channel.{softmax}
   Returns the first of the highest scores. */
int {name}_run(const uint8_t codes[{upper}_INPUT_LEN], float scores[{upper}_SCORES]);

#ifdef {upper}_SELFTEST
/* How many scores of a known image are not what they must be, to the bit: 0 when all is well. */
int {name}_selftest(void);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"#,
        model = comment(&exported.network.name),
        input = costs.input_bytes,
    )
}

pub(super) fn source(
    exported: &Exported,
    (unit, golden): (&Unit, &Golden),
    name: &str,
    costs: &Costs,
) -> String {
    let mut text = head(exported, unit, name, costs);
    for kernel in &unit.kernels {
        let _ = writeln!(text, "{}", kernel.text());
    }
    let _ = writeln!(text, "{}", unit.constants.join("\n"));
    let upper = name.to_uppercase();
    let calls = unit.calls.join("\n    ");
    let _ = write!(
        text,
        "void {name}_quantize(const float image[{upper}_INPUT_LEN], uint8_t codes[{upper}_INPUT_LEN])\n\
         {{\n    quantize(&input, image, codes);\n}}\n\n\
         int {name}_run(const uint8_t codes[{upper}_INPUT_LEN], float scores[{upper}_SCORES])\n\
         {{\n    {calls}\n    return best(scores, {upper}_SCORES);\n}}\n\n"
    );
    text.push_str(&selftest(golden, name));
    text
}

fn head(exported: &Exported, unit: &Unit, name: &str, costs: &Costs) -> String {
    let upper = name.to_uppercase();
    let sums = if unit.sums { "\n#define SUMS\n" } else { "" };
    let row = if unit.row_bytes > 0 {
        format!(
            "/* Where the weights of one output are unpacked. */\n#define ROW {}\n\n",
            costs.arena_bytes - unit.row_bytes
        )
    } else {
        String::new()
    };
    format!(
        r#"/* {model}: written by lowbit export --to c.
 *
 * flash: bytes of constants; arena: bytes of static memory while the step runs.
 * The caller holds {input} bytes of codes and {scores} floats.
 *
{table} */
#include "{name}.h"

#include <float.h>
#include <string.h>

#if FLT_EVAL_METHOD == 2
#error "floats are computed in a wider format here: on x86, give -msse2 -mfpmath=sse"
#endif
#ifdef __FAST_MATH__
#error "scores depend on exact floats: leave out -ffast-math"
#endif
{sums}
static uint8_t arena[{upper}_ARENA_BYTES];

{row}"#,
        model = comment(&exported.network.name),
        input = costs.input_bytes,
        scores = exported.value(exported.scores).len(),
        table = costs.table(),
    )
}

fn selftest(golden: &Golden, name: &str) -> String {
    let upper = name.to_uppercase();
    let expected =
        array("uint32_t", "expected", golden.0.iter().map(|bits| format!("{bits:#010x}")));
    format!(
        r"#ifdef {upper}_SELFTEST
/* The bits of the scores of noise. */
{expected}
int {name}_selftest(void)
{{
    static uint8_t codes[{upper}_INPUT_LEN];
    static float scores[{upper}_SCORES];
    uint32_t state = {SEED};
    int wrong = 0;
    for (int32_t i = 0; i < {upper}_INPUT_LEN; i++) {{
        state = state * {MULTIPLIER}u + {INCREMENT}u;
        codes[i] = (uint8_t)(state >> 24);
    }}
    {name}_run(codes, scores);
    for (int32_t i = 0; i < {upper}_SCORES; i++) {{
        uint32_t bits;
        memcpy(&bits, &scores[i], sizeof bits);
        wrong += bits != expected[i];
    }}
    return wrong;
}}
#endif
"
    )
}
