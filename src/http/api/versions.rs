//! The header `If-Match`, by which an edit names the version that it is based on.

use actix_web::http::header::{HeaderMap, IF_MATCH};

use crate::control::ExpectedVersion;

/// The versions that a request accepts; any without the header.
pub(super) fn expected_version(headers: &HeaderMap) -> ExpectedVersion {
    let mut versions = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        let value = value.to_str().unwrap_or_default().trim();
        if value == "*" {
            return ExpectedVersion::Any;
        }
        for tag in value.split(',') {
            // A weak tag, or a text without quotes, never matches.
            let version = tag.trim().strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            versions.push(version.unwrap_or_default().to_owned());
        }
    }
    if versions.is_empty() { ExpectedVersion::Any } else { ExpectedVersion::OneOf(versions) }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn expected(value: &'static str) -> ExpectedVersion {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_static(value));
        expected_version(&headers)
    }

    #[test]
    fn versions_are_in_quotes() {
        let one_of =
            |versions: &[&str]| ExpectedVersion::OneOf(versions.iter().map(ToString::to_string).collect());
        assert_eq!(expected_version(&HeaderMap::new()), ExpectedVersion::Any);
        assert_eq!(expected("*"), ExpectedVersion::Any);
        assert_eq!(expected("\"a\""), one_of(&["a"]));
        assert_eq!(expected("\"a\", \"b\""), one_of(&["a", "b"]));
        assert_eq!(expected("W/\"a\""), one_of(&[""]));
        for wrong in ["a", "", "\""] {
            assert_eq!(expected(wrong), one_of(&[""]), "{wrong}");
        }
    }
}
