//! Flows as code: a YAML file with flows, brokers and tests.
//!
//! ```text
//!  tree.rs    YAML as a tree with places, by the crate saphyr-parser
//!  json.rs    trees from and to JSON
//!  items.rs   the parts of a file as types, and their JSON Schema
//!  read.rs    from a tree to the parts
//!  write.rs   from a tree to YAML
//!  check.rs   problems of the parts, by the rules for rows
//!  export.rs  a file of the rows of the tables
//! ```

mod check;
mod export;
mod items;
mod json;
mod place;
mod read;
mod tree;
mod write;

use schemars::Schema;
use serde_json::{Map, Value};

pub use self::export::Exported;
pub use self::items::ExpectedRequest;
pub use self::place::{FileProblem, Place};
use super::dead_letter::DeadLetterReason;
use super::masking::{MaskedFlow, MaskedServer};
use super::problem::Problem;

/// The content of a file. Secrets may be masked.
#[derive(Debug, Clone, Default)]
pub struct FlowFile {
    /// The flows; `None` without a list of flows.
    pub flows: Option<Vec<FileEntry<MaskedFlow>>>,
    /// The brokers; `None` without a list of brokers.
    pub servers: Option<Vec<FileEntry<MaskedServer>>>,
    /// The tests.
    pub tests: Vec<FileEntry<FlowTest>>,
}

impl FlowFile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<Self, Vec<FileProblem>> {
        read::read(text)
    }

    /// The JSON Schema of a file, for editors.
    #[must_use]
    pub fn schema() -> Schema {
        items::schema()
    }

    /// All flows.
    pub fn all_flows(&self) -> impl Iterator<Item = &FileEntry<MaskedFlow>> {
        self.flows.iter().flatten()
    }

    /// All brokers.
    pub fn all_servers(&self) -> impl Iterator<Item = &FileEntry<MaskedServer>> {
        self.servers.iter().flatten()
    }
}

/// An item of a file, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct FileEntry<T> {
    /// The item.
    pub value: T,
    /// Where it begins.
    pub at: Place,
    /// Where its fields are.
    fields: Vec<(String, Place)>,
}

impl<T> FileEntry<T> {
    /// Where a field is, or the item if the field is not given.
    #[must_use]
    pub fn place_of(&self, field: &str) -> Place {
        self.fields.iter().find(|(name, _)| name == field).map_or(self.at, |(_, at)| *at)
    }

    fn problem(&self, subject: &str, problem: &Problem) -> FileProblem {
        FileProblem::of_field(self.place_of(problem.field), subject, problem)
    }
}

impl FileEntry<MaskedFlow> {
    /// A problem of the flow, with its place.
    #[must_use]
    pub fn located(&self, problem: &Problem) -> FileProblem {
        self.problem(&format!("flow {}", self.value.code), problem)
    }
}

impl FileEntry<MaskedServer> {
    /// A problem of the broker, with its place.
    #[must_use]
    pub fn located(&self, problem: &Problem) -> FileProblem {
        self.problem(&format!("server {}", self.value.host), problem)
    }
}

/// A message, and its expected outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowTest {
    /// Name of the test.
    pub name: String,
    /// Code of the flow, unless the topic says which one is meant.
    pub flow: Option<String>,
    /// Topic of the message.
    pub topic: String,
    /// Payload of the message.
    pub payload: Vec<u8>,
    /// The expected outcome.
    pub expected: ExpectedOutcome,
}

/// The expected outcome of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpectedOutcome {
    /// These rows of `data`: the value of each attribute. A text is compared as it is, anything else as the gateway
    /// writes it.
    Rows(Map<String, Value>),
    /// A request with at least these parts.
    Request(ExpectedRequest),
    /// A dead letter for this reason.
    Reason(DeadLetterReason),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
