//! `.env` as python-dotenv reads it, because the files that come to us were written for it.
//!
//! The dotenv crates differ from it just where passwords live: `$` and ` #` inside values, what an
//! escape means in which quotes, `${VAR}` alone being expanded and `$VAR` not. The grammar is small:
//!
//! ```text
//! statement = [export] key [= value] [comment] end-of-line
//! key       = 'anything' | characters without white space, '=' and '#'
//! value     = 'may span lines, \' \\' | "may span lines, \n \" and the like" | rest of the line up to " #"
//! ```
//!
//! A statement that does not fit is left out and reading goes on with the next line. `${NAME}` and
//! `${NAME:-default}` are expanded in every kind of value, single-quoted ones too; the environment
//! counts before names set earlier in the file.

mod expand;
mod parse;

use std::collections::BTreeMap;

/// What a `.env` file sets, and the lines that say nothing.
pub(crate) struct Dotenv {
    /// Values by name, expanded.
    pub values: BTreeMap<String, String>,
    /// For people: what could not be read. Names lines, never what is in them.
    pub warnings: Vec<String>,
}

/// Reads the text of a `.env` file. `environment` is what `${NAME}` looks in first.
pub(crate) fn read(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Dotenv {
    // Python reads the file with universal newlines, so its parser never sees a carriage return.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut warnings = Vec::new();
    if text.starts_with('\u{feff}') {
        warnings.push(
            "starts with a byte order mark, which becomes part of the first name: save it without".to_owned(),
        );
    }
    // A name without a value hides an earlier value of the same name, hence the options.
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
