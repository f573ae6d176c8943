//! Arguments of log lines, which are evaluated only if the level is logged.

use std::fs;

use super::source::{code_of, sources};

const MACROS: [&str; 6] =
    ["log::log!(", "log::error!(", "log::warn!(", "log::info!(", "log::debug!(", "log::trace!("];

/// Work that has to be done at every level.
const WORK: [&str; 2] = [".await", "?"];

#[test]
fn log_lines_do_no_work() {
    for path in sources() {
        let found = working_lines(&code_of(&fs::read_to_string(&path).unwrap()));
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
}

/// The arguments of log lines that do work.
fn working_lines(code: &str) -> Vec<String> {
    let starts = MACROS.iter().flat_map(|name| code.match_indices(name).map(|(at, _)| at + name.len()));
    let arguments = starts.map(|at| arguments(&code[at..]).to_owned());
    arguments.filter(|arguments| WORK.iter().any(|work| arguments.contains(work))).collect()
}

/// What stands before the closing parenthesis.
fn arguments(rest: &str) -> &str {
    let mut depth = 0_u32;
    let closing = rest.find(|c: char| {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => return true,
            ')' => depth -= 1,
            _ => {}
        }
        false
    });
    closing.map_or(rest, |end| &rest[..end])
}

#[test]
fn work_is_found_in_arguments_only() {
    let code = code_of(r#"log::info!("({}?", f(a)); b.await?; log::warn!(rows = c(); "{}", d(e).await?);"#);
    assert_eq!(working_lines(&code), ["rows = c(); , d(e).await?"]);
}
