//! The names of the fields of the log: one list, in `docs/OPERATIONS.md`, and no other name in the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn page_lists_every_log_field() {
    let used: BTreeSet<String> = sources()
        .iter()
        // Records of tests have no fields of the log.
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .flat_map(|(_, source)| keys(source.split("#[cfg(test)]").next().unwrap()))
        .collect();
    assert!(used.contains("actor") && used.contains("repeated") && used.contains("place"), "{used:?}");
    let listed = listed();
    let missing: Vec<_> = used.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(&used).collect();
    assert!(missing.is_empty() && unused.is_empty(), "not listed: {missing:?}, not used: {unused:?}");
}

#[test]
fn page_lists_fields_that_distinguish_messages() {
    let source = fs::read_to_string(root().join("src/observe/limiter.rs")).unwrap();
    let (_, declaration) = source.split_once("const SUBJECT_FIELDS: ").unwrap();
    let list = declaration.split_once('=').unwrap().1.split(';').next().unwrap();
    let about: BTreeSet<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(about.len() > 5, "{about:?}");
    let listed = listed();
    let missing: Vec<_> = about.difference(&listed).collect();
    assert!(missing.is_empty(), "no such field: {missing:?}");

    let section = crate::logs::page::section("Repeated lines").replace('\n', " ");
    let named = section.split("together with the fields ").nth(1).unwrap().split(". ").next().unwrap();
    let named: BTreeSet<String> = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(named, about);
}

#[test]
fn log_fields_are_found_in_any_notation() {
    let found = |source: &str| keys(source).into_iter().collect::<Vec<_>>();
    assert_eq!(found(r#"log::info!(a, b = x(1, 2), c:% = z; "d = {e}");"#), ["a", "b", "c"]);
    assert_eq!(found("log::warn!(\n    target: \"t\", a;\n    \"b; {c}\", d\n);"), ["a"]);
    assert_eq!(found(r#"log::error!("a; b");"#), [""; 0]);
    assert_eq!(found(r#"let fields = [("a", n.into())]; x.push(("b", n.into()));"#), ["a", "b"]);
}

/// Whether it is one of the names on the page.
pub(crate) fn is_a_field(name: &str) -> bool {
    listed().contains(name)
}

/// Every source of the gateway, with its path.
pub(crate) fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(directory: &Path, sources: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The first cells of the table below "Fields".
fn listed() -> BTreeSet<String> {
    let section = crate::logs::page::section("Fields");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// The fields that a source gives its records.
fn keys(source: &str) -> BTreeSet<String> {
    let calls = source.split("log::").skip(1).filter_map(|rest| {
        let (level, rest) = rest.split_once("!(")?;
        ["error", "warn", "info", "debug", "trace"].contains(&level).then_some(rest)
    });
    let in_calls = calls.filter_map(before_the_message).flat_map(|fields| top_level(&fields));
    in_calls.chain(pairs(source)).collect()
}

/// The text of a call up to the semicolon that ends its fields; `None` if it has none.
fn before_the_message(call: &str) -> Option<String> {
    let (mut depth, mut in_text) = (0, false);
    for (at, c) in call.char_indices() {
        match c {
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return Some(call[..at].to_owned()),
            _ => {}
        }
    }
    None
}

/// The names before `=` or `:` of a list, or the whole word.
fn top_level(fields: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in fields.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let names = parts.iter().map(|part| part.split(['=', ':']).next().unwrap().trim().to_owned());
    names.filter(|name| !name.is_empty() && name != "target").collect()
}

/// Fields that are put together by hand: `("name", value.into())`.
fn pairs(source: &str) -> Vec<String> {
    if !source.contains("kv::Value") && !source.contains(" fields = ") {
        return Vec::new();
    }
    let pairs = source.split("(\"").skip(1).filter_map(|rest| rest.split_once("\", "));
    let pairs = pairs.filter(|(name, rest)| {
        let is_a_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
        is_a_name && rest.lines().next().unwrap_or_default().contains(".into())")
    });
    pairs.map(|(name, _)| name.to_owned()).collect()
}
