//! Message keys of producers, for the detection of messages that were published twice.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::json::{JsonKind, content_of, descend, dumps};
use super::message::DeliveryFacts;
use super::payload::Payload;

/// The first half of the SHA-256 of a key. Among a billion keys, the probability of a collision is 1 in 10^21, and the
/// table is a quarter smaller than with the whole hash.
pub type KeyHash = [u8; 16];

/// The location of the key in the messages of a flow, parsed from `flows.message_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageKey {
    /// The text of `flows.message_key`.
    text: String,
    place: KeyLocation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyLocation {
    /// JSON pointer: name or index for each level of the payload; at least one.
    Pointer(Vec<String>),
    /// Name of a user property.
    Property(String),
}

/// The value of `flows.message_key` is not a location.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "message_key {0:?} is neither a JSON pointer like /id or /meta/id (in a name ~ is written ~0 and / is written \
     ~1) nor property:NAME"
)]
pub struct UnusableKey(pub String);

/// Prefix of the name of a user property.
const PROPERTY: &str = "property:";

impl MessageKey {
    /// Parses `flows.message_key`. NULL and blank texts mean that the messages have no key.
    pub fn parse(text: Option<&str>) -> Result<Option<MessageKey>, UnusableKey> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let place = match text.strip_prefix(PROPERTY) {
            Some(name) => {
                Some(name).filter(|name| !name.is_empty()).map(|name| KeyLocation::Property(name.to_owned()))
            }
            None => pointer(text).map(KeyLocation::Pointer),
        };
        let place = place.ok_or_else(|| UnusableKey(text.to_owned()))?;
        Ok(Some(MessageKey { text: text.to_owned(), place }))
    }

    /// Returns the hash of the key of a message, or `None` for a message without a key.
    ///
    /// A missing value, null and an empty string are no key. Otherwise, all messages without a key would be duplicates
    /// of each other.
    ///
    /// The hash covers the location too, so that values of a new location never equal those of the old location.
    #[must_use]
    pub fn hash_of(&self, payload: &Payload<'_>, delivery: &DeliveryFacts) -> Option<KeyHash> {
        let (sort, content) = match &self.place {
            KeyLocation::Pointer(tokens) => content_at(payload, tokens)?,
            KeyLocation::Property(name) => (b'p', Cow::Borrowed(property(delivery, name)?)),
        };
        let mut hasher = Sha256::new();
        hasher.update((self.text.len() as u64).to_le_bytes());
        hasher.update(&self.text);
        hasher.update([sort]);
        hasher.update(content.as_bytes());
        hasher.finalize().first_chunk().copied()
    }
}

/// Parses the tokens of a JSON pointer (RFC 6901).
fn pointer(text: &str) -> Option<Vec<String>> {
    let tokens = text.strip_prefix('/')?;
    tokens.split('/').map(unescaped).collect()
}

fn unescaped(token: &str) -> Option<String> {
    let escapes = token.split('~').skip(1);
    let known = escapes.clone().all(|rest| rest.starts_with(['0', '1']));
    // `~1` is replaced first, so that `~01` becomes `~1` and not a slash.
    known.then(|| token.replace("~1", "/").replace("~0", "~"))
}

/// Returns the value at the pointer, and a letter for its type: the string `1` and the number `1` are different keys.
fn content_at<'a>(payload: &Payload<'a>, tokens: &[String]) -> Option<(u8, Cow<'a, str>)> {
    let (first, further) = tokens.split_first()?;
    let attribute = payload.get(first)?;
    let mut found = (attribute.kind(), attribute.raw());
    for token in further {
        found = descend(found.1, token)?;
    }
    match found {
        (JsonKind::Null, _) => None,
        (JsonKind::String, raw) => Some((b's', content_of(raw))).filter(|(_, content)| !content.is_empty()),
        (JsonKind::Int | JsonKind::Number | JsonKind::Bool, raw) => Some((b'l', Cow::Borrowed(raw))),
        (JsonKind::Array | JsonKind::Object, raw) => Some((b'j', Cow::Owned(dumps(raw)))),
    }
}

/// Returns the first user property with this name.
fn property<'a>(delivery: &'a DeliveryFacts, name: &str) -> Option<&'a str> {
    let (_, value) = delivery.user_properties.iter().find(|(known, _)| known == name)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
