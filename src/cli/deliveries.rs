//! `mqtt-gateway deliveries`: work with posts that wait in the outbox.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use url::Url;

use super::ask::ask_gateway;
use super::gateway_url::parse_gateway_url;
use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, fields, table, visible};
use super::progress::CommandProgress;
use crate::control::status::BreakerStatus;
use crate::control::view::{DeliveriesView, WaitingPostView};
use crate::control::{Control, ControlError};
use crate::domain::outbox::{OutboxKey, PostPlace};

const LIST_HELP: &str = "\
The posts are read from the database. The breakers of endpoints are in a running gateway: the one at ADMIN_BIND of the \
settings is asked, by a token that permits reading for a minute. Without an answer their state is unknown.\n\
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

const RETRY_HELP: &str = "\
A running gateway tries the first post of the flow within seconds, and the others follow. If posts to the origin of \
the endpoint fail for other flows as well, it tries within a minute. The age of the posts counts from now.\n\
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

const CANCEL_HELP: &str = "\
Each post becomes a dead letter (cancelled) in the transaction that removes it, and can be replayed. A running gateway \
may still make posts that it has in memory: disable the flow first if none may be made.\n\
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// Commands for waiting posts.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DeliveriesCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: DeliveriesAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum DeliveriesAction {
    /// List the flows with waiting posts, and the endpoints that fail. With a flow, show its first post.
    #[command(after_help = LIST_HELP)]
    List {
        /// Code of the flow.
        #[arg(long, value_name = "CODE")]
        flow: Option<String>,
        /// Gateway to ask for its breakers, as `http://HOST:PORT` [default: the one at `ADMIN_BIND`].
        #[arg(long, value_parser = parse_gateway_url)]
        url: Option<Url>,
    },
    /// List the waiting posts of a flow with their last attempts, in the order of their numbers.
    #[command(after_help = EXIT_CODES)]
    Posts {
        /// Code of the flow.
        #[arg(long, value_name = "CODE")]
        flow: String,
        /// Most posts to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
        /// List the posts after this place: the last one of the previous page.
        #[arg(long, value_name = "PLACE")]
        after: Option<PostPlace>,
    },
    /// Make the waiting posts of a flow due at once.
    #[command(after_help = RETRY_HELP)]
    Retry {
        /// Code of the flow.
        #[arg(long, value_name = "CODE")]
        flow: String,
    },
    /// Move waiting posts to the dead letters.
    #[command(after_help = CANCEL_HELP)]
    Cancel {
        /// Keys of posts, as in `list` and in the header Idempotency-Key.
        #[arg(value_name = "KEY", required_unless_present = "flow")]
        keys: Vec<OutboxKey>,
        /// All posts of the flow with this code.
        #[arg(long, value_name = "CODE", conflicts_with = "keys")]
        flow: Option<String>,
        /// Confirm the command.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: DeliveriesCommand) -> i32 {
    let DeliveriesCommand { output, action } = command;
    operate::run(output, async |control| match action {
        DeliveriesAction::List { flow, url } => list(control, flow.as_deref(), url.as_ref()).await,
        DeliveriesAction::Posts { flow, limit, after } => {
            posts(control, &flow, after.as_ref(), limit.into()).await
        }
        DeliveriesAction::Retry { flow } => retry(control, &flow).await,
        DeliveriesAction::Cancel { keys, flow, yes } => cancel(control, keys, flow.as_deref(), yes).await,
    })
}

async fn list(
    control: &Control,
    flow: Option<&str>,
    url: Option<&Url>,
) -> Result<CommandReport, ControlError> {
    let views: Vec<DeliveriesView> =
        control.deliveries(flow).await?.iter().map(DeliveriesView::new).collect();
    // The list needs no gateway, and no right to make a token for it.
    let gateway = ask_gateway(control, url).await.unwrap_or_else(|error| Err(error.to_string()));
    let breakers = gateway.map(|gateway| gateway.breakers);
    let text = match (&views[..], flow) {
        ([], _) => "No posts wait.\n".to_owned(),
        ([view], Some(_)) => show_text(view) + &breaker_text(&breakers),
        (views, _) => list_table(views) + &breaker_text(&breakers),
    };
    Ok(CommandReport::new(text, json!({"deliveries": views, "breakers": breakers.ok()})))
}

