//! The version of a flow or broker, by which an edit of a flow that changed meanwhile is recognised.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::flow_definition::FlowDefinition;
use super::masking::MaskedServer;
use super::server_definition::ServerDefinition;

/// A hash of the columns that people write. Without the key, nothing can be tried against the secrets in them.
#[must_use]
pub fn flow_version(key: &str, flow: &FlowDefinition) -> String {
    let FlowDefinition {
        code,
        description,
        topic,
        action,
        payload_schema,
        endpoint_url,
        options,
        message_key,
        enabled,
    } = flow;
    let texts = (code, description, topic, action);
    let others = (payload_schema, endpoint_url, options, message_key, enabled);
    row_version(key, &(texts, others))
}

/// The same of a broker.
#[must_use]
pub fn server_version(key: &str, server: &ServerDefinition) -> String {
    row_version(key, &MaskedServer::given(server))
}

fn row_version(key: &str, columns: &impl Serialize) -> String {
    // A key of any length is accepted, and all values can be written as JSON.
    let Ok(mut hash) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    hash.update(&serde_json::to_vec(columns).unwrap_or_default());
    let hash = hash.finalize().into_bytes();
    // Half of the hash is enough: two versions of a flow never have the same.
    hash.first_chunk().map(|half| format!("{:032x}", u128::from_be_bytes(*half))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::credential::Credential;

    #[test]
    fn passwords_change_the_version_of_a_broker() {
        let version = |password: &str| {
            let password = Some(Credential::new(password));
            server_version("k", &ServerDefinition { password, ..ServerDefinition::default() })
        };
        assert_ne!(version("a"), version("b"));
        assert_eq!(version("a"), version("a"));
    }

    #[test]
    fn masked_paths_change_the_version_of_a_broker() {
        let version = |path: &str| {
            let client_key_file = Some(path.to_owned());
            server_version("k", &ServerDefinition { client_key_file, ..ServerDefinition::default() })
        };
        assert_ne!(version("a"), version("b"));
    }

    #[test]
    fn each_column_changes_the_version() {
        let flow = FlowDefinition { code: "T".to_owned(), ..FlowDefinition::default() };
        let text = || Some("x".to_owned());
        let others = [
            FlowDefinition { code: "x".to_owned(), ..flow.clone() },
            FlowDefinition { description: "x".to_owned(), ..flow.clone() },
            FlowDefinition { topic: "x".to_owned(), ..flow.clone() },
            FlowDefinition { action: "x".to_owned(), ..flow.clone() },
            FlowDefinition { payload_schema: text(), ..flow.clone() },
            FlowDefinition { endpoint_url: text(), ..flow.clone() },
            FlowDefinition { options: text(), ..flow.clone() },
            FlowDefinition { message_key: text(), ..flow.clone() },
            FlowDefinition { enabled: Some(false), ..flow.clone() },
        ];
        let mut versions: Vec<String> = others.iter().map(|other| flow_version("k", other)).collect();
        versions.extend([flow_version("k", &flow), flow_version("other key", &flow)]);
        assert!(versions.iter().all(|version| version.len() == 32));
        versions.sort();
        versions.dedup();
        assert_eq!(versions.len(), 11);
    }
}
