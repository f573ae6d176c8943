//! Secrets as values of headers.

use awc::http::header::HeaderValue;

/// The value of a header that is never shown; `None` if `text` has characters that no header can hold.
pub(super) fn secret_header(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
