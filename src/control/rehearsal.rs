//! Rehearses a message: processes it in a transaction as the gateway would, and rolls back.
//!
//! Names are resolved and the request of a post is built after the transaction, because the gateway waits for the row.

use std::sync::Arc;

use chrono::Utc;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use super::edits::{blank_flow, lock_unchanged, restored};
use super::endpoint::EndpointRoute;
use super::view::RejectionView;
use super::{Control, ControlError, FlowEdit};
use crate::delivery::client::{EndpointClients, PostPreview};
use crate::domain::batch::{ProcessError, Rejection};
use crate::domain::flow_definition::{DraftBase, FlowDefinition, FlowDraft, FlowRecord, UNSAVED_FLOW};
use crate::domain::message::{Body, DeliveryFacts, Record};
use crate::domain::outbox::OutboxItem;
use crate::domain::problem::Problem;
use crate::domain::processing::ProcessingRules;
use crate::domain::redaction::shown_url;
use crate::domain::schema::PayloadSchema;
use crate::domain::topic::TopicFilter;
use crate::domain::topic_trial::{TopicVerdict, check_topic};
use crate::inbox::newest_record;
use crate::store::{self, BatchRules, FlowTransaction, OutboxGauge, RehearsedMessage, RehearsedRow, Waiting};

/// The inbox in the key of a rehearsed post. No inbox has this id.
const INBOX_ID: &str = "rehearsal";

/// Resources of a rehearsal besides the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surroundings {
    /// The secrets and the names that this machine knows.
    Site,
    /// Nothing: secrets have placeholders, and no name is resolved.
    File,
}

/// A message to rehearse. Missing parts are made up from the flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestMessage {
    /// Its topic; by default one that the topic filter of the flow matches.
    pub topic: Option<String>,
    /// Its payload; by default one that is valid by the schema of the flow.
    pub payload: Option<Vec<u8>>,
    /// Its MQTT 5 user properties.
    pub user_properties: Vec<(String, String)>,
}

/// The outcome that a message would have in a flow. Without secrets.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Rehearsal {
    /// Code of the flow.
    pub code: String,
    /// Whether the flow was edited or added for the rehearsal only.
    pub is_draft: bool,
    /// Topic filter of the flow.
    pub filter: String,
    /// Topic of the message.
    pub topic: String,
    /// Payload of the message, as far as it is UTF-8.
    pub payload: String,
    /// Whether the flow would get messages of this topic, for programs.
    pub verdict: &'static str,
    /// The verdict in words.
    pub explanation: String,
    /// The sequence number that the message would get.
    pub message_id: Option<i64>,
    /// The earlier message with the same key, for which this one would be dropped.
    pub repeats: Option<i64>,
    /// Its rows of `data`, as the database has them after its triggers.
    pub rows: Vec<TestRow>,
    /// The request of its post.
    pub request: Option<TestRequest>,
    /// Its dead letter.
    pub dead_letter: Option<RejectionView>,
    /// Warnings about an edited or new flow.
    pub problems: Vec<Problem>,
    /// Whether the flow would get the message and process it.
    pub ok: bool,
}

/// A row of `data`, with the names of its columns.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestRow {
    /// Name of the attribute.
    pub attribute_name: Option<String>,
    /// Its value.
    pub attribute_value: Option<String>,
}

/// The request of a post, without secrets.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct TestRequest {
    /// The HTTP method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The headers, by name.
    pub headers: Vec<TestHeader>,
    /// The body, as far as it is UTF-8.
    pub body: String,
    /// The addresses of the endpoint.
    pub endpoint: EndpointRoute,
    /// Why the request could not be sent from here.
    pub problem: Option<String>,
}

/// A header of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value, `***` for a secret.
    pub value: String,
}

impl Control {
    /// The newest message in the inbox of this machine that the flow gets.
    pub async fn last_message(&self, flow: &FlowDefinition) -> Result<TestMessage, ControlError> {
        let filter = TopicFilter::parse(&flow.topic).map_err(|error| unusable_filter(&error))?;
        let dir = self.settings.inbox.dir.clone();
        let reading = move || newest_record(&dir, |topic| filter.matches(topic));
        let invalid = |problem: String| {
            ControlError::invalid("message", problem, "give topic and payload of a message")
        };
        let found = tokio::task::spawn_blocking(reading).await.map_err(|error| invalid(error.to_string()))?;
        let found = found.map_err(|error| invalid(error.to_string()))?;
        let Some(Record { topic, body: Body::Whole(payload), delivery, .. }) = found else {
            return Err(invalid("no message of the flow is among the newest of the inbox".to_owned()));
        };
        let user_properties = delivery.user_properties;
        Ok(TestMessage { topic: Some(topic), payload: Some(payload), user_properties })
    }

