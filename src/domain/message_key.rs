//! The key that a producer gives its messages, by which one that it publishes twice is recognised.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::json::{JsonKind, content_of, descend, dumps};
use super::message::DeliveryFacts;
use super::payload::Payload;

/// What is remembered of a key: the first half of its SHA-256. Among a billion keys, two are taken for
/// one with a chance of 1 in 10^21, and the table is a quarter smaller than with the whole.
pub type KeyHash = [u8; 16];

/// Where the messages of a flow have their key, as `flows.message_key` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageKey {
    /// As written.
    text: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Name or index at each level of the payload; at least one.
    Pointer(Vec<String>),
    /// Name of a user property.
    Property(String),
}

/// `flows.message_key` holds something else than a place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "message_key {0:?} is neither a JSON pointer like /id or /meta/id (in a name ~ is written ~0 and / is written \
     ~1) nor property:NAME"
)]
pub struct UnusableKey(pub String);

/// Stands before the name of a user property.
const PROPERTY: &str = "property:";

impl MessageKey {
    /// Reads `flows.message_key`; nothing or blanks mean that the messages have no key.
    pub fn parse(text: Option<&str>) -> Result<Option<MessageKey>, UnusableKey> {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
        let place = match text.strip_prefix(PROPERTY) {
            Some(name) => {
                Some(name).filter(|name| !name.is_empty()).map(|name| Place::Property(name.to_owned()))
            }
            None => pointer(text).map(Place::Pointer),
        };
        let place = place.ok_or_else(|| UnusableKey(text.to_owned()))?;
        Ok(Some(MessageKey { text: text.to_owned(), place }))
    }

    /// The hash of a message's key; `None` for a message without one.
    ///
    /// A place that is not there, null and an empty text are no key: were they one, all messages
    /// whose producer had none to give would be taken for the same.
    ///
    /// The place itself is part of the hash: where it is changed, the numbers of the new one are
    /// not taken for those of the old.
    #[must_use]
    pub fn hash_of(&self, payload: &Payload<'_>, delivery: &DeliveryFacts) -> Option<KeyHash> {
        let (sort, content) = match &self.place {
            Place::Pointer(tokens) => content_at(payload, tokens)?,
            Place::Property(name) => (b'p', Cow::Borrowed(property(delivery, name)?)),
        };
        let mut hasher = Sha256::new();
        hasher.update((self.text.len() as u64).to_le_bytes());
        hasher.update(&self.text);
        hasher.update([sort]);
        hasher.update(content.as_bytes());
        hasher.finalize().first_chunk().copied()
    }
}

/// The names and indexes of a JSON pointer (RFC 6901) that leads into the payload.
fn pointer(text: &str) -> Option<Vec<String>> {
    let tokens = text.strip_prefix('/')?;
    tokens.split('/').map(unescaped).collect()
}

fn unescaped(token: &str) -> Option<String> {
    let escapes = token.split('~').skip(1);
    let known = escapes.clone().all(|rest| rest.starts_with(['0', '1']));
    // In this order, so that ~01 is ~1 and not a slash.
    known.then(|| token.replace("~1", "/").replace("~0", "~"))
}

/// What stands there, with a letter for its sort: the text 1 is another key than the number 1.
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

/// The first property of that name.
fn property<'a>(delivery: &'a DeliveryFacts, name: &str) -> Option<&'a str> {
    let (_, value) = delivery.user_properties.iter().find(|(known, _)| known == name)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
