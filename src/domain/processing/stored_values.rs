//! The values of a message as they are stored, and whether they fit their columns.

use super::super::dead_letter::DeadLetterReason;
use super::super::payload::{Attribute, Payload};
use super::super::value_style::ValueStyle;
use super::outcome::StoredText;
use super::reject::RejectCause;
use super::rules::ProcessingRules;

/// Characters of an attribute's name in an error message.
const SHOWN_NAME_CHARS: usize = 40;

/// The values of one message, shared by all flows that store it.
pub(super) struct StoredValues<'a> {
    payload: &'a Payload<'a>,
    /// Rows of the message in the flows so far.
    rows: usize,
    /// `None` until the first flow stores the message.
    texts: Option<Result<Vec<StoredText<'a>>, RejectCause>>,
}

/// The attributes of a message that may be stored in one flow. Only [`StoredValues::check`] makes it.
pub(super) struct Storable<'v, 'a> {
    attributes: &'a [Attribute<'a>],
    texts: &'v [StoredText<'a>],
}

impl<'a> Storable<'_, 'a> {
    /// Name and value of each attribute.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'a str, StoredText<'a>)> {
        let names = self.attributes.iter().map(Attribute::name);
        names.zip(self.texts.iter().cloned())
    }
}

impl<'a> StoredValues<'a> {
    pub(super) fn new(payload: &'a Payload<'a>) -> Self {
        Self { payload, rows: 0, texts: None }
    }

    pub(super) fn payload(&self) -> &'a Payload<'a> {
        self.payload
    }

    /// Checks that the message can be stored in one more flow.
    pub(super) fn check(&mut self, rules: &ProcessingRules) -> Result<Storable<'_, 'a>, RejectCause> {
        let payload = self.payload;
        let texts = self.texts.get_or_insert_with(|| stored_texts(payload, rules));
        let texts = texts.as_ref().map_err(RejectCause::clone)?;
        let (rows, max) = (self.rows + texts.len(), rules.max_rows_per_message);
        if rows > max {
            let detail = format!(
                "{} attributes make more than {max} rows, together with those of the message's other flows",
                texts.len()
            );
            return Err(RejectCause::new(DeadLetterReason::TooManyRows, detail));
        }
        self.rows = rows;
        Ok(Storable { attributes: payload.attributes(), texts })
    }
}

/// The values of the attributes in their order, if all names and values fit their columns.
fn stored_texts<'a>(
    payload: &'a Payload<'a>,
    rules: &ProcessingRules,
) -> Result<Vec<StoredText<'a>>, RejectCause> {
    if let Some(at) = payload.half_pair() {
        let detail = format!("half of a surrogate pair at byte {at} is no character, so it cannot be stored");
        return Err(RejectCause::new(DeadLetterReason::HalfSurrogatePair, detail));
    }
    payload.attributes().iter().map(|attribute| stored_text(attribute, rules)).collect()
}

fn stored_text<'a>(
    attribute: &'a Attribute<'a>,
    rules: &ProcessingRules,
) -> Result<StoredText<'a>, RejectCause> {
    let (name, max_chars) = (attribute.name(), rules.limits.attribute_name_chars);
    let shown = || name.chars().take(SHOWN_NAME_CHARS).collect::<String>();
    // A name has at least as many bytes as characters, and counting characters is slow.
    if name.len() > max_chars && name.chars().count() > max_chars {
        let detail = format!("the name {}… is longer than {max_chars} characters", shown());
        return Err(RejectCause::new(DeadLetterReason::NameTooLong, detail));
    }
    if !rules.limits.takes_nul && holds_nul(attribute, rules.value_style) {
        let detail =
            format!("the attribute {} holds the character U+0000, which the database cannot store", shown());
        return Err(RejectCause::new(DeadLetterReason::NulCharacter, detail));
    }
    let value = StoredText::from(attribute.text(rules.value_style));
    match rules.limits.attribute_value_bytes {
        Some(max) if value.len() > max => {
            let detail = format!("the value of {name} is longer than {max} bytes");
            Err(RejectCause::new(DeadLetterReason::ValueTooLong, detail))
        }
        _ => Ok(value),
    }
}

/// In JSON U+0000 can only be escaped, and within an object or an array it is stored escaped.
fn holds_nul(attribute: &Attribute<'_>, style: ValueStyle) -> bool {
    const ESCAPED: &str = "\\u0000";
    let in_value = attribute.raw().contains(ESCAPED) && attribute.text(style).contains('\0');
    in_value || attribute.name().contains('\0')
}
