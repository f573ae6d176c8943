//! Checks the topic filter of a flow.

use super::{FlowSet, named};
use crate::domain::flow_definition::FlowDefinition;
use crate::domain::problem::Problem;
use crate::domain::topic::TopicFilter;

const FIELD: &str = "topic";

pub(super) fn check(flow: &FlowDefinition, set: &FlowSet<'_>, problems: &mut Vec<Problem>) {
    let topic = flow.topic.as_str();
    let filter = match TopicFilter::parse(topic) {
        Ok(filter) => filter,
        Err(error) => {
            let remedy = "correct the topic filter, for example sensors/+/temperature or alarms/#";
            problems.push(Problem::error(FIELD, error, remedy));
            return;
        }
    };
    if topic.trim() != topic {
        let problem =
            format!("the topic filter {topic:?} begins or ends with a blank, which is part of the topic");
        problems.push(Problem::warning(FIELD, problem, "remove the blank, unless devices publish with it"));
    }
    if filter.pattern() == "#" {
        let problem = "the topic filter # matches every message of the broker";
        problems.push(Problem::warning(FIELD, problem, "name the first level, such as sensors/#"));
    }
    if filter.pattern().split('/').next() == Some("$SYS") {
        let problem = "the topic filter matches the status messages of the broker itself";
        problems.push(Problem::warning(FIELD, problem, "remove it, unless the broker is to be watched"));
    }
    check_overlap(flow, &filter, set, problems);
}

/// A message goes to every flow whose filter it matches, so an overlap is allowed, and easily overlooked.
fn check_overlap(
    flow: &FlowDefinition,
    filter: &TopicFilter,
    set: &FlowSet<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut near = Vec::new();
    set.filters.visit_near(filter, |place| near.push(*place));
    near.sort_unstable();
    let mut overlapping = set.others(&near, flow);
    overlapping.retain(|other| TopicFilter::parse(&other.topic).is_ok_and(|other| other.overlaps(filter)));
    if !overlapping.is_empty() {
        let problem = format!("messages can match other flows as well: {}", named(&overlapping));
        let remedy =
            "nothing, if such messages are meant for all these flows: each of them gets its own copy";
        problems.push(Problem::warning(FIELD, problem, remedy));
    }
}
