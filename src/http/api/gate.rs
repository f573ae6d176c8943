//! Checks of every request before its handler: host, origin, token, path, method, scope and query.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage};
use url::form_urlencoded;

use super::description::ApiDescription;
use super::hosts::{is_own_host, is_own_origin};
use super::operations::{FoundOperation, Operation};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::Caller;
use crate::domain::api_token::TokenHash;
use crate::http::connections::trust_if;

/// Maximum bytes of a token, far above the length of ours.
const MAX_TOKEN_BYTES: usize = 1024;

/// Lets a request through to its handler, or answers with a problem.
pub(super) async fn gate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(&request).await {
        Ok((caller, token)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(token);
            Ok(next.call(request).await?.map_into_boxed_body())
        }
        Err(problem) => Ok(request.into_response(problem.response())),
    }
}

async fn admit(request: &ServiceRequest) -> Result<(Caller, TokenHash), ApiProblem> {
    let (Some(thread), Some(description)) =
        (request.app_data::<Data<ApiThread>>(), request.app_data::<Data<ApiDescription>>())
    else {
        return Err(ApiProblem::internal());
    };
    check_host(request.headers(), request.uri(), thread.hosts())?;
    let peer = request.peer_addr().ok_or_else(ApiProblem::internal)?.ip();
    let Some(token) = bearer(request.headers()) else {
        log::debug!("API: a request without a token came from {peer}");
        return Err(ApiProblem::unauthorised("the request has no token"));
    };
    let hash = TokenHash::of_token(&token);
    let caller = trust_if(request.conn_data(), thread.caller(hash, peer)).await?;
    // No database has a name with U+0000.
    if request.path().contains("%00") {
        return Err(ApiProblem::unknown_path());
    }
    let operation = match description.operations.find(request.path(), request.method().as_str()) {
        FoundOperation::Found(operation) => operation,
        FoundOperation::OtherMethods(allow) => return Err(ApiProblem::wrong_method(allow)),
        FoundOperation::Unknown => return Err(ApiProblem::unknown_path()),
    };
    if !caller.scope.allows(operation.scope) {
        return Err(ApiProblem::forbidden(operation.scope));
    }
    check_query(request.query_string(), operation)?;
    Ok((caller, hash))
}

/// Refuses requests for other hosts, and requests of other sites' pages.
pub(in crate::http) fn check_host(
    headers: &HeaderMap,
    uri: &Uri,
    hosts: &[String],
) -> Result<(), ApiProblem> {
    let host =
        only(headers, &HOST).ok_or_else(|| ApiProblem::bad_request("there is no single header Host"))?;
    let asked = uri.authority().map_or(host, |authority| authority.as_str());
    if !is_own_host(host, hosts) || !is_own_host(asked, hosts) {
        return Err(ApiProblem::wrong_host(format!("{host:?} is no name of this gateway")));
    }
    if headers.contains_key(ORIGIN)
        && !only(headers, &ORIGIN).is_some_and(|origin| is_own_origin(origin, host))
    {
        return Err(ApiProblem::foreign_origin());
    }
    Ok(())
}

/// The value of a header that occurs once.
pub(in crate::http) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name);
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    let token = token.trim();
    let is_token =
        scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= MAX_TOKEN_BYTES;
    is_token.then(|| token.to_owned())
}

fn check_query(query: &str, operation: &Operation) -> Result<(), ApiProblem> {
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !operation.query.iter().any(|known| *known == name) {
            return Err(ApiProblem::bad_request(format!("query: there is no parameter {name:?}")));
        }
        if value.contains('\0') {
            return Err(ApiProblem::bad_request(format!("query: {name} contains U+0000")));
        }
    }
    Ok(())
}
