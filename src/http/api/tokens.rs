//! Tokens.

use std::time::Duration;

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{delete, get, post};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

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

/// The permissions of a new token.
#[derive(Debug)]
struct NewTokenScope(TokenScope);

impl<'de> Deserialize<'de> for NewTokenScope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scope = TokenScope::from_name(&String::deserialize(deserializer)?);
        scope.map(Self).ok_or_else(|| D::Error::custom("read, operate or admin is expected"))
    }
}

impl PartialSchema for NewTokenScope {
    fn schema() -> RefOr<Schema> {
        let names = TokenScope::ALL.map(TokenScope::as_str);
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).into()
    }
}

impl ToSchema for NewTokenScope {}

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
            let seconds = |whole: Whole| Duration::from_secs(u64::try_from(whole.0).unwrap_or(0));
            let expires_in = expires_in_seconds.map(seconds);
            let added = control.add_token(&name, scope.0, expires_in).await?;
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