    /// Rehearses a message for a flow, as it is or after `edit`. Nothing is changed, posted or numbered. The edit is
    /// refused if the flow could not work afterwards.
    pub async fn rehearse(
        &self,
        code: &str,
        message: TestMessage,
        edit: &FlowEdit,
    ) -> Result<Rehearsal, ControlError> {
        let flows = self.flows().await?;
        let flow = super::flows::find(&flows, code)?;
        let new = restored(edit.apply(&flow.definition), Some(&flow.definition))?;
        if new == flow.definition {
            return self.rehearse_flow(flow, message, Surroundings::Site).await;
        }
        let others = flows.iter().filter(|other| other.id != flow.id);
        let problems = self.warnings_unless_errors(&new, others).await?;
        let draft = FlowDraft { flow: flow.id, base: DraftBase::Row(flow.definition.clone()), new };
        let transaction = FlowTransaction::begin(&self.database).await?;
        lock_unchanged(&transaction, flow).await?;
        try_draft(transaction, &draft).await?;
        let rehearsal = self.rehearse_draft(flow, Some(&draft), message, Surroundings::Site).await?;
        Ok(Rehearsal { problems, ..rehearsal })
    }

    /// Rehearses a message for a flow that is not added yet. Refused if the flow could not work.
    pub async fn rehearse_new(
        &self,
        code: &str,
        message: TestMessage,
        fields: &FlowEdit,
    ) -> Result<Rehearsal, ControlError> {
        let flows = self.flows().await?;
        let new = restored(fields.apply(&blank_flow(code)), None)?;
        let problems = self.warnings_of_new(&new, flows.iter()).await?;
        let last_msg_id = self.last_number_of_removed(code).await?.unwrap_or(0);
        let flow = FlowRecord { id: UNSAVED_FLOW, definition: new.clone(), last_msg_id: Some(last_msg_id) };
        let draft = FlowDraft { flow: UNSAVED_FLOW, base: DraftBase::New(last_msg_id), new };
        try_draft(FlowTransaction::begin(&self.database).await?, &draft).await?;
        let rehearsal = self.rehearse_draft(&flow, Some(&draft), message, Surroundings::Site).await?;
        Ok(Rehearsal { problems, ..rehearsal })
    }

    /// Rehearses a message for a flow as it is.
    pub(super) async fn rehearse_flow(
        &self,
        flow: &FlowRecord,
        message: TestMessage,
        surroundings: Surroundings,
    ) -> Result<Rehearsal, ControlError> {
        self.rehearse_draft(flow, None, message, surroundings).await
    }

    async fn rehearse_draft(
        &self,
        flow: &FlowRecord,
        draft: Option<&FlowDraft>,
        message: TestMessage,
        surroundings: Surroundings,
    ) -> Result<Rehearsal, ControlError> {
        let definition = draft.map_or(&flow.definition, |draft| &draft.new);
        let topic = topic(definition, message.topic)?;
        let payload = payload(definition, message.payload)?;
        let verdict = self.judge_of(&topic)(definition);
        let mut rehearsal = Rehearsal {
            code: definition.code.clone(),
            is_draft: draft.is_some(),
            filter: definition.topic.clone(),
            topic: topic.clone(),
            payload: String::from_utf8_lossy(&payload).into_owned(),
            ok: verdict == TopicVerdict::Matches,
            verdict: verdict.name(),
            explanation: verdict.to_string(),
            ..Rehearsal::default()
        };
        let record = Record {
            offset: 0,
            received_at_us: Utc::now().timestamp_micros(),
            topic,
            body: Body::Whole(payload),
            delivery: DeliveryFacts { user_properties: message.user_properties, ..DeliveryFacts::default() },
        };
        let rules = self.rehearsal_rules(flow).await?;
        let rehearsed = store::rehearse_message(&self.database, &rules, flow.id, record, draft).await?;
        if let Some(item) = rehearsal.add(rehearsed) {
            let request = self.test_request(item, surroundings).await;
            rehearsal.ok &= request.problem.is_none() && !request.endpoint.is_refused();
            rehearsal.request = Some(request);
        }
        Ok(rehearsal)
    }

