//! Performs the steps of a [`Pass`], and logs the broker's answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::RegistryParts;
use crate::actors::messages::{
    NewRoutingTable, ResyncSubscriptions, Subscribe, SubscribeError, SubscribeOutcome, Unsubscribe,
};
use crate::domain::reconciliation::{Pass, PassStep};
use crate::domain::replicas::Role;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;

const CANNOT_SHARE: &str = "Nothing is subscribed: SHARED_GROUP needs a broker that shares subscriptions by MQTT 5, and the \
     connected one does not announce that. Use another broker, or divide the flows by SHARD_INDEX and SHARD_COUNT";

/// Performs a planned pass.
pub(super) async fn perform(pass: &mut Pass, parts: &RegistryParts) {
    report(pass, parts);
    while let Some(step) = pass.next_step() {
        let refused = ask(&step, pass, parts).await;
        pass.apply_answer(step, refused);
    }
}

fn report(pass: &Pass, parts: &RegistryParts) {
    for rejected in &pass.new_rejections {
        let (flow, reason) = (&rejected.flow, &rejected.error);
        log::error!(
            flow_id = flow.id, flow = &*flow.code;
            "Flow {} is not subscribed: its topic filter {:?} is not valid: {reason}",
            flow.code, flow.topic
        );
    }
    if pass.has_new_flows {
        // The metrics know a flow before its first message can arrive.
        parts.observed.metrics.flows.set(pass.flows().iter().map(|flow| (flow.id, flow.code.as_str())));
        log::info!(flows = pass.flows().len(), rejected = pass.rejected(); "Flows loaded");
    }
    if pass.is_on_unfit_broker() {
        log::error!("{CANNOT_SHARE}");
    }
}

/// Returns the filters that the broker refused, or `None` after an error.
async fn ask(step: &PassStep, pass: &Pass, parts: &RegistryParts) -> Option<BTreeSet<TopicFilter>> {
    let mqtt = &parts.directory.mqtt;
    let with_ids = pass.state.terms().names_subscriptions;
    match step {
        PassStep::Route(table) => {
            // Without the table, the router would pass over messages of the filters that are subscribed next.
            parts.directory.router.ask(NewRoutingTable { table: Arc::clone(table) }).await.ok()?;
            Some(BTreeSet::new())
        }
        PassStep::Subscribe(filters) => {
            let outcomes = mqtt.ask(Subscribe { filters: filters.clone(), with_ids }).await.ok()?;
            outcomes.inspect_err(log_broker_error).ok().map(|outcomes| refused(outcomes, filters, pass))
        }
        PassStep::Resync(filters) => {
            let server = Arc::clone(&pass.state.terms().server);
            let retires = *pass.state.membership.role() == Role::Leaving;
            let request = ResyncSubscriptions { server, filters: filters.clone(), with_ids, retires };
            let outcomes = mqtt.ask(request).await.ok()?;
            outcomes.inspect_err(log_broker_error).ok().map(|outcomes| refused(outcomes, filters, pass))
        }
        PassStep::Unsubscribe(filters) => {
            let done = mqtt.ask(Unsubscribe { filters: filters.clone() }).await.ok()?;
            done.inspect_err(log_broker_error).ok().map(|()| BTreeSet::new())
        }
    }
}

/// Logs the error. The next connect or the next retry reconciles everything.
fn log_broker_error(error: &SubscribeError) {
    log::warn!("The broker did not accept the subscriptions, retrying after the next connect: {error}");
}

/// Returns the filters of `asked` that the broker refused. Logs each affected flow for a refusal or a lower `QoS`.
fn refused(outcomes: Vec<SubscribeOutcome>, asked: &Subscriptions, pass: &Pass) -> BTreeSet<TopicFilter> {
    let mut refused = BTreeSet::new();
    for SubscribeOutcome { filter, refusal, lowered_to } in outcomes {
        if refusal.is_none() && lowered_to.is_none() {
            continue;
        }
        let Some(own) = asked.keys().find(|asked| asked.as_str() == filter) else { continue };
        for flow in pass.affected_flows(own) {
            let (flow_id, code) = (flow.id, &*flow.code);
            if let Some(refusal) = &refusal {
                log::error!(flow_id, flow = code; "Flow {code} gets no messages: the broker refused {filter:?}: {refusal}");
            } else if let Some(qos) = lowered_to {
                log::error!(
                    flow_id, flow = code, qos;
                    "Flow {code} loses messages whenever the gateway is away: the broker granted {filter:?} at QoS {qos} only"
                );
            }
        }
        refused.extend(refusal.map(|_| own.clone()));
    }
    log::info!(filters = asked.len() - refused.len(); "Subscribed");
    refused
}
