//! Tests of a message in a form.

use actix_web::http::StatusCode;

use crate::control::{Control, ControlError, FlowEdit, Rehearsal, TestMessage};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::problem::Problem;
use crate::domain::topic_trial::check_topic;
use crate::http::api::problem::ApiProblem;
use crate::http::console::fields::Fields;

/// Longest payload that is put into a form, in bytes. A form has other fields too, and browsers become slow far above
/// this.
pub(in crate::http::console) const MAX_EDITED_BYTES: usize = 256 * 1024;

/// Longest value of a result that a page shows, in characters.
const MAX_SHOWN_CHARS: usize = 4_000;

/// A message to test, as the form has it.
#[derive(Default)]
pub(in crate::http::console) struct TestInputs {
    pub(in crate::http::console) topic: String,
    pub(in crate::http::console) payload: String,
    /// Bytes of a payload that is too long for the form.
    pub(in crate::http::console) left_out: Option<usize>,
}

impl TestInputs {
    pub(in crate::http::console) fn of_form(fields: &Fields) -> Self {
        Self {
            topic: fields.get("test_topic").to_owned(),
            payload: fields.get("test_payload").to_owned(),
            left_out: None,
        }
    }

    /// The field of the form that the problem is about. The flow and the test have a topic each.
    pub(super) fn field_of(&self, problem: &Problem) -> &'static str {
        let is_topic = || check_topic(&self.topic).is_err_and(|found| found == *problem);
        match problem.field {
            "--payload" => "test_payload",
            "topic" if is_topic() => "test_topic",
            field => field,
        }
    }

    fn of_message(message: &TestMessage) -> Self {
        let payload = message.payload.as_deref().unwrap_or_default();
        let left_out = Some(payload.len()).filter(|bytes| *bytes > MAX_EDITED_BYTES);
        let shown = if left_out.is_some() { &[] } else { payload };
        Self {
            topic: message.topic.clone().unwrap_or_default(),
            payload: String::from_utf8_lossy(shown).into_owned(),
            left_out,
        }
    }
}

/// The beginning of a value of a result, and how long a longer one is.
pub(in crate::http::console) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS).and_then(|(end, _)| text.get(..end)) {
        Some(shown) => format!("{shown}… ({} bytes in all)", text.len()),
        None => text.to_owned(),
    }
}

/// The result of a test.
#[derive(Default)]
pub(in crate::http::console) struct Tried {
    pub(in crate::http::console) status: StatusCode,
    pub(in crate::http::console) problems: Vec<Problem>,
    pub(in crate::http::console) rehearsal: Option<Rehearsal>,
    /// The message, to be changed and tried again.
    pub(in crate::http::console) test: TestInputs,
}

/// A flow to test, with the entries of its form.
#[derive(Clone, Copy)]
pub(in crate::http::console) enum TestedFlow<'a> {
    Saved(&'a FlowRecord, &'a FlowEdit),
    /// A flow that is not added yet, by its code.
    New(&'a str, &'a FlowEdit),
}

/// Rehearses the message of a form, or the last message that the gateway received for the flow.
pub(in crate::http::console) async fn tried(
    control: &Control,
    flow: TestedFlow<'_>,
    fields: &Fields,
) -> Result<Tried, ApiProblem> {
    let mut test = TestInputs::of_form(fields);
    let rehearsed = async {
        let message = if let ("test_last", TestedFlow::Saved(flow, _)) = (fields.get("do"), flow) {
            let last = control.last_message(&flow.definition).await?;
            test = TestInputs::of_message(&last);
            last
        } else {
            let payload = Some(fields.get("test_payload")).filter(|payload| !payload.is_empty());
            TestMessage {
                topic: fields.given("test_topic"),
                payload: payload.map(|payload| payload.as_bytes().to_vec()),
                ..TestMessage::default()
            }
        };
        match flow {
            TestedFlow::Saved(flow, edit) => control.rehearse(&flow.definition.code, message, edit).await,
            TestedFlow::New(code, edit) => control.rehearse_new(code, message, edit).await,
        }
    };
    let rehearsed = rehearsed.await;
    match rehearsed {
        Ok(rehearsal) => {
            let problems = rehearsal.problems.clone();
            Ok(Tried { status: StatusCode::OK, problems, rehearsal: Some(rehearsal), test })
        }
        Err(ControlError::Invalid { problems }) => {
            Ok(Tried { status: StatusCode::UNPROCESSABLE_ENTITY, problems, rehearsal: None, test })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        assert_eq!(excerpt(&"é".repeat(MAX_SHOWN_CHARS)), "é".repeat(MAX_SHOWN_CHARS));
        let cut = excerpt(&"é".repeat(MAX_SHOWN_CHARS + 1));
        assert_eq!(cut, format!("{}… (8002 bytes in all)", "é".repeat(MAX_SHOWN_CHARS)));
    }

    #[test]
    fn long_payloads_are_left_out_of_the_form() {
        let inputs = |bytes| {
            TestInputs::of_message(&TestMessage {
                payload: Some(vec![b'x'; bytes]),
                ..TestMessage::default()
            })
        };
        let (fits, long) = (inputs(MAX_EDITED_BYTES), inputs(MAX_EDITED_BYTES + 1));
        assert_eq!((fits.payload.len(), fits.left_out), (MAX_EDITED_BYTES, None));
        assert_eq!((long.payload.as_str(), long.left_out), ("", Some(MAX_EDITED_BYTES + 1)));
    }
}
