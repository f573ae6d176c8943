//! Options with masked secrets. Each `***` stands for the secret in the same place of the row.

use serde_json::Value;

use crate::domain::redaction::{HIDDEN, is_public, shown_options};

/// The text itself if nothing in it is masked, so that its form is kept.
pub(super) fn masked_options(text: &str) -> String {
    if text.trim().is_empty() {
        return text.to_owned();
    }
    let shown = shown_options(text);
    if serde_json::from_str::<Value>(text).is_ok_and(|options| options == shown) {
        return text.to_owned();
    }
    shown.to_string()
}

/// The options with the secrets of the row, or the places of those that the row does not have.
pub(super) fn restored_options(given: &str, present: Option<&str>) -> Result<String, Vec<String>> {
    if let Some(present) = present.filter(|present| masked_options(present) == given) {
        return Ok(present.to_owned());
    }
    let Ok(mut options) = serde_json::from_str::<Value>(given) else { return Ok(given.to_owned()) };
    let secrets = present.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
    let mut restoring = Restoring::default();
    restoring.fill(&mut options, &secrets);
    if !restoring.unknown.is_empty() {
        return Err(restoring.unknown);
    }
    Ok(if restoring.filled == 0 { given.to_owned() } else { options.to_string() })
}

/// The way to the value at hand, and what became of the masked ones before it.
#[derive(Default)]
struct Restoring {
    path: Vec<String>,
    filled: usize,
    unknown: Vec<String>,
}

impl Restoring {
    fn fill(&mut self, given: &mut Value, present: &Value) {
        if is_public(&self.path) {
            return;
        }
        match given {
            Value::String(text) if text == HIDDEN => match present {
                Value::String(_) | Value::Number(_) if is_masked(present) => {
                    *given = present.clone();
                    self.filled += 1;
                }
                _ => self.unknown.push(self.path.join(".")),
            },
            Value::Object(members) => {
                for (name, member) in members {
                    self.path.push(name.clone());
                    self.fill(member, present.get(name).unwrap_or(&Value::Null));
                    self.path.pop();
                }
            }
            Value::Array(items) => self.fill_items(items, present.as_array().map_or(&[], Vec::as_slice)),
            _ => {}
        }
    }

    /// In an array the secrets are told apart by their order. Their number must be the same: otherwise it is open which
    /// of them was left out.
    fn fill_items(&mut self, items: &mut [Value], present: &[Value]) {
        let is_hidden = |item: &&Value| **item == Value::String(HIDDEN.to_owned());
        let secrets: Vec<&Value> = present.iter().filter(|item| is_masked(item)).collect();
        let is_clear = items.iter().filter(is_hidden).count() == secrets.len();
        let mut secrets = secrets.into_iter();
        for (place, item) in items.iter_mut().enumerate() {
            let secret = if is_hidden(&&*item) { secrets.next().filter(|_| is_clear) } else { None };
            self.path.push(place.to_string());
            self.fill(item, secret.unwrap_or(&Value::Null));
            self.path.pop();
        }
    }
}

/// Whether the value is shown as `***`.
fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => crate::domain::redaction::shown_secret(text) == HIDDEN,
        Value::Number(_) => true,
        _ => false,
    }
}
