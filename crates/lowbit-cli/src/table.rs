//! Tables and numbers for people: aligned columns, units, bars.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Longest cell before it is cut.
const CELL_MAX: usize = 60;

/// Lays out `rows` under `head` with two spaces between columns; every line starts with two. An empty head is left out.
pub(crate) fn render(head: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| visible_len(&shortened(&row[column])));
        cells.chain([head[column].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded = cells.enumerate().map(|(column, cell)| {
            let gap = " ".repeat(widths[column].saturating_sub(visible_len(&cell)));
            match head[column].1 {
                Align::Left => cell + &gap,
                Align::Right => gap + &cell,
            }
        });
        let text = padded.collect::<Vec<_>>().join("  ");
        format!("  {}\n", text.trim_end())
    };
    let mut text = String::new();
    if head.iter().any(|(name, _)| !name.is_empty()) {
        text += &line(&mut head.iter().map(|(name, _)| (*name).to_owned()));
    }
    for row in rows {
        text += &line(&mut row.iter().map(|cell| shortened(cell)));
    }
    text
}

/// Characters that take room: escapes take none.
fn visible_len(text: &str) -> usize {
    let mut escape = false;
    let visible = |c: char| {
        let counted = !escape && c != '\x1b';
        escape = if escape { c != 'm' } else { c == '\x1b' };
        counted
    };
    text.chars().map(visible).filter(|&counted| counted).count()
}

/// A long cell with its middle left out: names of nodes differ at their ends.
fn shortened(cell: &str) -> String {
    if cell.contains('\x1b') || cell.chars().count() <= CELL_MAX {
        return cell.to_owned();
    }
    let chars: Vec<char> = cell.chars().collect();
    let (head, tail) = (CELL_MAX / 3, CELL_MAX - CELL_MAX / 3 - 1);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let grouped = digits.as_bytes().rchunks(3).rev();
    grouped.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",")
}

/// A number with a decimal prefix: `317.8 K`, followed by the caller's unit.
pub(crate) fn prefixed(n: u64, unit: &str) -> String {
    let prefixes = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "K")];
    match prefixes.iter().find(|(size, _)| n >= *size) {
        Some((size, prefix)) => format!("{:.1} {prefix}{unit}", n as f64 / *size as f64),
        None if unit.is_empty() => n.to_string(),
        None => format!("{n} {unit}"),
    }
}

/// A bar of `share` (0 to 1) of `width` cells, in eighths of a cell.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_around_escapes() {
        let rows = [vec!["a".into(), "\x1b[1m10\x1b[0m".into()], vec!["long".into(), "5".into()]];
        let text = render(&[("name", Align::Left), ("n", Align::Right)], &rows);
        assert_eq!(text, "  name   n\n  a     \x1b[1m10\x1b[0m\n  long   5\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(prefixed(317_791, "B"), "317.8 KB");
        assert_eq!(prefixed(12, "B"), "12 B");
        assert_eq!(bar(0.5, 4), "██");
        assert_eq!(bar(2.0, 3), "███");
        assert_eq!(bar(0.0, 3), "");
    }

    #[test]
    fn long_names_keep_their_ends() {
        let cell = shortened(&format!("{}end", "x".repeat(200)));
        assert_eq!(cell.chars().count(), CELL_MAX);
        assert!(cell.ends_with("end"));
    }
}
