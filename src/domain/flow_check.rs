//! Finds the problems of flows, by the same rules as the gateway that processes their messages.

mod columns;
mod topics;

use std::collections::BTreeMap;

use super::flow_definition::FlowDefinition;
use super::posting::address_guard::EndpointNetworks;
use super::problem::{Problem, ProblemLevel};
use super::topic::TopicFilter;
use super::trie::FilterTrie;

/// The column with the code.
const CODE: &str = "code";

/// Longest code in characters, as the columns of other tables hold it.
const MAX_CODE_CHARS: usize = 100;

/// Most flows that a warning names.
const MAX_NAMED_FLOWS: usize = 3;

/// All flows of a table, prepared for comparing one of them with the others.
#[derive(Debug)]
pub struct FlowSet<'f> {
    flows: Vec<&'f FlowDefinition>,
    /// Places of the flows with a valid filter.
    filters: FilterTrie<usize>,
    /// Places of the flows by their codes in lower case.
    codes: BTreeMap<String, Vec<usize>>,
}

impl<'f> FlowSet<'f> {
    /// Prepares the flows.
    pub fn new(flows: impl IntoIterator<Item = &'f FlowDefinition>) -> Self {
        let mut set = Self { flows: Vec::new(), filters: FilterTrie::default(), codes: BTreeMap::new() };
        for (place, flow) in flows.into_iter().enumerate() {
            if let Ok(filter) = TopicFilter::parse(&flow.topic) {
                set.filters.insert(&filter, place);
            }
            set.codes.entry(flow.code.to_lowercase()).or_default().push(place);
            set.flows.push(flow);
        }
        set
    }

    /// Whether another flow has the code of `flow`, which is the only error that depends on other flows.
    #[must_use]
    pub fn has_code_twice(&self, flow: &FlowDefinition) -> bool {
        self.of_similar_code(flow).iter().any(|other| other.code == flow.code)
    }

    /// The other flows with the same code, or one that differs only in upper and lower case.
    fn of_similar_code(&self, flow: &FlowDefinition) -> Vec<&'f FlowDefinition> {
        self.codes.get(&flow.code.to_lowercase()).map_or_else(Vec::new, |same| self.others(same, flow))
    }

    /// The other flows at these places. A flow is not compared with itself: `flow` may be one of the set.
    fn others(&self, places: &[usize], flow: &FlowDefinition) -> Vec<&'f FlowDefinition> {
        let found = places.iter().filter_map(|place| self.flows.get(*place).copied());
        found.filter(|other| !std::ptr::eq(*other, flow)).collect()
    }
}

/// Finds the problems of `flow`, first those of its own columns, then those that concern the other flows of `set`.
/// `networks` is the value of `ENDPOINT_NETWORKS`.
#[must_use]
pub fn check_flow(flow: &FlowDefinition, set: &FlowSet<'_>, networks: &EndpointNetworks) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_code(flow, set, &mut problems);
    topics::check(flow, set, &mut problems);
    columns::check(flow, networks, &mut problems);
    problems.sort_by_key(|problem| problem.level);
    problems
}

/// The problems of a flow that is to be added. Its code cannot be changed later, so a warning about it becomes an
/// error.
#[must_use]
pub fn problems_of_new(mut problems: Vec<Problem>) -> Vec<Problem> {
    for problem in problems.iter_mut().filter(|problem| problem.field == CODE) {
        problem.level = ProblemLevel::Error;
    }
    problems.sort_by_key(|problem| problem.level);
    problems
}

fn check_code(flow: &FlowDefinition, set: &FlowSet<'_>, problems: &mut Vec<Problem>) {
    let code = flow.code.as_str();
    if code.trim().is_empty() {
        problems.push(Problem::error(CODE, "the code is empty", "give the flow a short unique name"));
        return;
    }
    let chars = code.chars().count();
    if chars > MAX_CODE_CHARS {
        let problem = format!("the code has {chars} characters, {MAX_CODE_CHARS} are allowed");
        problems.push(Problem::error(CODE, problem, "give the flow a shorter name"));
    }
    if code.trim() != code {
        let problem = format!("the code {code:?} begins or ends with a blank");
        problems.push(Problem::warning(CODE, problem, "remove the blank"));
    }
    for other in set.of_similar_code(flow) {
        problems.push(if other.code == code {
            Problem::error(CODE, format!("another flow has the code {code:?}"), "choose another code")
        } else {
            let problem =
                format!("the code differs from that of flow {:?} only in upper and lower case", other.code);
            Problem::warning(CODE, problem, "choose another code: databases that ignore case confuse the two")
        });
    }
}

/// Names some flows, and says how many more there are.
fn named(flows: &[&FlowDefinition]) -> String {
    let names: Vec<String> =
        flows.iter().take(MAX_NAMED_FLOWS).map(|flow| format!("{:?} ({})", flow.code, flow.topic)).collect();
    match flows.len().saturating_sub(MAX_NAMED_FLOWS) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
