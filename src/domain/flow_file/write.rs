//! Writes trees as YAML in block style.

use std::fmt::Write as _;

use super::tree::{NodeMember, NodeValue, YamlNode, plain};
use crate::domain::invisible::is_invisible;

/// Longer names are written behind a question mark: a simple name of YAML has at most 1,024 characters.
const MAX_SIMPLE_NAME: usize = 500;

/// Words that YAML 1.1 reads as something else than a text.
const WORDS: [&str; 8] = ["yes", "no", "on", "off", "y", "n", "true", "false"];

/// Writes a tree as a document.
pub(super) fn document(node: &YamlNode) -> String {
    let mut out = String::new();
    value(&mut out, node, 0);
    out
}

/// Writes a value behind its name or dash. Ends the line.
fn value(out: &mut String, node: &YamlNode, indent: usize) {
    match &node.value {
        NodeValue::List(items) if !items.is_empty() => {
            for item in items {
                begin_line(out, indent);
                out.push('-');
                value(out, item, indent + 1);
            }
        }
        NodeValue::Map(members) if !members.is_empty() => {
            for member in members {
                begin_line(out, indent);
                member_lines(out, member, indent);
            }
        }
        _ => {
            if !out.is_empty() {
                out.push(' ');
            }
            scalar(out, &node.value);
            out.push('\n');
        }
    }
}

/// The first line of a value follows a dash on its line, all others begin a line.
fn begin_line(out: &mut String, indent: usize) {
    match out.chars().next_back() {
        Some('-') => out.push(' '),
        None | Some('\n') => out.extend(std::iter::repeat_n("  ", indent)),
        Some(_) => {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", indent));
        }
    }
}

fn member_lines(out: &mut String, NodeMember { name, value: of_name, .. }: &NodeMember, indent: usize) {
    let is_long = name.chars().count() > MAX_SIMPLE_NAME;
    if is_long {
        out.push_str("? ");
    }
    text(out, name);
    if is_long {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", indent));
    }
    out.push(':');
    value(out, of_name, indent + 1);
}

fn scalar(out: &mut String, value: &NodeValue) {
    match value {
        NodeValue::Null => out.push_str("null"),
        NodeValue::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        NodeValue::Number(number) => {
            // Writing to a string cannot fail.
            let _ = write!(out, "{number}");
        }
        NodeValue::Text(content) => text(out, content),
        NodeValue::List(_) => out.push_str("[]"),
        NodeValue::Map(_) => out.push_str("{}"),
    }
}

/// A text without quotes if every reader of YAML takes it for this text, and in quotes otherwise.
fn text(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            character if is_escaped(character) => {
                let _ = write!(out, "\\U{:08x}", u32::from(character));
            }
            character => out.push(character),
        }
    }
    out.push('"');
}

/// Characters that YAML does not allow as they are, and those that people cannot see.
fn is_escaped(character: char) -> bool {
    character.is_control()
        || is_invisible(character)
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}')
        || u32::from(character) & 0xfffe == 0xfffe
}

fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || matches!(first, '/' | '_'));
    let is_harmless =
        |character: char| character.is_ascii_alphanumeric() || " /_.+-#?=&%~@:()".contains(character);
    begins
        && text.chars().all(is_harmless)
        && !text.contains(" #")
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && matches!(plain(text), Ok(NodeValue::Text(_)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::place::Place;
    use super::super::tree::parse;
    use super::*;

    fn written(json: &str) -> String {
        document(&YamlNode::from_json(json).unwrap())
    }

    #[test]
    fn documents_are_written_in_block_style() {
        let json = r#"{"flows": [{"code": "TEMP", "topic": "a/+/#", "payload_schema": {"v": "number", "w": []},
            "enabled": true, "empty": {}, "list": [[1, 2], "x"]}, 7]}"#;
        let yaml = "flows:\n  - code: TEMP\n    topic: a/+/#\n    payload_schema:\n      v: number\n      w: []\n    \
                    enabled: true\n    empty: {}\n    list:\n      - - 1\n        - 2\n      - x\n  - 7\n";
        assert_eq!(written(json), yaml);
    }

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        for text in [
            "yes",
            "No",
            "null",
            "~",
            "1",
            "1e3",
            "0x1",
            "2026-11-30",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "***",
            "- a",
            "a:",
            "{a}",
            "é",
            "12:30",
        ] {
            let json = serde_json::to_string(&[text]).unwrap();
            assert_eq!(written(&json), format!("- \"{text}\"\n"));
        }
        assert_eq!(written(r#"["a\u001b\u202e\n"]"#), "- \"a\\U0000001b\\U0000202e\\n\"\n");
        assert_eq!(written(r#"["https://h:1/p?a=b&c#d"]"#), "- https://h:1/p?a=b&c#d\n");
    }

    fn any_node() -> impl Strategy<Value = YamlNode> {
        let any_text = || {
            prop_oneof![
                ".*",
                "[a-c:# '\"\\[\\]{},&*!|>%@`~-]{0,8}",
                "\\PC{501,520}",
                "[-+.0-9exo_]{0,6}",
                Just("yes".to_owned())
            ]
        };
        let leaf = prop_oneof![
            Just(NodeValue::Null),
            any::<bool>().prop_map(NodeValue::Bool),
            any::<i64>().prop_map(|number| NodeValue::Number(number.into())),
            any::<u64>().prop_map(|number| NodeValue::Number(number.into())),
            any::<f64>().prop_filter_map("finite", |number| serde_json::Number::from_f64(number)
                .map(NodeValue::Number)),
            any_text().prop_map(NodeValue::Text),
        ];
        leaf.prop_map(YamlNode::from).prop_recursive(5, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(|items| NodeValue::List(items).into()),
                prop::collection::btree_map(any_text(), inner, 0..5).prop_map(|members| {
                    let member = |(name, value)| NodeMember { name, at: Place::default(), value };
                    NodeValue::Map(members.into_iter().map(member).collect()).into()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(node in any_node()) {
            let yaml = document(&node);
            let read = parse(&yaml).map_err(|problems| problems[0].line(&yaml));
            prop_assert_eq!(read.map(|node| node.to_json()), Ok(node.to_json()), "{}", yaml);
        }
    }
}
