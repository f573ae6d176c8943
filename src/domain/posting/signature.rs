//! Signatures of posts by [Standard Webhooks](https://www.standardwebhooks.com).
//!
//! The signature covers id, timestamp and body, so that a receiver notices a changed or replayed post. With several
//! secrets each has a signature. A receiver accepts any of them, so that secrets can be replaced without a gap.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// Prefix of a secret in its textual form.
const SECRET_PREFIX: &str = "whsec_";

/// Length of the keys that Standard Webhooks allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The key of a signature. Its bytes are never shown.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

/// The text is no signing secret. Never contains the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UnusableSecret {
    /// Not base64.
    #[error("a signing secret is whsec_ followed by base64, and this one is not base64")]
    NotBase64,
    /// The decoded key is too short or too long.
    #[error("a signing secret has 24 to 64 bytes, and this one has {0}")]
    Length(usize),
}

impl SigningKey {
    /// Parses `whsec_` followed by base64. The prefix may be missing.
    pub fn parse(text: &str) -> Result<Self, UnusableSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
        let key = STANDARD.decode(encoded).map_err(|_| UnusableSecret::NotBase64)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(UnusableSecret::Length(key.len()));
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| UnusableSecret::Length(key.len()))
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey([hidden])")
    }
}

/// Returns the value of the header `webhook-signature`: one signature for each key.
///
/// `id` is the value of `webhook-id`. `timestamp` is the value of `webhook-timestamp`: seconds since 1970.
#[must_use]
pub fn signature_header(keys: &[SigningKey], id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, &timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::slice;

    use super::*;

    /// Computed with OpenSSL: `printf '%s' ID.TIMESTAMP.BODY | openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY`.
    const SIGNED: (&str, &str, u64, &[u8], &str) = (
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        "0af1-7-3",
        1_700_000_000,
        br#"{"v":1}"#,
        "v1,TTyQ0OylSOHl07GIFoDD/dBVBtQXxaoDAkCALWHe0Ok=",
    );

    #[test]
    fn signature_is_that_of_openssl() {
        let (secret, id, timestamp, body, signature) = SIGNED;
        let key = SigningKey::parse(secret).unwrap();
        assert_eq!(signature_header(slice::from_ref(&key), id, timestamp, body), signature);
        assert_ne!(signature_header(slice::from_ref(&key), id, timestamp, b"{}"), signature, "another body");
        assert_ne!(
            signature_header(slice::from_ref(&key), id, timestamp + 1, body),
            signature,
            "another time"
        );
        assert_ne!(
            signature_header(slice::from_ref(&key), "0af1-7-4", timestamp, body),
            signature,
            "another id"
        );
    }

    #[test]
    fn each_key_has_a_signature() {
        let (secret, id, timestamp, body, signature) = SIGNED;
        let keys = [SigningKey::parse(secret).unwrap(), SigningKey::parse(&"B".repeat(32)).unwrap()];
        let header = signature_header(&keys, id, timestamp, body);
        let signatures: Vec<&str> = header.split(' ').collect();
        assert_eq!((signatures.len(), signatures[0]), (2, signature));
        assert!(signatures[1].starts_with("v1,") && signatures[1] != signature);
    }

    #[test]
    fn unusable_secrets_are_not_shown() {
        assert_eq!(SigningKey::parse("whsec_s3cret!").unwrap_err(), UnusableSecret::NotBase64);
        assert_eq!(SigningKey::parse("whsec_c2VjcmV0").unwrap_err(), UnusableSecret::Length(6));
        assert_eq!(SigningKey::parse(&"A".repeat(88)).unwrap_err(), UnusableSecret::Length(66));
        assert_eq!(format!("{:?}", SigningKey::parse(SIGNED.0).unwrap()), "SigningKey([hidden])");
    }
}
