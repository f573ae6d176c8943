//! Parser for `.env` that is compatible with python-dotenv, because existing files were written for it.
//!
//! The dotenv crates differ in details that affect passwords: `$` and ` #` inside values, the meaning of escapes in
//! quotes, and the expansion of `${VAR}` but not of `$VAR`. The grammar is small:
//!
//! ```text
//! statement = [export] key [= value] [comment] end-of-line
//! key       = 'anything' | characters without white space, '=' and '#'
//! value     = 'may span lines, \' \\' | "may span lines, \n \" and the like" | rest of the line up to " #"
//! ```
//!
//! An invalid statement is skipped, and parsing continues with the next line. `${NAME}` and `${NAME:-default}` are
//! expanded in all values, including single-quoted ones. The environment takes precedence over earlier lines.

mod expand;
mod parse;

use std::collections::BTreeMap;

/// Values and warnings of a `.env` file.
pub(crate) struct Dotenv {
    /// Expanded values by name.
    pub values: BTreeMap<String, String>,
    /// Warnings about invalid lines. They contain line numbers, never content.
    pub warnings: Vec<String>,
}

/// Parses the text of a `.env` file. `environment` is the first source for `${NAME}`.
pub(crate) fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Dotenv {
    // Python reads the file with universal newlines, so its parser never sees a carriage return.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut warnings = Vec::new();
    if text.starts_with('\u{feff}') {
        warnings.push(
            "starts with a byte order mark, which becomes part of the first name: save it without".to_owned(),
        );
    }
    // A name without a value removes an earlier value, so values are optional here.
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    for statement in parse::statements(&text) {
        match statement {
            parse::Statement::Binding { key, value } => {
                let value = value.map(|value| {
                    expand::expand(&value, &|name| {
                        environment(name).or_else(|| values.get(name).cloned().map(Option::unwrap_or_default))
                    })
                });
                values.insert(key, value);
            }
            parse::Statement::Unreadable { line } => {
                warnings.push(format!("line {line} is no NAME=value and was left out"));
            }
        }
    }
    let values = values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Dotenv { values, warnings }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests;
