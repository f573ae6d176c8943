//! A type name exists once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::source::{is_identifier, sources};

#[test]
fn type_names_are_unique() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in sources() {
        if path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs"))) {
            continue;
        }
        for name in type_names(&fs::read_to_string(&path).unwrap()) {
            places.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "rename all but one, by what they are: {places:#?}");
}

/// The types that a source defines outside its tests.
fn type_names(source: &str) -> Vec<&str> {
    let (mut names, mut lines) = (Vec::new(), source.lines());
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            names.extend(defined_type(line));
        } else if lines.find(|line| !line.starts_with('#')).is_some_and(|item| item.ends_with('{')) {
            lines.find(|line| *line == "}");
        }
    }
    names
}

/// The type that a line begins to define. An indented `type` is an associated one and defines none, and a `$` begins
/// the parameter of a macro.
fn defined_type(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let mut words = code.split(|c| !is_identifier(c)).filter(|word| !word.is_empty());
    let keyword = words.find(|word| !["pub", "crate", "super", "self", "in", "unsafe"].contains(word))?;
    let is_definition = match keyword {
        "struct" | "enum" | "trait" | "union" => code.starts_with(is_identifier) && !code.contains('$'),
        "type" => line.starts_with(is_identifier),
        _ => false,
    };
    words.next().filter(|_| is_definition)
}

#[test]
fn defined_types_are_found_and_uses_are_none() {
    let source = "pub(in super::super) type A = u8;\nimpl B for C {\n    type D = u8;\n}\n    struct E;\n\
                  /// struct F\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    struct G;\n}\npub struct H<'a> {\n\
                  #[cfg(test)]\nmod tests;\nunsafe trait I {}\nlet j = \"enum J\";\npub enum $name {\n";
    assert_eq!(type_names(source), ["A", "E", "H", "I"]);
}
