//! Checks the parts of a file, by the rules that count for rows.

use std::collections::HashMap;

use super::{FileEntry, FileProblem, FlowFile, FlowTest};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::FlowDefinition;
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::problem::Problem;
use crate::domain::topic::TopicFilter;
use crate::domain::topic_trial::check_topic;

impl FlowFile {
    /// The problems of flows, brokers and tests, in the order of their places. `***` counts as a value.
    #[must_use]
    pub fn check(&self, networks: &EndpointNetworks) -> Vec<FileProblem> {
        let flows: Vec<FlowDefinition> = self.all_flows().map(|flow| flow.value.as_given()).collect();
        let set = FlowSet::new(&flows);
        let mut problems = Vec::new();
        for (entry, flow) in self.all_flows().zip(&flows) {
            problems.extend(check_flow(flow, &set, networks).iter().map(|problem| entry.located(problem)));
        }
        for entry in self.all_servers() {
            let server = entry.value.as_given();
            problems.extend(server.check().iter().map(|problem| entry.located(problem)));
        }
        self.check_servers_are_different(&mut problems);
        for test in &self.tests {
            problems.extend(check_test(test, &flows).map(|problem| test.problem(&subject(test), &problem)));
        }
        problems.sort_by_key(|problem| problem.at);
        problems
    }

    /// Host and port say which row is meant.
    fn check_servers_are_different(&self, problems: &mut Vec<FileProblem>) {
        let mut seen = HashMap::new();
        for entry in self.all_servers() {
            if let Some(first) = seen.insert((&entry.value.host, entry.value.port), entry.at) {
                let problem =
                    format!("another server of the file has this host and port: line {}", first.line);
                problems.push(entry.located(&Problem::error("host", problem, "leave one of them out")));
            }
        }
    }
}

fn subject(test: &FileEntry<FlowTest>) -> String {
    format!("test {:?}", test.value.name)
}

fn check_test(test: &FileEntry<FlowTest>, flows: &[FlowDefinition]) -> Option<Problem> {
    let FlowTest { flow, topic, .. } = &test.value;
    if let Err(problem) = check_topic(topic) {
        return Some(problem);
    }
    let matching =
        |flow: &&FlowDefinition| TopicFilter::parse(&flow.topic).is_ok_and(|filter| filter.matches(topic));
    match flow {
        Some(code) => {
            let Some(flow) = flows.iter().find(|flow| flow.code == *code) else {
                return Some(Problem::error(
                    "flow",
                    format!("the file has no flow {code:?}"),
                    "correct the code",
                ));
            };
            let differs = || {
                let problem =
                    format!("the topic filter {:?} of flow {code:?} does not match {topic:?}", flow.topic);
                Problem::error("topic", problem, "give a topic that the filter matches")
            };
            (!matching(&flow)).then(differs)
        }
        None => match flows.iter().filter(matching).count() {
            1 => None,
            0 => Some(Problem::error(
                "topic",
                format!("no flow of the file matches {topic:?}"),
                "correct the topic",
            )),
            several => {
                let problem = format!("{several} flows of the file match {topic:?}");
                Some(Problem::error("topic", problem, "name the flow that is meant by flow: CODE"))
            }
        },
    }
}
