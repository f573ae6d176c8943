//! Arguments that select dead letters.

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};

use crate::control::LetterSelection;
use crate::control::time_text::parse_time;
use crate::domain::dead_letter::{DeadLetterReason, LetterFilter};
use crate::domain::topic::TopicFilter;

/// Conditions on dead letters; all have to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct LetterFilterArguments {
    /// Code of the flow at the time of the dead letter.
    #[arg(long, value_name = "CODE")]
    flow: Option<String>,
    /// Reason, a keyword of docs/TABLES.md.
    #[arg(long, value_parser = reason_parser(), hide_possible_values = true)]
    reason: Option<DeadLetterReason>,
    /// Topic filter that matches the topic.
    #[arg(long, value_name = "FILTER", value_parser = parse_topic)]
    topic: Option<TopicFilter>,
    /// Dead since: a day, a time in UTC, or an age (2026-02-03, 2026-02-03T04:05:06Z, 24h).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Dead before: a day, a time in UTC, or an age.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    /// Text in topic, payload or detail.
    #[arg(long, value_name = "WORD", value_parser = NonEmptyStringValueParser::new())]
    text: Option<String>,
}

/// Dead letters by id or by conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct LetterArguments {
    /// Ids of dead letters.
    #[arg(
        value_name = "ID",
        conflicts_with_all = ["flow", "reason", "topic", "since", "until", "text", "all"],
        required_unless_present_any = ["flow", "reason", "topic", "since", "until", "text", "all"]
    )]
    ids: Vec<i64>,
    #[command(flatten)]
    filter: LetterFilterArguments,
    /// Select all dead letters.
    #[arg(long, conflicts_with_all = ["flow", "reason", "topic", "since", "until", "text"])]
    all: bool,
    /// Confirm a command that changes many rows.
    #[arg(long)]
    yes: bool,
}

impl LetterFilterArguments {
    pub(super) fn into_filter(self) -> LetterFilter {
        let Self { flow, reason, topic, since, until, text } = self;
        LetterFilter {
            flow,
            reason,
            topic,
            since_us: since,
            until_us: until,
            text,
            ..LetterFilter::default()
        }
    }
}

impl LetterArguments {
    /// The selection, and whether it is confirmed.
    pub(super) fn selection(self) -> (LetterSelection, bool) {
        let Self { ids, filter, all: _, yes } = self;
        let selection = match &ids[..] {
            [] => LetterSelection::Filter(filter.into_filter()),
            _ => LetterSelection::Ids(ids),
        };
        (selection, yes)
    }
}

fn reason_parser() -> impl TypedValueParser<Value = DeadLetterReason> {
    PossibleValuesParser::new(DeadLetterReason::ALL.map(DeadLetterReason::as_str))
        .try_map(|name| DeadLetterReason::from_name(&name).ok_or("unknown reason"))
}

fn parse_topic(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| error.to_string())
}
