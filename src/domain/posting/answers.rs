//! The meaning of the HTTP status of an answer.

use super::options::StatusPattern;

/// The meaning of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerMeaning {
    /// The endpoint has the message.
    Delivered,
    /// The endpoint rejects the content of this message. Another attempt would fail the same way.
    MessageFault,
    /// The endpoint is not available. The next message would fail too, so the flow waits.
    EndpointFault,
}

/// Whether a failed status says that the origin is overloaded or broken, so that other flows would fail too. Any other
/// answer shows that the origin is available.
#[must_use]
pub fn blames_origin(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// The lists `success`, `message_fault` and `endpoint_fault` of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerRules {
    /// A status counts before its class.
    statuses: Vec<(u16, AnswerMeaning)>,
    classes: Vec<(u16, AnswerMeaning)>,
}

impl AnswerRules {
    /// Creates the rules from the lists. Returns the pattern that two lists contain.
    pub fn new(
        success: &[StatusPattern],
        message_fault: &[StatusPattern],
        endpoint_fault: &[StatusPattern],
    ) -> Result<Self, StatusPattern> {
        let lists = [
            (success, AnswerMeaning::Delivered),
            (message_fault, AnswerMeaning::MessageFault),
            (endpoint_fault, AnswerMeaning::EndpointFault),
        ];
        let mut rules = Self::default();
        for (list, meaning) in lists {
            for &pattern in list {
                let (known, number) = match pattern {
                    StatusPattern::Status(status) => (&mut rules.statuses, status),
                    StatusPattern::Class(class) => (&mut rules.classes, class),
                };
                match known.iter().find(|(other, _)| *other == number) {
                    Some((_, other)) if *other != meaning => return Err(pattern),
                    Some(_) => {}
                    None => known.push((number, meaning)),
                }
            }
        }
        Ok(rules)
    }

    /// Returns the meaning of a status, by the lists or else by default.
    #[must_use]
    pub fn meaning_of(&self, status: u16) -> AnswerMeaning {
        self.listed(status).unwrap_or(match status {
            200..=299 => AnswerMeaning::Delivered,
            400 | 413 | 415 | 422 => AnswerMeaning::MessageFault,
            _ => AnswerMeaning::EndpointFault,
        })
    }

    /// Returns the meaning of a status if a list contains it.
    #[must_use]
    pub fn listed(&self, status: u16) -> Option<AnswerMeaning> {
        let find = |list: &[(u16, AnswerMeaning)], number| {
            list.iter().find(|(listed, _)| *listed == number).map(|(_, meaning)| *meaning)
        };
        find(&self.statuses, status).or_else(|| find(&self.classes, status / 100))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::AnswerMeaning::{Delivered, EndpointFault, MessageFault};
    use super::StatusPattern::{Class, Status};
    use super::*;

    #[test]
    fn default_separates_message_and_endpoint() {
        let rules = AnswerRules::default();
        for (meaning, statuses) in [
            (Delivered, &[200, 201, 202, 204, 299][..]),
            (MessageFault, &[400, 413, 415, 422]),
            (
                EndpointFault,
                &[100, 101, 301, 302, 303, 307, 401, 403, 404, 408, 409, 410, 425, 429, 500, 503, 999],
            ),
        ] {
            for &status in statuses {
                assert_eq!(rules.meaning_of(status), meaning, "{status}");
            }
        }
    }

    #[test]
    fn status_counts_before_its_class() {
        let rules = AnswerRules::new(&[Status(409)], &[Class(4)], &[Status(404)]).unwrap();
        assert_eq!(
            [409, 404, 418, 500].map(|status| rules.listed(status)),
            [Some(Delivered), Some(EndpointFault), Some(MessageFault), None]
        );
    }

    #[test]
    fn pattern_in_two_lists_is_an_error() {
        assert_eq!(AnswerRules::new(&[Class(2)], &[], &[Status(500), Class(2)]), Err(Class(2)));
        assert_eq!(AnswerRules::new(&[Status(404)], &[Status(404)], &[]), Err(Status(404)));
        assert!(AnswerRules::new(&[Status(404), Status(404)], &[], &[]).is_ok());
    }
}