async fn posts(
    control: &Control,
    flow: &str,
    after: Option<&PostPlace>,
    limit: usize,
) -> Result<CommandReport, ControlError> {
    let posts = control.waiting_post_list(flow, after, limit).await?;
    let next = posts.last().map(|post| post.place.to_string()).filter(|_| posts.len() == limit);
    let views: Vec<WaitingPostView> = posts.iter().map(WaitingPostView::new).collect();
    let text = if views.is_empty() { "No posts wait.\n".to_owned() } else { post_table(&views) };
    let more = next.as_ref().map(|place| format!("There may be more: --after {place}\n"));
    Ok(CommandReport::new(text + &more.unwrap_or_default(), json!({"posts": views, "next_after": next})))
}

async fn retry(control: &Control, flow: &str) -> Result<CommandReport, ControlError> {
    let posts = control.retry_deliveries(flow).await?;
    let text = match posts {
        0 => "No posts wait.\n".to_owned(),
        posts => format!(
            "{posts} posts of flow {flow} are due. A running gateway tries the first one within seconds.\n"
        ),
    };
    Ok(CommandReport::new(text, json!({"due": posts})))
}

async fn cancel(
    control: &Control,
    keys: Vec<OutboxKey>,
    flow: Option<&str>,
    is_confirmed: bool,
) -> Result<CommandReport, ControlError> {
    let keys = match flow {
        Some(flow) => control.delivery_keys(flow, None).await?,
        None => keys,
    };
    if !is_confirmed && !keys.is_empty() {
        let problem = format!("{} posts are selected, and nothing was changed", keys.len());
        return Err(ControlError::invalid("--yes", problem, "--yes moves them to the dead letters"));
    }
    let (mut cancelled, progress) = (0, CommandProgress::new("Posts", keys.len() as u64));
    control
        .cancel_deliveries(&keys, &mut |posts| {
            cancelled += posts;
            progress.add(posts);
        })
        .await?;
    drop(progress);
    let missing = (keys.len() as u64).saturating_sub(cancelled);
    let is_complete = flow.is_some() || missing == 0;
    let others = if is_complete {
        String::new()
    } else {
        format!("{missing} of the posts do not wait. `mqtt-gateway deliveries posts` shows the keys.\n")
    };
    let text = format!("Cancelled {cancelled} posts. `mqtt-gateway dead-letters` can replay them.\n{others}");
    let report = CommandReport::new(text, json!({"selected": keys.len(), "cancelled": cancelled}));
    Ok(CommandReport { ok: is_complete, ..report })
}

fn list_table(views: &[DeliveriesView]) -> String {
    let row = |view: &DeliveriesView| {
        vec![
            view.flow_code.clone().unwrap_or_default(),
            view.posts.to_string(),
            view.oldest_at.clone(),
            view.attempts.to_string(),
            view.next_attempt_at.clone(),
            view.last_error.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table(&["FLOW", "POSTS", "OLDEST", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"], &rows)
}

fn breaker_text(breakers: &Result<Vec<BreakerStatus>, String>) -> String {
    let breakers = match breakers {
        Ok(breakers) if breakers.is_empty() => return String::new(),
        Ok(breakers) => breakers,
        Err(problem) => return format!("\nBreakers of endpoints are unknown: {}\n", visible(problem)),
    };
    let row =
        |breaker: &BreakerStatus| vec![breaker.origin.clone(), breaker.state.clone(), breaker.since.clone()];
    let rows: Vec<Vec<String>> = breakers.iter().map(row).collect();
    format!("\n{}", table(&["ENDPOINT", "BREAKER", "SINCE"], &rows))
}

fn post_table(views: &[WaitingPostView]) -> String {
    let row = |view: &WaitingPostView| {
        let last = view.recent_attempts.last();
        vec![
            view.message_id.to_string(),
            view.created_at.clone(),
            view.attempts.to_string(),
            last.and_then(|last| last.status).map(|status| status.to_string()).unwrap_or_default(),
            last.map(|last| format!("{} ms", last.ms)).unwrap_or_default(),
            view.last_error.clone().unwrap_or_default(),
            view.key.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table(&["NUMBER", "SINCE", "ATTEMPTS", "STATUS", "TOOK", "LAST ERROR", "KEY"], &rows)
}

fn show_text(view: &DeliveriesView) -> String {
    let attempts = view.recent_attempts.as_ref().map(Value::to_string).unwrap_or_default();
    fields(&[
        ("flow", view.flow_code.clone().unwrap_or_default()),
        ("waiting posts", view.posts.to_string()),
        ("oldest", view.oldest_at.clone()),
        ("first post", view.first_key.clone()),
        ("sequence number", view.message_id.to_string()),
        ("attempts", view.attempts.to_string()),
        ("next attempt", view.next_attempt_at.clone()),
        ("last error", view.last_error.clone().unwrap_or_default()),
        ("recent attempts", attempts),
    ])
}
