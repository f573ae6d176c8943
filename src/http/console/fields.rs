//! Names and values of a query or a form.

use url::form_urlencoded;

use crate::control::ControlError;

/// Names and values, as they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Parses a query, or the body of a form. Browsers write line breaks as CR LF; here they are LF.
    pub(super) fn parse(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n"))).collect())
    }

    /// The pairs as fields.
    pub(super) fn from_pairs(pairs: Vec<(&str, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The value with this name; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The value with this name without blanks around it, unless it is empty.
    pub(super) fn given(&self, name: &str) -> Option<String> {
        Some(self.get(name).trim()).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The number with this name.
    pub(super) fn number(&self, name: &'static str) -> Result<i64, ControlError> {
        let number = self.get(name).parse();
        number
            .map_err(|_| ControlError::invalid(name, "this is no number", "follow the links of the console"))
    }

    /// These fields with another value of this name.
    pub(super) fn with(mut self, name: &str, value: String) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value));
        self
    }

    /// Those of these names that have a value, for a link or the hidden fields of a form.
    pub(super) fn only(&self, names: &[&str]) -> Vec<(String, String)> {
        let kept = self.0.iter().filter(|(name, value)| names.contains(&name.as_str()) && !value.is_empty());
        kept.cloned().collect()
    }

    /// Fails if a text has U+0000, which no database holds.
    pub(super) fn check(&self) -> Result<(), ControlError> {
        match self.0.iter().find(|(_, value)| value.contains('\0')) {
            Some(_) => Err(ControlError::invalid("form", "a field contains U+0000", "remove that character")),
            None => Ok(()),
        }
    }
}

/// A link to a path with a query.
pub(super) fn link<'a>(path: &str, query: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// As [`link`], for pairs of [`Fields::only`].
pub(super) fn link_with(path: &str, pairs: &[(String, String)]) -> String {
    link(path, pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_parsed() {
        let fields = Fields::parse(b"code=A%2FB+%26&text=a%0D%0Ab&empty=&id=7");
        assert_eq!(fields.get("code"), "A/B &");
        assert_eq!(fields.get("text"), "a\nb");
        assert_eq!((fields.given("empty"), fields.given("code")), (None, Some("A/B &".to_owned())));
        assert_eq!(fields.number("id").ok(), Some(7));
        assert!(fields.number("code").is_err());
        assert_eq!(link_with("/flow", &fields.only(&["code", "empty"])), "/flow?code=A%2FB+%26");
        assert_eq!(link("/flows", []), "/flows");
    }
}
