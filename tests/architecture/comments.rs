//! Words and width of comments.

use std::fs;

use super::source::sources;

/// Words of comments that a reader has to decode. `docs/GLOSSARY.md` has the words that we use.
const UNCLEAR: [&str; 5] = ["nobody", "somebody", "whoever", "anew", "be had"];

const MAX_COMMENT_WIDTH: usize = 120;

#[test]
fn comments_are_clear_and_fit_the_screen() {
    let mut faults = Vec::new();
    for path in sources() {
        let source = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(source.lines()) {
            faults.extend(faults_of(line).map(|fault| format!("{}:{number}: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Faults of a line, if it is a comment.
fn faults_of(line: &str) -> impl Iterator<Item = String> {
    let comment = line.trim_start().strip_prefix("//").unwrap_or_default();
    // Tables and links cannot be wrapped.
    let is_wide = line.chars().count() > MAX_COMMENT_WIDTH && !comment.contains(['|', '`']);
    let width = (is_wide && !comment.is_empty()).then(|| "too wide".to_owned());
    let text = format!(" {} ", comment.replace(|c: char| !c.is_alphanumeric(), " "));
    let words = UNCLEAR.into_iter().filter(move |word| text.contains(&format!(" {word} ")));
    words.map(str::to_owned).chain(width)
}

#[test]
fn comment_faults_are_found_in_comments_only() {
    let faults = |line: &str| faults_of(line).collect::<Vec<_>>();
    assert_eq!(faults("    /// Nothing anew, whoever asks."), ["whoever", "anew"]);
    assert_eq!(faults(&format!("// {}", "x".repeat(118))), ["too wide"]);
    assert!(faults("let anew = 1;").is_empty() && faults("// A renewal").is_empty());
}
