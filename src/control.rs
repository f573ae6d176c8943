//! The use cases of operators: work with the rows of the tables, without SQL and without a running gateway.
//!
//! ```text
//!  error.rs         why a use case failed, for programs and for people
//!  flows.rs         reads flows
//!  checks.rs        finds their problems
//!  edits.rs         adds, changes and removes them
//!  history.rs       reads their history, and rolls flows back
//!  servers.rs       reads, checks and edits the brokers
//!  endpoint.rs      resolves an endpoint, and checks its addresses
//!  file_tests.rs    runs the tests of a file of flows, in a database of its own
//!  preview.rs       says what an edit would do
//!  explain.rs       explains the outcome of a message
//!  rehearsal.rs     processes a message, and rolls back
//!  as_code.rs       compares a file with the tables, and applies it
//!  broker.rs        connects to a broker, and publishes
//!  dead_letters.rs  reads, replays and discards dead letters
//!  deliveries.rs    lists, retries and cancels waiting posts
//!  drift.rs         shows and accepts changed fields of messages
//!  event_line.rs    shows the outcome of a message
//!  lazy.rs          connects to the database when it is needed, for a running gateway
//!  access.rs        recognises tokens
//!  live.rs          makes tokens for commands that ask a running gateway
//!  status.rs        says which problems there are
//!  tokens.rs        lists, adds and revokes tokens of the API
//!  view.rs          the documents of all of them
//! ```

mod access;
mod as_code;
pub mod broker;
mod checks;
mod dead_letters;
mod deliveries;
mod drift;
mod edits;
mod endpoint;
mod error;
mod event_line;
mod explain;
mod file_tests;
mod flows;
mod history;
mod lazy;
mod live;
mod preview;
mod rehearsal;
pub mod servers;
pub mod status;
pub(crate) mod time_text;
mod tokens;
pub mod view;

pub use crate::store::ReplayMode;
pub use access::{AccessRefusal, Caller, TokenAccess};
pub use as_code::{FilePlan, PlanEffects, PlannedChange, check_file};
pub use checks::CheckedFlow;
pub use dead_letters::{LetterSelection, NEWEST_LETTERS};
pub use drift::{AcceptedDrift, FlowDrift, PlannedAcceptance};
pub use edits::{EditedFlow, ExpectedVersion, FlowEdit};
pub use endpoint::{EndpointAddress, EndpointRoute};
pub use error::ControlError;
pub use event_line::{EVENT_HEAD, event_line, missed_line, shown};
pub use explain::{ExplainedFlow, Explanation};
pub use file_tests::{FileTestResult, run_file_tests};
pub use flows::{FlowFilter, FlowOrder, FoundFlow, FoundFlows};
pub use history::{EditedColumn, HistoryEntryView};
pub use lazy::LazyControl;
pub use live::LiveToken;
pub use preview::{EditPreview, PreviewedColumn};
pub use rehearsal::{Rehearsal, TestHeader, TestMessage, TestRequest, TestRow};
pub use servers::{EditedServer, ServerFields};
pub use tokens::AddedToken;

use std::sync::Mutex;

use tokio::sync::OnceCell;

use self::status::RejectedFlows;
use crate::domain::edit_history::EditOrigin;
use crate::settings::Settings;
use crate::store::{self, Database};

/// Connections of a use case: one for its transaction, one for reading beside it.
const CONNECTIONS: u32 = 2;

/// The use cases, with the database that they work on.
#[derive(Debug)]
pub struct Control {
    /// The database.
    pub database: Database,
    /// The settings of the gateway.
    pub settings: Settings,
    /// The editor, for the history of edits.
    pub origin: EditOrigin,
    /// Read when the first version of a row is wanted.
    version_key: OnceCell<String>,
    /// The last check of all flows.
    rejected_flows: Mutex<RejectedFlows>,
}

impl Control {
    /// Connects to the database of the settings, for edits by `origin`. Its tables must be complete.
    pub async fn connect(settings: Settings, origin: EditOrigin) -> Result<Self, ControlError> {
        if let Some(path) = store::missing_file(&settings.database) {
            let remedy =
                "check DATABASE_URL and the current directory, or create it with `mqtt-gateway migrate`";
            return Err(ControlError::not_found("database", &path.display().to_string(), remedy));
        }
        let database = Database::connect(&settings.database, CONNECTIONS).await?;
        let lacking = store::missing_schema(&database).await?;
        if !lacking.added.is_empty() {
            let problem = format!("lacks: {lacking}");
            return Err(ControlError::invalid("schema", problem, "run `mqtt-gateway migrate`"));
        }
        Ok(Self::new(database, settings, origin, OnceCell::new()))
    }

    /// The same use cases for edits by another, on the same connections.
    #[must_use]
    pub fn acting_as(&self, origin: EditOrigin) -> Self {
        let (database, settings) = (self.database.clone(), self.settings.clone());
        Self::new(database, settings, origin, self.version_key.clone())
    }

    /// The same use cases on other connections. They may lead to another server, so nothing that was read is kept.
    fn with_database(&self, database: Database) -> Self {
        let (settings, origin) = (self.settings.clone(), self.origin.clone());
        Self::new(database, settings, origin, OnceCell::new())
    }

    fn new(
        database: Database,
        settings: Settings,
        origin: EditOrigin,
        version_key: OnceCell<String>,
    ) -> Self {
        Self { database, settings, origin, version_key, rejected_flows: Mutex::default() }
    }
}
