//! A JSON object whose members keep their order and spelling when one of them is edited.

use super::super::payload::{Payload, PayloadError, PayloadLimits};

/// The members of a JSON object, with the texts of their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members(Vec<(String, String)>);

impl Members {
    pub(super) fn parse(text: &str) -> Result<Self, PayloadError> {
        let object = Payload::parse(text.as_bytes(), &PayloadLimits::default())?;
        let member = |member: &super::super::payload::Attribute<'_>| {
            (member.name().to_owned(), member.raw().to_owned())
        };
        Ok(Self(object.attributes().iter().map(member).collect()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The member as an object, if it is one.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?).ok()
    }

    /// Replaces a member, or appends it.
    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The object as text.
    pub(super) fn text(&self) -> String {
        let members = self.0.iter().map(|(name, value)| format!("{}: {value}", quoted(name)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
