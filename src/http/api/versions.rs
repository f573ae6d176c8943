//! The header `If-Match`, by which an edit names the version that it is based on.

use actix_web::http::header::{HeaderMap, IF_MATCH};

use super::problem::ApiProblem;
use crate::control::ExpectedVersion;

/// The versions that a request accepts; any without the header.
pub(super) fn expected_version(headers: &HeaderMap) -> Result<ExpectedVersion, ApiProblem> {
    let mut versions = Vec::new();
    for value in headers.get_all(IF_MATCH) {
        let value = value.to_str().map_err(|_| malformed())?.trim();
        if value == "*" {
            return Ok(ExpectedVersion::Any);
        }
        for tag in value.split(',') {
            // A weak tag never matches.
            let tag = tag.trim();
            let text = tag.strip_prefix("W/").unwrap_or(tag);
            let version =
                text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(malformed)?;
            versions.push(if text == tag { version.to_owned() } else { String::new() });
        }
    }
    Ok(if versions.is_empty() { ExpectedVersion::Any } else { ExpectedVersion::OneOf(versions) })
}

fn malformed() -> ApiProblem {
    ApiProblem::bad_request("header If-Match: versions in quotes, or *, are expected")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn expected(value: &'static str) -> Option<ExpectedVersion> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::from_static(value));
        expected_version(&headers).ok()
    }

    #[test]
    fn versions_are_in_quotes() {
        let one_of = |versions: &[&str]| {
            Some(ExpectedVersion::OneOf(versions.iter().map(ToString::to_string).collect()))
        };
        assert_eq!(expected_version(&HeaderMap::new()).unwrap(), ExpectedVersion::Any);
        assert_eq!(expected("*"), Some(ExpectedVersion::Any));
        assert_eq!(expected("\"a\""), one_of(&["a"]));
        assert_eq!(expected("\"a\", \"b\""), one_of(&["a", "b"]));
        assert_eq!(expected("W/\"a\""), one_of(&[""]));
        assert_eq!((expected("a"), expected(""), expected("\"")), (None, None, None));
    }
}