    /// The rules of the gateway, with the number of posts that wait.
    async fn rehearsal_rules(&self, flow: &FlowRecord) -> Result<BatchRules, ControlError> {
        let gauge = OutboxGauge::default();
        let rows = self.waiting_posts(flow).await?;
        gauge.replace([(flow.id, Waiting { rows, oldest_at_us: Utc::now().timestamp_micros() })].into());
        let processing = ProcessingRules { inbox_id: INBOX_ID.into(), ..self.rules().await? };
        Ok(BatchRules { processing, gauge: Arc::new(gauge) })
    }

    /// The request of a post, and where it would go. A problem of this machine is part of the answer.
    async fn test_request(&self, mut item: OutboxItem, surroundings: Surroundings) -> TestRequest {
        let route = &self.settings.http_route;
        let endpoint = match (surroundings, Url::parse(&item.destination.url)) {
            (Surroundings::Site, Ok(url)) => EndpointRoute::resolve(&url, route).await,
            _ => EndpointRoute::default(),
        };
        if surroundings == Surroundings::File {
            let options = item.destination.options.as_ref();
            item.destination.options = options.map(|options| options.with_placeholders().into());
        }
        let item = Arc::new(item);
        match EndpointClients::new(self.settings.http_timeout, route).preview(&item) {
            Ok(PostPreview { method, url, headers, body }) => TestRequest {
                method,
                url,
                headers: headers.into_iter().map(|(name, value)| TestHeader { name, value }).collect(),
                body: String::from_utf8_lossy(&body).into_owned(),
                endpoint,
                problem: None,
            },
            Err(error) => TestRequest {
                url: shown_url(&item.destination.url),
                endpoint,
                problem: Some(error.to_string()),
                ..TestRequest::default()
            },
        }
    }
}

/// Finds out whether the database accepts the draft.
async fn try_draft(transaction: FlowTransaction, draft: &FlowDraft) -> Result<(), ControlError> {
    let tried = transaction.try_draft(draft).await;
    transaction.roll_back().await?;
    tried.map_err(ControlError::refused)
}

impl Rehearsal {
    /// Whether the flow gets messages of this topic.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.verdict == TopicVerdict::Matches.name()
    }

    /// Adds the result of the database. Returns the row of the outbox.
    fn add(&mut self, rehearsed: RehearsedMessage) -> Option<OutboxItem> {
        match rehearsed.result {
            Ok(done) => self.message_id = Some(done.message_id),
            Err(ProcessError::Repeated { message_id, .. }) => self.repeats = Some(message_id),
            Err(ProcessError::Rejected(Rejection { message_id, reason, detail, .. })) => {
                self.message_id = message_id;
                self.dead_letter = Some(RejectionView { reason: reason.to_string(), detail });
                self.ok = false;
            }
        }
        let row = |RehearsedRow { name, value }| TestRow { attribute_name: name, attribute_value: value };
        self.rows = rehearsed.rows.into_iter().map(row).collect();
        rehearsed.post
    }
}

fn topic(flow: &FlowDefinition, given: Option<String>) -> Result<String, ControlError> {
    if let Some(topic) = given {
        check_topic(&topic).map_err(|problem| ControlError::Invalid { problems: vec![problem] })?;
        return Ok(topic);
    }
    let filter = TopicFilter::parse(&flow.topic).map_err(|error| unusable_filter(&error))?;
    Ok(filter.example())
}

fn unusable_filter(error: &impl std::fmt::Display) -> ControlError {
    let remedy = "the flow gets no messages: correct it by `mqtt-gateway flows edit`";
    ControlError::invalid("topic", error, remedy)
}

fn payload(flow: &FlowDefinition, given: Option<Vec<u8>>) -> Result<Vec<u8>, ControlError> {
    if let Some(payload) = given {
        return Ok(payload);
    }
    let schema = PayloadSchema::compile(flow.payload_schema.as_deref().unwrap_or_default());
    let example = schema.ok().and_then(|schema| schema.example());
    example.map(String::into_bytes).ok_or_else(|| {
        let problem = "the schema of the flow gives no example of a payload";
        ControlError::invalid("--payload", problem, "give a payload: JSON, a file, or - for standard input")
    })
}
