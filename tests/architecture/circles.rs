//! No circles of imports inside a room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::source::{code_of, path_of_module, root, rust_files, spread_groups};

/// Modules that name the types of the actors whose addresses they hold, while those actors use them.
const HOLD_ADDRESSES: [&str; 2] = ["actors::directory", "actors::inbox_signal"];

#[test]
fn modules_of_a_room_import_each_other_in_no_circle() {
    for room in ["actors", "control", "delivery", "domain", "http", "inbox", "mqtt", "observe", "store"] {
        let directory = root().join("src").join(room);
        let sources: BTreeMap<String, String> = rust_files(&directory)
            .iter()
            .map(|path| (path_of_module(path), fs::read_to_string(path).unwrap()))
            .filter(|(module, _)| !HOLD_ADDRESSES.contains(&module.as_str()))
            .collect();
        assert_eq!(in_circles(&sources), [""; 0]);
    }
}

/// The modules that import themselves by way of others. A module and its children may import each other.
fn in_circles(sources: &BTreeMap<String, String>) -> Vec<&str> {
    let names: Vec<&str> = sources.keys().map(String::as_str).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(module, source)| (module.as_str(), imports_of(module, source, &names)))
        .collect();
    let imports_itself = |module: &&str| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![*module]);
        while let Some(next) = ahead.pop() {
            ahead.extend(imports[next].iter().filter(|imported| seen.insert(**imported)));
        }
        seen.contains(module)
    };
    names.into_iter().filter(imports_itself).collect()
}

/// Those of `modules` that `module` names in `use`, apart from its tests.
fn imports_of<'m>(module: &str, source: &str, modules: &[&'m str]) -> BTreeSet<&'m str> {
    let is_in = |path: &str, other: &str| {
        path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let code = spread_groups(&code_of(source.split("#[cfg(test)]").next().unwrap()));
    let statements = code.split("use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let paths = statements.filter_map(|(path, _)| absolute(module, path));
    let imported = paths.filter_map(|path| {
        modules.iter().copied().filter(|other| is_in(&path, other)).max_by_key(|other| other.len())
    });
    imported.filter(|other| !is_in(module, other) && !is_in(other, module)).collect()
}

/// The path from the root of the crate, unless it begins with the name of a child or a crate.
fn absolute(module: &str, path: &str) -> Option<String> {
    let (mut base, mut rest) = (module, path);
    while let Some(above) = rest.strip_prefix("super::") {
        (base, rest) = (base.rsplit_once("::").map_or("", |(base, _)| base), above);
    }
    if rest == path {
        path.strip_prefix("crate::").map(str::to_owned)
    } else {
        Some(format!("{base}::{rest}"))
    }
}

#[test]
fn a_circle_of_imports_is_found_and_a_child_is_none() {
    let found = |modules: &[(&str, &str)]| {
        let sources =
            modules.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        in_circles(&sources).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (a, b, c) =
        (("r::a", "use super::b::{B, C};"), ("r::b", "use crate::r::c;"), ("r::c", "use super::a::A;"));
    assert_eq!(found(&[a, b, c]), ["r::a", "r::b", "r::c"]);
    assert_eq!(found(&[a, b, ("r::c", "// use super::a;\n#[cfg(test)]\nuse super::a::A;")]), [""; 0]);
    assert_eq!(found(&[("r::a", "use self::b::B; use b::C;"), ("r::a::b", "use super::A;")]), [""; 0]);
}
