//! Links in Markdown lead somewhere.

use std::collections::HashSet;

use super::{File, Violation};

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let mut known: HashSet<String> = HashSet::new();
    for file in files {
        known.insert(file.path.clone());
        let folders = file.path.match_indices('/').map(|(at, _)| file.path[..at].to_owned());
        known.extend(folders);
    }
    let pages = files.iter().filter(|file| file.path.ends_with(".md"));
    pages.flat_map(|page| of_page(page, &known)).collect()
}

fn of_page(page: &File, known: &HashSet<String>) -> Vec<Violation> {
    let mut fenced = false;
    let mut found = vec![];
    for (line, text) in page.lines() {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let targets = if fenced { vec![] } else { targets(text) };
        for target in targets {
            let to = resolve(&page.path, target);
            if to.as_ref().is_some_and(|to| !to.is_empty() && !known.contains(to)) {
                found.push(page.violation(line, format!("the link to \"{target}\" leads nowhere")));
            }
        }
    }
    found
}

/// The targets of a line's links, `[text](target)`, code left out.
fn targets(line: &str) -> Vec<&str> {
    // Code spans are every second part between backticks.
    let plain = line.split('`').collect::<Vec<_>>();
    let mut found = vec![];
    let mut offset = 0;
    for (i, part) in plain.iter().enumerate() {
        // A link's text may hold code, so that its target begins in a part that starts with `](`.
        if i % 2 == 0 {
            for (at, _) in part.match_indices("](") {
                let rest = &line[offset + at + 2..];
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                found.push(target.trim_matches(['<', '>']));
            }
        }
        offset += part.len() + 1;
    }
    found
}

/// The path a target means, from the root; `None` for what is not a file of this repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default().trim_end_matches('/');
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            // Beside the repository lies what tidy cannot know.
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
