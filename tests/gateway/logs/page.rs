//! `docs/OPERATIONS.md` against the sources: quoted lines exist, and alerts find their headings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The words of a section without a log line.
const NO_LINE: &str = "No log line reports it";

/// Sections of no trouble.
const EXPLAINING: [&str; 2] = ["Where to look", "Mailbox lines"];

/// Begins a block of lines of the log.
const LINES: &str = "```text\n";

/// The headings that alerts link to.
fn headings_of_alerts() -> Vec<String> {
    let rules = read("deploy/prometheus/mqtt-gateway.rules.yaml");
    let links = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: docs/OPERATIONS.md#"));
    let anchors: BTreeSet<&str> = links.collect();
    assert!(anchors.contains("handler-stuck"), "{anchors:?}");
    let headings: BTreeMap<String, String> =
        sections().into_keys().map(|heading| (anchor_of(&heading), heading)).collect();
    let heading = |anchor: &&str| headings.get(*anchor).unwrap_or_else(|| panic!("no section for #{anchor}"));
    anchors.iter().map(heading).cloned().collect()
}

/// The anchor that renderers make of a heading.
fn anchor_of(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The section of a trouble quotes all of this.
pub(crate) fn assert_quoted(heading: &str, texts: &[&str]) {
    let section = section(heading);
    for text in texts {
        assert!(section.contains(text), "the section {heading:?} does not quote {text:?}");
    }
}

#[test]
fn alerts_link_to_complete_sections() {
    let sections = sections();
    for heading in headings_of_alerts() {
        let section = &sections[&heading];
        for part in ["**Metrics**", "**Causes**", "**Remedy**", "**At risk**"] {
            assert!(section.contains(part), "{heading:?} has no {part:?}");
        }
        assert!(
            section.contains(LINES) != section.contains(NO_LINE),
            "{heading:?} quotes no line, or does not say that there is none"
        );
    }
}

#[test]
fn quoted_lines_name_their_test() {
    let logs = ["actors", "bound", "messages", "peers", "repeats", "unread"]
        .map(|name| format!("tests/gateway/logs/{name}.rs"));
    let faults = ["copies", "restore"].map(|name| format!("tests/faults/accidents/{name}.rs"));
    let tests: Vec<String> = logs.iter().chain(&faults).map(|path| read(path)).collect();
    let with_lines = sections().into_iter().filter(|(_, section)| section.contains(LINES));
    for (heading, section) in with_lines.filter(|(heading, _)| !EXPLAINING.contains(&heading.as_str())) {
        let made_by: Vec<&str> =
            section.lines().filter_map(|line| line.strip_prefix("<!-- made by ")).collect();
        assert!(!made_by.is_empty(), "{heading}");
        for name in made_by {
            let function = format!("fn {}(", name.trim_end_matches(" -->"));
            assert!(
                tests.iter().any(|source| source.contains(&function)),
                "{heading}: there is no test {name}"
            );
        }
    }
}

#[test]
fn quoted_lines_exist_in_the_sources() {
    let templates: Vec<Vec<String>> =
        crate::logs::fields::sources().iter().flat_map(|(_, source)| templates(source)).collect();
    let mut quoted = 0;
    for line in quoted_lines() {
        let message = message_of(&line);
        if message.is_empty() {
            continue;
        }
        quoted += 1;
        assert!(templates.iter().any(|template| fits(template, &message)), "nobody writes {message:?}");
    }
    assert!(quoted >= sections().values().filter(|section| section.contains(LINES)).count(), "{quoted}");
}

#[test]
fn anchors_follow_markdown_renderers() {
    assert_eq!(anchor_of("Mailbox over 80 % full"), "mailbox-over-80--full");
    assert_eq!(anchor_of("Not ready"), "not-ready");
}

#[test]
fn messages_fit_their_templates() {
    let fit = |literal: &str, message: &str| fits(&template(literal), message);
    assert!(fit("Actor {id} is back after {ms} ms", "Actor router is back after 7 ms"));
    assert!(!fit("Actor {id} is back after {ms} ms", "Actor router is back"));
    assert!(!fit("is back after", "Actor router is back after 7 ms"));
    assert_eq!(
        message_of("2026-11-23T01:02:03.004Z WARN  a::b It is so: x=y or z actor=router n=\"1 2\""),
        "It is so: x=y or z"
    );
    assert_eq!(message_of("2026-11-23T01:02:03.004Z INFO  mailbox actor=router"), "");
}

/// The text below a heading.
pub(crate) fn section(heading: &str) -> String {
    sections().remove(heading).unwrap_or_else(|| panic!("no section {heading:?}"))
}

fn sections() -> BTreeMap<String, String> {
    let page = page();
    let parts = page.split("\n## ").skip(1);
    parts
        .map(|part| part.split_once('\n').unwrap())
        .map(|(head, text)| (head.to_owned(), text.to_owned()))
        .collect()
}

fn page() -> String {
    read("docs/OPERATIONS.md")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Log lines in the blocks of text, as people read them.
fn quoted_lines() -> Vec<String> {
    let page = page();
    let blocks = page.split(LINES).skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter(|line| line.starts_with("20"));
    lines.map(str::to_owned).collect()
}

/// The text between the target and the first field. May be empty.
fn message_of(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().skip(3).collect();
    let is_field =
        |word: &str| word.split_once('=').is_some_and(|(key, _)| crate::logs::fields::is_a_field(key));
    words.into_iter().take_while(|word| !is_field(word)).collect::<Vec<_>>().join(" ")
}

/// The string literals of a source as templates, without their placeholders.
fn templates(source: &str) -> Vec<Vec<String>> {
    let joined = source.replace("\\\n", "\u{1}");
    let mut literals = Vec::new();
    for line in joined.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let mut rest = line;
        while let Some((_, begun)) = rest.split_once('"') {
            let mut end = 0;
            while let Some(at) = begun[end..].find('"') {
                end += at;
                if !begun[..end].ends_with('\\') {
                    break;
                }
                end += 1;
            }
            literals.push(begun[..end].to_owned());
            rest = begun.get(end + 1..).unwrap_or_default();
        }
    }
    let joined = literals.iter().map(|literal| {
        let mut parts = literal.split('\u{1}');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.trim_start())
    });
    joined
        .map(|literal| template(&literal))
        .filter(|parts| parts.len() == 1 || parts.iter().map(String::len).sum::<usize>() >= 8)
        .collect()
}

fn template(literal: &str) -> Vec<String> {
    let mut parts = literal.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    let others = parts.map(|part| part.split_once('}').map_or(part, |(_, rest)| rest).to_owned());
    std::iter::once(first).chain(others).collect()
}

fn fits(template: &[String], message: &str) -> bool {
    let Some((first, others)) = template.split_first() else { return false };
    let Some(mut rest) = message.strip_prefix(first.as_str()) else { return false };
    for part in others {
        match rest.split_once(part.as_str()) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    !others.is_empty() || rest.is_empty()
}
