//! Runs the tests of a file of flows, in a database of its own, without any server.

mod differences;

use std::collections::BTreeMap;

use serde::Serialize;
use tempfile::TempDir;

use self::differences::differences;
use super::rehearsal::{Surroundings, TestMessage};
use super::{Control, ControlError};
use crate::domain::edit_history::EditOrigin;
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_file::{FileEntry, FlowFile, FlowTest, Place};
use crate::domain::topic::TopicFilter;
use crate::settings::{DatabaseSettings, load_given};
use crate::store::{self, Database, FlowTransaction};

/// Settings that count if they are in the environment. All others have their defaults.
const INHERITED: [&str; 1] = ["VALUE_STYLE"];

/// The outcome of a test of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileTestResult {
    /// Name of the test.
    pub name: String,
    /// Where it begins in the file.
    #[serde(flatten)]
    pub at: Place,
    /// Code of the flow.
    pub flow: String,
    /// Whether there is no difference.
    pub ok: bool,
    /// What differs from the expected outcome.
    pub differences: Vec<String>,
}

/// Runs all tests of a checked file. Each flow counts as enabled.
pub async fn run_file_tests(file: &FlowFile) -> Result<Vec<FileTestResult>, ControlError> {
    let definitions: Vec<FlowDefinition> = file.all_flows().map(|flow| flow.value.as_given()).collect();
    let tested =
        file.tests.iter().map(|test| flow_of(&definitions, &test.value)).collect::<Result<Vec<_>, _>>()?;
    let by_code: BTreeMap<&str, &FlowDefinition> =
        tested.iter().map(|flow| (flow.code.as_str(), *flow)).collect();
    let sandbox = Sandbox::new(by_code.into_values()).await?;
    let flows = sandbox.control.flows().await?;
    let mut results = Vec::with_capacity(file.tests.len());
    for (test, flow) in file.tests.iter().zip(tested) {
        results.push(sandbox.run(super::flows::find(&flows, &flow.code)?, test).await?);
    }
    Ok(results)
}

/// The flow of a test: it is named, or it is the only one for the topic.
fn flow_of<'f>(flows: &'f [FlowDefinition], test: &FlowTest) -> Result<&'f FlowDefinition, ControlError> {
    let is_meant = |flow: &&FlowDefinition| match &test.flow {
        Some(code) => flow.code == *code,
        None => TopicFilter::parse(&flow.topic).is_ok_and(|filter| filter.matches(&test.topic)),
    };
    let found = flows.iter().find(is_meant);
    found.ok_or_else(|| ControlError::not_found("flow for the test", &test.name, "name a flow of the file"))
}

/// A database that is removed with the value.
struct Sandbox {
    control: Control,
    _directory: TempDir,
}

impl Sandbox {
    async fn new<'f>(flows: impl Iterator<Item = &'f FlowDefinition>) -> Result<Self, ControlError> {
        let unusable = |error: &dyn std::fmt::Display| {
            let remedy = "set TMPDIR to a directory in which files can be made";
            ControlError::invalid("TMPDIR", format!("cannot make a database: {error}"), remedy)
        };
        let directory = TempDir::with_prefix("mqtt-gateway-test-").map_err(|error| unusable(&error))?;
        let mut settings = load_given(&[("DATABASE_URL", "sqlite:tests.sqlite")], &INHERITED)
            .map_err(|error| ControlError::invalid("VALUE_STYLE", error, "correct it in the environment"))?;
        settings.inbox.dir = directory.path().join("inbox");
        settings.database = DatabaseSettings::Sqlite { path: directory.path().join("tests.sqlite") };
        let database = Database::connect(&settings.database, 1).await?;
        store::migrate(&database).await?;
        database.close().await?;
        let control = Control::connect(settings, EditOrigin::Command("tests".to_owned())).await?;
        let mut transaction = FlowTransaction::begin(&control.database).await?;
        for flow in flows {
            let enabled = FlowDefinition { enabled: Some(true), ..flow.clone() };
            transaction.insert(&enabled, 0).await.map_err(ControlError::refused)?;
        }
        transaction.commit(&control.origin).await?;
        Ok(Self { control, _directory: directory })
    }

    async fn run(
        &self,
        flow: &FlowRecord,
        test: &FileEntry<FlowTest>,
    ) -> Result<FileTestResult, ControlError> {
        let FlowTest { name, topic, payload, expected, .. } = &test.value;
        let message = TestMessage {
            topic: Some(topic.clone()),
            payload: Some(payload.clone()),
            ..TestMessage::default()
        };
        let rehearsal = self.control.rehearse_flow(flow, message, Surroundings::File).await?;
        let differences = differences(expected, &rehearsal, self.control.settings.value_style);
        Ok(FileTestResult {
            name: name.clone(),
            at: test.at,
            flow: flow.definition.code.clone(),
            ok: differences.is_empty(),
            differences,
        })
    }
}
