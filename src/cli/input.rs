//! Input of the commands for operators: texts from files or standard input, and the consent of a person.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::control::ControlError;
use crate::domain::credential::is_reference;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Reads an argument that is JSON itself, the name of a file, or `-` for standard input. `option` is its name.
pub(super) fn json_argument(option: &'static str, argument: &str) -> Result<String, ControlError> {
    let bytes = content_argument(option, argument)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| ControlError::invalid(option, "it is not UTF-8", "give JSON in UTF-8"))?;
    Ok(text.trim().to_owned())
}

/// The same for any content, byte for byte.
pub(super) fn content_argument(option: &'static str, argument: &str) -> Result<Vec<u8>, ControlError> {
    match argument.trim_start() {
        "" => Ok(Vec::new()),
        json if json.starts_with(['{', '[']) || json.trim_end() == "null" => Ok(argument.as_bytes().to_vec()),
        _ => read(option, argument),
    }
}

/// Reads standard input for `-`, and the file of this name otherwise.
fn read(option: &'static str, argument: &str) -> Result<Vec<u8>, ControlError> {
    let unreadable = |name: &str, error: io::Error| {
        let remedy = "give JSON that begins with {, the name of a file, or - for standard input";
        ControlError::invalid(option, format!("cannot read {name}: {error}"), remedy)
    };
    if argument == STANDARD_INPUT {
        return standard_input().map_err(|error| unreadable("standard input", error));
    }
    fs::read(Path::new(argument)).map_err(|error| unreadable(&format!("the file {argument:?}"), error))
}

/// Longest file of flows in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file that was read.
pub(super) struct FileArgument {
    /// Its name, for messages.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Reads the file with this name, or standard input for `-`.
pub(super) fn file_argument(argument: &str) -> Result<FileArgument, ControlError> {
    let name = if argument == STANDARD_INPUT { "standard input" } else { argument };
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let reader: Box<dyn Read> = if argument == STANDARD_INPUT {
            Box::new(io::stdin().lock())
        } else {
            Box::new(fs::File::open(Path::new(argument))?)
        };
        // One byte more: the reader of the file refuses it then.
        reader.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| {
        let remedy = "give the name of a YAML file, or - for standard input";
        ControlError::invalid("file", format!("cannot read {name}: {error}"), remedy)
    })?;
    Ok(FileArgument { name: name.to_owned(), text })
}

/// Asks a person for consent. Fails without a terminal, since a script has to consent by `--yes`.
pub(super) fn confirm(question: &str) -> Result<(), ControlError> {
    let declined = |problem: &str| ControlError::invalid("--yes", problem, "repeat the command with --yes");
    if !io::stdin().is_terminal() {
        return Err(declined("nothing was changed, because standard input is no terminal on which to ask"));
    }
    let mut answer = String::new();
    let asked =
        write!(io::stderr().lock(), "{question} [y/N] ").and_then(|()| io::stdin().read_line(&mut answer));
    match asked {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(declined("nothing was changed, because the answer was not y")),
    }
}

/// Reads a secret: a reference to it, `-` for standard input, or nothing. A secret itself is refused, because other
/// users of the machine see the arguments of commands.
pub(super) fn secret_argument(option: &'static str, argument: &str) -> Result<String, ControlError> {
    match argument {
        STANDARD_INPUT => {
            let secret = String::from_utf8(read(option, argument)?).map_err(|_| {
                ControlError::invalid(option, "the secret is not UTF-8", "give a secret in UTF-8")
            })?;
            Ok(secret.trim_end_matches(['\r', '\n']).to_owned())
        }
        "" => Ok(String::new()),
        reference if is_reference(reference) => Ok(reference.to_owned()),
        _ => Err(ControlError::invalid(
            option,
            "the value is no reference to a secret, and other users of this machine could see a secret here",
            "give file:/PATH or env:NAME, or - and the secret on standard input",
        )),
    }
}

/// Reads a payload: the argument itself, or standard input for `-`.
pub(super) fn bytes_argument(argument: &str) -> Result<Vec<u8>, ControlError> {
    if argument != STANDARD_INPUT {
        return Ok(argument.as_bytes().to_vec());
    }
    standard_input().map_err(|error| {
        ControlError::invalid(
            "payload",
            format!("cannot read standard input: {error}"),
            "give the payload itself",
        )
    })
}

/// Reads standard input to its end. A second option has nothing left to read.
fn standard_input() -> io::Result<Vec<u8>> {
    static IS_READ: AtomicBool = AtomicBool::new(false);
    if IS_READ.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("another option has read it"));
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_refused_as_arguments() {
        for secret in ["s3cret", "file:s3cret", "env:s3cret!"] {
            assert!(secret_argument("--password", secret).is_err(), "{secret}");
        }
        for reference in ["file:/run/secrets/broker", "env:MQTT_PASSWORD"] {
            assert!(secret_argument("--password", reference).is_ok(), "{reference}");
        }
    }
}
