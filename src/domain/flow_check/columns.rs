//! Checks the columns that process messages: action, schema, endpoint, options and message key.

use core::net::IpAddr;

use url::{Host, Url};

use crate::domain::flow::{Action, FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB, endpoint_url};
use crate::domain::flow_definition::FlowDefinition;
use crate::domain::flow_options::FlowOptions;
use crate::domain::message_key::MessageKey;
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::problem::Problem;
use crate::domain::schema::PayloadSchema;

pub(super) fn check(flow: &FlowDefinition, networks: &EndpointNetworks, problems: &mut Vec<Problem>) {
    let action = Action::parse(&flow.action);
    if let Err(error) = &action {
        problems.push(Problem::error("action", error, action_remedy(&flow.action)));
    }
    if let Err(error) = PayloadSchema::compile(flow.payload_schema.as_deref().unwrap_or_default()) {
        let remedy =
            r#"give the required fields and their types, such as {"value": "number"}, or {} for any object"#;
        problems.push(Problem::error("payload_schema", error, remedy));
    }
    let options = FlowOptions::parse_for(&flow.action, flow.options.as_deref());
    if let Err(error) = &options {
        let remedy = "correct this option; `mqtt-gateway schema` describes all of them";
        problems.push(Problem::error("options", error, remedy));
    }
    if action == Ok(Action::PostEndpoint) || options.is_ok_and(|options| options.also_post) {
        check_endpoint(flow, networks, problems);
    }
    if let Err(error) = MessageKey::parse(flow.message_key.as_deref()) {
        problems.push(Problem::error("message_key", error, "correct it, or leave it out"));
    }
}

fn action_remedy(action: &str) -> String {
    let meant = action.trim().to_uppercase();
    match [FLOW_ACTION_STORE_DB, FLOW_ACTION_POST_ENDPOINT].into_iter().find(|known| *known == meant) {
        Some(known) => format!("write it as {known}"),
        None => {
            format!(
                "{FLOW_ACTION_STORE_DB} stores the messages in `data`, {FLOW_ACTION_POST_ENDPOINT} posts them"
            )
        }
    }
}

fn check_endpoint(flow: &FlowDefinition, networks: &EndpointNetworks, problems: &mut Vec<Problem>) {
    const FIELD: &str = "endpoint_url";
    let url = match endpoint_url(flow.endpoint_url.as_deref()) {
        Ok(url) => url,
        Err(error) => {
            let remedy = "give the URL of the endpoint, such as https://example.com/hook";
            problems.push(Problem::error(FIELD, error, remedy));
            return;
        }
    };
    if let Some(Err(refused)) = address(&url).map(|address| networks.check(address)) {
        let remedy = "give another address; ENDPOINT_NETWORKS says which networks are allowed";
        problems.push(Problem::error(FIELD, refused, remedy));
    }
}

fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}
