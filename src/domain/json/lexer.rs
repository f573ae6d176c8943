//! The scalars of RFC 8259. Each function takes the start of a scalar and returns its end.

use super::{JsonKind, SyntaxError};

fn error<T>(problem: &'static str, at: usize) -> Result<T, SyntaxError> {
    Err(SyntaxError { problem, at })
}

/// Returns the end of the string whose opening quote is at `at`. The first unpaired surrogate is stored in `half_pair`.
pub(super) fn string_end(
    text: &[u8],
    at: usize,
    half_pair: &mut Option<usize>,
) -> Result<usize, SyntaxError> {
    let mut next = at + 1;
    loop {
        let rest = text.get(next..).unwrap_or_default();
        let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
        let Some(plain) = plain else { return error("string without an end", at) };
        next += plain;
        match text.get(next) {
            Some(b'"') => return Ok(next + 1),
            Some(b'\\') => next = escape_end(text, next, half_pair)?,
            _ => return error("control character in a string", next),
        }
    }
}

/// Returns the end of an escape sequence.
///
/// JSON allows unpaired surrogates, which neither UTF-8 nor a database can represent. The first is stored in
/// `half_pair`.
fn escape_end(text: &[u8], at: usize, half_pair: &mut Option<usize>) -> Result<usize, SyntaxError> {
    match text.get(at + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
        Some(b'u') => {
            let is_half = match code_unit(text, at)? {
                0xD800..=0xDBFF if text.get(at + 6..at + 8) == Some(b"\\u") => {
                    if matches!(code_unit(text, at + 6)?, 0xDC00..=0xDFFF) {
                        return Ok(at + 12);
                    }
                    true
                }
                0xD800..=0xDFFF => true,
                _ => false,
            };
            if is_half {
                half_pair.get_or_insert(at);
            }
            Ok(at + 6)
        }
        _ => error("unknown escape in a string", at),
    }
}

/// Returns the code unit of the `\uXXXX` at `at`.
fn code_unit(text: &[u8], at: usize) -> Result<u32, SyntaxError> {
    let digits = text.get(at + 2..at + 6).unwrap_or_default();
    let value = digits.iter().try_fold(0, |value, &digit| Some(value * 16 + char::from(digit).to_digit(16)?));
    match value {
        Some(value) if digits.len() == 4 => Ok(value),
        _ => error("\\u needs four hexadecimal digits", at),
    }
}

/// Returns the end and the type of `null`, `true` or `false`.
pub(super) fn literal_end(text: &[u8], at: usize) -> Result<(usize, JsonKind), SyntaxError> {
    let rest = text.get(at..).unwrap_or_default();
    for (literal, kind) in
        [(&b"true"[..], JsonKind::Bool), (b"false", JsonKind::Bool), (b"null", JsonKind::Null)]
    {
        if rest.starts_with(literal) {
            return Ok((at + literal.len(), kind));
        }
    }
    match rest.first() {
        None => error("the text ends where a value should be", at),
        Some(b'N' | b'I') => error("NaN and Infinity are no JSON", at),
        Some(_) => error("expected a value", at),
    }
}

/// Returns the end and the type of the number at `at`, which is a digit or `-`.
pub(super) fn number_end(text: &[u8], at: usize) -> Result<(usize, JsonKind), SyntaxError> {
    let mut kind = JsonKind::Int;
    let first = if text.get(at) == Some(&b'-') { at + 1 } else { at };
    let mut next = match text.get(first) {
        // A digit after a leading zero is rejected as an unexpected token.
        Some(b'0') => first + 1,
        Some(b'I') => return error("NaN and Infinity are no JSON", at),
        _ => digits_end(text, first)?,
    };
    if text.get(next) == Some(&b'.') {
        kind = JsonKind::Number;
        next = digits_end(text, next + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(next) {
        kind = JsonKind::Number;
        let signed = matches!(text.get(next + 1), Some(b'+' | b'-'));
        next = digits_end(text, next + 1 + usize::from(signed))?;
    }
    Ok((next, kind))
}

/// Returns the end of one or more digits.
fn digits_end(text: &[u8], at: usize) -> Result<usize, SyntaxError> {
    let digits = text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { error("expected a digit", at) } else { Ok(at + digits) }
}
