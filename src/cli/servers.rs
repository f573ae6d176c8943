//! `mqtt-gateway servers`: work with the rows of `mqtt_servers`.

mod edit;
mod view;

use clap::{Args, Subcommand};
use serde_json::json;

use self::edit::ServerOptions;
use self::view::{list_table, show_fields};
use super::history::{self, HistoryPage};
use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, visible};
use crate::control::view::{ServerTestView, ServerView};
use crate::control::{Control, ControlError};
use crate::domain::edit_history::EditedKind;

/// Commands for brokers.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ServersCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: ServersAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum ServersAction {
    /// List the brokers in the order in which the gateway tries them.
    #[command(after_help = EXIT_CODES)]
    List,
    /// Show a broker. Its password is shown as ***.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// Id of the broker.
        id: i64,
    },
    /// Add a broker.
    #[command(after_help = edit::HELP, mut_arg("host", |host| host.required(true)))]
    Add {
        #[command(flatten)]
        fields: ServerOptions,
    },
    /// Change a broker: the columns that are given.
    #[command(after_help = edit::HELP)]
    Edit {
        /// Id of the broker.
        id: i64,
        #[command(flatten)]
        fields: ServerOptions,
    },
    /// Enable a broker.
    #[command(after_help = EXIT_CODES)]
    Enable {
        /// Id of the broker.
        id: i64,
    },
    /// Disable a broker. A gateway that uses it connects to the next one.
    #[command(after_help = EXIT_CODES)]
    Disable {
        /// Id of the broker.
        id: i64,
    },
    /// Remove a broker.
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// Id of the broker.
        id: i64,
        /// Remove without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Show the edits of a broker by commands and the API, the newest first; also of a removed broker.
    #[command(after_help = EXIT_CODES)]
    History {
        /// Id of the broker.
        id: i64,
        #[command(flatten)]
        page: HistoryPage,
    },
    /// Connect to brokers as the gateway does: exit code 1 if one of them cannot be used.
    #[command(after_help = EXIT_CODES)]
    Test {
        /// Ids of the brokers [default: all enabled ones].
        #[arg(value_name = "ID")]
        ids: Vec<i64>,
    },
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: ServersCommand) -> i32 {
    let ServersCommand { output, action } = command;
    operate::run(output, async |control| match action {
        ServersAction::List => list(control).await,
        ServersAction::Show { id } => show(control, id).await,
        ServersAction::Add { fields } => edit::add(control, fields).await,
        ServersAction::Edit { id, fields } => edit::edit(control, id, fields).await,
        ServersAction::Enable { id } => edit::set_enabled(control, id, true).await,
        ServersAction::Disable { id } => edit::set_enabled(control, id, false).await,
        ServersAction::Remove { id, yes } => edit::remove(control, id, yes).await,
        ServersAction::History { id, page } => {
            history::show(control, EditedKind::Server, &id.to_string(), page).await
        }
        ServersAction::Test { ids } => test(control, &ids).await,
    })
}

async fn list(control: &Control) -> Result<CommandReport, ControlError> {
    let servers: Vec<ServerView> = control.servers().await?.iter().map(ServerView::new).collect();
    let text = if servers.is_empty() {
        "There are no MQTT servers: `mqtt-gateway servers add --help` says how to add one.\n".to_owned()
    } else {
        list_table(&servers)
    };
    Ok(CommandReport::new(text, json!({"servers": servers})))
}

async fn show(control: &Control, id: i64) -> Result<CommandReport, ControlError> {
    let view = ServerView::new(&control.server(id).await?);
    Ok(CommandReport::new(show_fields(&view), json!({"server": view})))
}

async fn test(control: &Control, ids: &[i64]) -> Result<CommandReport, ControlError> {
    let mut servers = control.servers().await?;
    if ids.is_empty() {
        servers.retain(|server| server.definition.enabled == Some(true));
    } else {
        servers.clear();
        for id in ids {
            servers.push(control.server(*id).await?);
        }
    }
    let (mut lines, mut views, mut ok) = (Vec::new(), Vec::new(), !servers.is_empty());
    if servers.is_empty() {
        lines.push(
            "error: no MQTT server is enabled\n  `mqtt-gateway servers list` shows the ids\n".to_owned(),
        );
    }
    for server in &servers {
        let view = ServerTestView::new(server.id, control.test_server(server).await);
        ok &= view.ok;
        lines.push(verdict(&view));
        views.push(view);
    }
    let document = json!({"ok": ok, "servers": views});
    Ok(CommandReport { text: lines.concat(), document, ok })
}

fn verdict(ServerTestView { id, message, remedy, warnings, .. }: &ServerTestView) -> String {
    let line = match remedy {
        None => format!("{id}: ok: {}\n", visible(message)),
        Some(remedy) => format!("{id}: error: {}\n  {remedy}\n", visible(message)),
    };
    let warnings = warnings.iter().map(|warning| format!("{id}: warning: {}\n", visible(warning)));
    std::iter::once(line).chain(warnings).collect()
}
