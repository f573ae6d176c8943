//! The patches here each break the promise in one place; `scripts/mutations` tries that the suite notices.
//!
//! This holds them to the code as it is today: each applies, names tests that there are, and is in the document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A change that breaks something, and the tests that notice.
struct Mutation {
    name: String,
    what: String,
    /// Cargo test target and name of the test.
    caught_by: Vec<(String, String)>,
    diff: String,
}

#[test]
fn every_mutation_applies() {
    for mutation in mutations() {
        assert!(applies(&mutation.diff), "{} has to follow the code", mutation.name);
    }
}

#[test]
fn a_mutation_whose_place_is_gone_is_noticed() {
    let mutation = mutations().remove(0);
    assert!(!applies(&mutation.diff.replace("/src/", "/gone/")));
    assert!(!applies(&mutation.diff.replace("\n-", "\n-not there")));
}

#[test]
fn every_test_that_catches_a_mutation_exists() {
    for Mutation { name, caught_by, .. } in mutations() {
        assert!(!caught_by.is_empty(), "{name}");
        for (target, test) in caught_by {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap());
            let found = sources_of(&target).iter().any(|file| read(file).contains(&function));
            assert!(found, "{name}: there is no {function} in the test target {target}");
        }
    }
}

#[test]
fn reliability_page_lists_every_mutation() {
    let document = read(&root().join("docs/RELIABILITY.md"));
    let section = document.split("\n## Mutations\n").nth(1).expect("the section about mutations");
    let section = section.split("\n## ").next().unwrap();
    let listed: BTreeSet<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let rows: BTreeSet<String> = mutations().iter().map(row).collect();
    for row in &rows {
        assert!(listed.contains(row.as_str()), "missing:\n{row}");
    }
    let others: Vec<_> = listed.into_iter().filter(|line| !rows.contains(*line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

fn row(mutation: &Mutation) -> String {
    let tests: Vec<String> =
        mutation.caught_by.iter().map(|(target, test)| format!("{target}: `{test}`")).collect();
    format!("| `{}` | {} | {} |", mutation.name, mutation.what, tests.join(", "))
}

fn mutations() -> Vec<Mutation> {
    let mut patches: Vec<PathBuf> = files_below(&root().join("tests/mutations"));
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    assert!(!patches.is_empty());
    patches.sort();
    patches.iter().map(|path| mutation(path)).collect()
}

fn mutation(path: &Path) -> Mutation {
    let text = read(path);
    let (head, diff) = text.split_once("\n\n").expect("a head, an empty line and a diff");
    let mut lines = head.lines();
    let what = lines.next().and_then(|line| line.strip_prefix("What: ")).expect("what it breaks");
    let catcher = |line: &str| {
        let (target, name) = line.strip_prefix("Caught by: ")?.split_once(' ')?;
        Some((target.to_owned(), name.to_owned()))
    };
    Mutation {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        what: what.to_owned(),
        caught_by: lines
            .map(|line| catcher(line).unwrap_or_else(|| panic!("{}: {line}", path.display())))
            .collect(),
        diff: diff.to_owned(),
    }
}

fn applies(diff: &str) -> bool {
    let root = root();
    let mut git = Command::new("git")
        .args(["apply", "--check", "-"])
        .current_dir(root)
        // A copy of the sources inside of another checkout is none of its own: git would pass over it.
        .env("GIT_CEILING_DIRECTORIES", root.parent().unwrap())
        .stdin(Stdio::piped())
        .spawn()
        .expect("git has to be installed");
    git.stdin.take().unwrap().write_all(diff.as_bytes()).unwrap();
    git.wait().unwrap().success()
}

/// The files that a cargo test target is made of.
fn sources_of(target: &str) -> Vec<PathBuf> {
    if target == "lib" {
        return files_below(&root().join("src"));
    }
    let single = root().join(format!("tests/{target}.rs"));
    if single.exists() { vec![single] } else { files_below(&root().join("tests").join(target)) }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "patch") {
            files.push(path);
        }
    }
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
