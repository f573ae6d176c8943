//! `mqtt-gateway tokens`: who may use the API.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde_json::json;

use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, document, table};
use crate::control::time_text::parse_age;
use crate::control::view::{AddedTokenView, TokenView};
use crate::control::{Control, ControlError};
use crate::domain::api_token::TokenScope;

const ADD_HELP: &str = "\
Scopes: read reads everything but secrets. operate also replays, discards, retries, cancels, enables, disables, \
publishes and tests. admin also edits flows, brokers and tokens.\n\
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// Commands for tokens of the API.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct TokensCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: TokensAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum TokensAction {
    /// List the tokens, without their texts.
    #[command(after_help = EXIT_CODES)]
    List,
    /// Add a token and print it. It cannot be shown again.
    #[command(after_help = ADD_HELP)]
    Add {
        /// Unique name.
        name: String,
        /// What the token permits: read, operate or admin.
        #[arg(long, value_parser = scope_parser())]
        scope: TokenScope,
        /// Time after which it is refused, such as 90d or 12h [default: never].
        #[arg(long, value_name = "AGE", value_parser = parse_age)]
        expires: Option<Duration>,
    },
    /// Revoke a token. Running gateways refuse it within seconds.
    #[command(after_help = EXIT_CODES)]
    Revoke {
        /// Its name.
        name: String,
    },
}

fn scope_parser() -> impl TypedValueParser<Value = TokenScope> {
    PossibleValuesParser::new(TokenScope::ALL.map(TokenScope::as_str))
        .try_map(|name| TokenScope::from_name(&name).ok_or("unknown scope"))
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: TokensCommand) -> i32 {
    let TokensCommand { output, action } = command;
    operate::run(output, async |control| match action {
        TokensAction::List => list(control).await,
        TokensAction::Add { name, scope, expires } => add(control, &name, scope, expires).await,
        TokensAction::Revoke { name } => revoke(control, &name).await,
    })
}

async fn list(control: &Control) -> Result<CommandReport, ControlError> {
    let tokens: Vec<TokenView> = control.tokens().await?.iter().map(TokenView::new).collect();
    let text = if tokens.is_empty() {
        "There are no tokens: `mqtt-gateway tokens add --help` says how to add one.\n".to_owned()
    } else {
        list_table(&tokens)
    };
    Ok(CommandReport::new(text, json!({"tokens": tokens})))
}

fn list_table(tokens: &[TokenView]) -> String {
    let row = |token: &TokenView| {
        let expires = match (&token.expires_at, token.expired) {
            (None, _) => "never".to_owned(),
            (Some(at), false) => at.clone(),
            (Some(at), true) => format!("{at} (expired)"),
        };
        vec![token.name.clone(), token.scope.clone(), token.created_at.clone(), expires]
    };
    let rows: Vec<Vec<String>> = tokens.iter().map(row).collect();
    table(&["NAME", "SCOPE", "CREATED", "EXPIRES"], &rows)
}

async fn add(
    control: &Control,
    name: &str,
    scope: TokenScope,
    expires: Option<Duration>,
) -> Result<CommandReport, ControlError> {
    let added = AddedTokenView::new(&control.add_token(name, scope, expires).await?);
    let end = added.shown.expires_at.as_ref().map(|at| format!(" It expires at {at}.")).unwrap_or_default();
    let text =
        format!("Added token {name} with scope {scope}.{end} It is shown only now:\n{}\n", added.token);
    Ok(CommandReport::new(text, json!({"token": document(&added)})))
}

async fn revoke(control: &Control, name: &str) -> Result<CommandReport, ControlError> {
    control.revoke_token(name).await?;
    let text = format!("Revoked token {name}. Running gateways refuse it within seconds.\n");
    Ok(CommandReport::new(text, json!({"revoked": {"name": name}})))
}
