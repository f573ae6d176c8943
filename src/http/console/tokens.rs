//! The tokens of the API and the console, for administrators.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;

use super::fields::{Fields, link};
use super::page::{ConsoleError, Page, PageFrame, SeeOther, short_time};
use super::question::Question;
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::control::time_text::parse_age;
use crate::control::view::TokenView;
use crate::control::{AddedToken, Control, ControlError};
use crate::domain::api_token::TokenScope;
use crate::domain::problem::Problem;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/tokens";

#[derive(Template)]
#[template(path = "tokens.html", config = "src/http/console/askama.toml")]
struct TokenListPage {
    frame: PageFrame,
    notice: Option<String>,
    /// Name and secret text of a token that was just added.
    added: Option<(String, String)>,
    /// The entries of the form, if it was refused.
    fields: Fields,
    problems: Vec<Problem>,
    tokens: Vec<TokenLine>,
    scopes: [TokenScope; 3],
    command: String,
}

struct TokenLine {
    token: TokenView,
    created_at: String,
    expires_at: String,
    revoke_link: String,
}

impl TokenLine {
    fn new(token: TokenView) -> Self {
        Self {
            created_at: short_time(&token.created_at),
            expires_at: token.expires_at.as_deref().map_or_else(|| "never".to_owned(), short_time),
            revoke_link: link("/token/revoke", [("name", token.name.as_str())]),
            token,
        }
    }
}

async fn token_page(control: &Control, frame: PageFrame) -> Result<TokenListPage, ControlError> {
    let tokens = control.tokens().await?;
    Ok(TokenListPage {
        frame,
        notice: None,
        added: None,
        fields: Fields::default(),
        problems: Vec::new(),
        tokens: tokens.iter().map(|token| TokenLine::new(TokenView::new(token))).collect(),
        scopes: TokenScope::ALL,
        command: "mqtt-gateway tokens list".to_owned(),
    })
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Tokens");
    let revoked = visitor.query.get("done") == "revoked";
    let page = thread.run(async move |control| {
        let notice = revoked.then(|| "The token was revoked. Gateways refuse it within seconds.".to_owned());
        Page::new(&TokenListPage { notice, ..token_page(control, frame).await? })
    });
    Ok(page.await?)
}

/// Adds a token, and shows its secret text once.
pub(super) async fn add(submission: Submission, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Tokens");
    let page = thread.run_as(&visitor.caller, async move |control| match added(control, &fields).await {
        Ok(AddedToken { token, text }) => {
            let added = Some((token.name, text));
            let command = add_command(&fields);
            Page::new(&TokenListPage { added, command, ..token_page(control, frame).await? })
        }
        Err(ControlError::Invalid { problems }) => {
            let page = TokenListPage { fields, problems, ..token_page(control, frame).await? };
            Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page)
        }
        Err(error) => Err(error.into()),
    });
    Ok(page.await?)
}

async fn added(control: &Control, fields: &Fields) -> Result<AddedToken, ControlError> {
    let invalid = |field, problem: String| ControlError::invalid(field, problem, "correct it");
    let scope = TokenScope::from_name(fields.get("scope"));
    let scope = scope.ok_or_else(|| invalid("scope", "this is no scope".to_owned()))?;
    let expires_in = fields.given("expires").map(|text| parse_age(&text)).transpose();
    let expires_in = expires_in.map_err(|expected| invalid("expires", expected))?;
    control.add_token(fields.get("name").trim(), scope, expires_in).await
}

fn add_command(fields: &Fields) -> String {
    let (name, scope) = (shell_word(fields.get("name").trim()), fields.get("scope"));
    let expires = fields.given("expires").map(|age| format!(" --expires {}", shell_word(&age)));
    format!("mqtt-gateway tokens add {name} --scope {scope}{}", expires.unwrap_or_default())
}

/// Asks whether a token is to be revoked.
pub(super) async fn confirm_revocation(
    visitor: Visitor,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let name = visitor.query.get("name").to_owned();
    let frame = visitor.frame(PART, "Revoke a token");
    let page = thread.run(async move |control| {
        control.token(&name).await?;
        let question = Question {
            frame,
            part_name: "Tokens",
            text: format!("Revoke the token {name}?"),
            consequence: "Gateways refuse it within seconds, and its sessions end.".to_owned(),
            target: "/token/revoke",
            command: format!("mqtt-gateway tokens revoke {}", shell_word(&name)),
            hidden: vec![("name", name)],
            button: "Revoke".to_owned(),
            back: PART.to_owned(),
        };
        question.page()
    });
    Ok(page.await?)
}

/// Revokes a token.
pub(super) async fn revoke(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Admin)?;
    thread.run(async move |control| Ok(control.revoke_token(fields.get("name")).await?)).await?;
    Ok(SeeOther(link(PART, [("done", "revoked")])))
}
