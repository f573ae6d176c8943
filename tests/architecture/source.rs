//! Reads sources: their files, their code without comments and literals, and their literals alone.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the crate, by their paths.
pub(crate) fn sources() -> Vec<PathBuf> {
    rust_files(&root().join("src"))
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The first level under `src`: `src/store/flows.rs` and `src/store.rs` are `store`.
pub(crate) fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

/// `src/store/batch/lane.rs` is `store::batch::lane`.
pub(crate) fn path_of_module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap();
    let names = inside.with_extension("");
    names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("::")
}

pub(crate) fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code without comments and literals, and with no space around `::`.
pub(crate) fn code_of(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped > 0 {
            rest = &rest[skipped..];
            code.push(' ');
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    let words: Vec<&str> = code.split_whitespace().collect();
    words.join(" ").replace(" ::", "::").replace(":: ", "::")
}

/// Bytes of the comment or literal that `rest` begins with, 0 if with none.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let end_of = |needle: &str, from: usize| {
        rest[from..].find(needle).map_or(rest.len(), |at| from + at + needle.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return end_of("*/", 2);
    }
    if rest.starts_with('r') && !before.is_some_and(is_identifier) {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        if rest[1 + hashes..].starts_with('"') {
            return end_of(&format!("\"{}", "#".repeat(hashes)), 2 + hashes);
        }
    }
    if rest.starts_with('"') {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return at + 1,
                _ => {}
            }
        }
        return rest.len();
    }
    // Only character literals that look like the start of a text.
    ["'\"'", "'\\\"'", "'\\\\'", "'\\''"].iter().find(|c| rest.starts_with(**c)).map_or(0, |c| c.len())
}

/// The literals of a source that are texts.
pub(crate) fn texts_of(source: &str) -> Vec<&str> {
    let (mut texts, mut rest, mut before) = (Vec::new(), source, None);
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, before);
        if skipped > 0 && (c == '"' || c == 'r') {
            texts.push(rest[..skipped].trim_matches(['r', '#', '"']));
        }
        before = Some(c);
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    texts
}

/// The words that are followed by this.
pub(crate) fn words_before<'a>(text: &'a str, sign: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(sign).filter_map(|(at, _)| {
        let word = text[..at].rsplit(|c| !is_identifier(c)).next()?;
        word.starts_with(|c: char| c.is_alphabetic()).then_some(word)
    })
}

/// `use a::{b, c::{d, e}};` as `use a::b; use a::c::d; use a::c::e;`, the other code unchanged.
pub(crate) fn spread_groups(code: &str) -> String {
    let mut spread = String::new();
    for statement in code.split_inclusive(';') {
        match statement.find("use ") {
            Some(at) if statement[at..].contains("::{") => {
                spread.push_str(&statement[..at]);
                let tree = statement[at + 4..].trim_end_matches(';');
                for path in leaves(tree) {
                    spread.extend(["use ", &path, "; "]);
                }
            }
            _ => spread.push_str(statement),
        }
    }
    spread
}

/// The paths of a use tree.
fn leaves(tree: &str) -> Vec<String> {
    let Some((root, group)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let mut depth = 0_u32;
    let branches = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    branches
        .map(str::trim)
        .filter(|branch| !branch.is_empty())
        .flat_map(|branch| leaves(&format!("{}{branch}", root.trim())))
        .collect()
}
