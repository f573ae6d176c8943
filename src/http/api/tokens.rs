//! Tokens.

use std::time::Duration;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{delete, get, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::ApiAnswer;
use super::body::{ApiBody, Whole};
use super::page::{PageQuery, PageRequest, page_of};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::view::{AddedTokenView, TokenView};
use crate::domain::api_token::TokenScope;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(list_tokens).service(add_token).service(revoke_token);
}

/// A page of tokens, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
struct TokensPage {
    tokens: Vec<TokenView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// A token to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// Unique name.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    name: String,
    /// Its permissions.
    scope: NewTokenScope,
    /// Seconds after which it is refused; never without.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3_153_600_000_i64)]
    expires_in_seconds: Option<Whole>,
}

/// The permissions of a token.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum NewTokenScope {
    /// Reads everything but secrets.
    Read,
    /// Also replays, discards, retries, cancels, enables, disables, publishes and tests.
    Operate,
    /// Also edits flows, brokers and tokens.
    Admin,
}

/// A token that was revoked.
#[derive(Debug, Serialize, ToSchema)]
struct RevokedToken {
    /// Its name.
    name: String,
}

/// Lists the tokens, without their texts.
#[utoipa::path(
    tag = "tokens",
    security(("token" = ["read"])),
    params(PageQuery),
    responses((status = 200, body = TokensPage)),
)]
#[get("/tokens")]
pub(super) async fn list_tokens(thread: Data<ApiThread>, page: PageRequest) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let tokens = control.tokens().await?;
            let (tokens, last) =
                page_of(tokens, |token| token.name.clone(), page.after()?.as_ref(), page.limit);
            let tokens = tokens.iter().map(TokenView::new).collect();
            Ok(ApiAnswer::new(&TokensPage { tokens, next: page.next(last) }))
        })
        .await
}

/// Adds a token. The answer has its secret text, which cannot be read again.
#[utoipa::path(
    tag = "tokens",
    security(("token" = ["admin"])),
    request_body = NewToken,
    responses((status = 201, body = AddedTokenView)),
)]
#[post("/tokens")]
pub(super) async fn add_token(thread: Data<ApiThread>, body: ApiBody) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let NewToken { name, scope, expires_in_seconds } = body.parse()?;
            let scope = match scope {
                NewTokenScope::Read => TokenScope::Read,
                NewTokenScope::Operate => TokenScope::Operate,
                NewTokenScope::Admin => TokenScope::Admin,
            };
            let seconds = |whole: Whole| Duration::from_secs(u64::try_from(whole.0).unwrap_or(0));
            let expires_in = expires_in_seconds.map(seconds);
            let added = control.add_token(&name, scope, expires_in).await?;
            Ok(ApiAnswer::created(format!("/api/v1/tokens/{name}"), &AddedTokenView::new(&added)))
        })
        .await
}

/// Revokes a token. Every gateway refuses it within seconds.
#[utoipa::path(
    tag = "tokens",
    security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Name of the token.")),
    responses((status = 200, body = RevokedToken)),
)]
#[delete("/tokens/{name}")]
pub(super) async fn revoke_token(
    thread: Data<ApiThread>,
    name: Path<String>,
) -> Result<ApiAnswer, ApiProblem> {
    let name = name.into_inner();
    thread
        .run(async move |control| {
            control.revoke_token(&name).await?;
            Ok(ApiAnswer::new(&RevokedToken { name }))
        })
        .await
}
