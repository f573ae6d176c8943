//! Log in with a token or with the link of the start, and log out.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, SET_COOKIE};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use askama::Template;

use super::fields::Fields;
use super::page::{ConsoleError, Page, PageFrame, SeeOther};
use super::sessions::ConsoleSessions;
use super::visitor::{Guest, Submission, Visitor};
use crate::domain::api_token::{TokenHash, TokenScope};
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::http::connections::trust_if;

/// Maximum bytes of a token, far above the length of ours.
const MAX_TOKEN_BYTES: usize = 1024;

#[derive(Template)]
#[template(path = "login.html", config = "src/http/console/askama.toml")]
struct LoginPage<'p> {
    frame: PageFrame,
    next: &'p str,
    problem: Option<String>,
}

impl LoginPage<'_> {
    fn new(next: &str, problem: Option<String>) -> LoginPage<'_> {
        LoginPage { frame: PageFrame::new("Log in"), next, problem }
    }
}

/// Shows the form.
pub(super) async fn show(_: Guest, request: HttpRequest) -> Result<Page, ConsoleError> {
    let query = Fields::parse(request.query_string().as_bytes());
    Ok(Page::new(&LoginPage::new(query.get("next"), None))?)
}

/// Opens a session for the holder of a token.
pub(super) async fn log_in(
    guest: Guest,
    thread: Data<ApiThread>,
    sessions: Data<ConsoleSessions>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, ConsoleError> {
    let fields = Fields::parse(&body);
    let (token, next) = (fields.get("token").trim().to_owned(), fields.get("next"));
    let again = |status: StatusCode, problem: String| -> Result<HttpResponse, ConsoleError> {
        let page = Page::with_status(status, &LoginPage::new(next, Some(problem)))?;
        Ok(page.respond_to(&request))
    };
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return again(StatusCode::UNAUTHORIZED, "Enter a token.".to_owned());
    }
    let peer = request.peer_addr().ok_or_else(ApiProblem::internal)?.ip();
    let hash = TokenHash::of_token(&token);
    match trust_if(request.conn_data(), thread.caller(hash, peer)).await {
        Ok(caller) => {
            let cookie = sessions.add(Some(hash), caller, guest.secret.as_deref(), Instant::now());
            Ok(opened(&guest, &sessions, &cookie, next))
        }
        Err(problem) => again(problem.status_code(), format!("You are not logged in: {problem}.")),
    }
}

/// Opens a session by the link of the start, which is valid once. Later it leads a visitor with a session to the
/// overview.
pub(super) async fn enter(
    guest: Guest,
    visitor: Option<Visitor>,
    sessions: Data<ConsoleSessions>,
    request: HttpRequest,
) -> Result<HttpResponse, ConsoleError> {
    let query = Fields::parse(request.query_string().as_bytes());
    let old = guest.secret.as_deref();
    if let Some(cookie) = sessions.follow_link(query.get("link"), old, Instant::now()) {
        return Ok(opened(&guest, &sessions, &cookie, "/"));
    }
    if visitor.is_some() {
        return Ok(SeeOther("/".to_owned()).respond_to(&request));
    }
    let problem = "This link was used, or is too old. Log in with a token.".to_owned();
    let page = Page::with_status(StatusCode::UNAUTHORIZED, &LoginPage::new("", Some(problem)))?;
    Ok(page.respond_to(&request))
}

/// Ends the session.
pub(super) async fn log_out(
    guest: Guest,
    sessions: Data<ConsoleSessions>,
    submission: Submission,
) -> Result<HttpResponse, ConsoleError> {
    submission.permitted(TokenScope::Read)?;
    sessions.end(guest.secret.as_deref().unwrap_or_default());
    let mut response = HttpResponse::SeeOther();
    response.insert_header((LOCATION, "/login")).insert_header((SET_COOKIE, guest.set_cookie(None)));
    Ok(response.finish())
}

/// Gives the browser the new session in place of an earlier one.
fn opened(guest: &Guest, sessions: &ConsoleSessions, cookie: &str, next: &str) -> HttpResponse {
    sessions.end(guest.secret.as_deref().unwrap_or_default());
    let mut response = HttpResponse::SeeOther();
    response.insert_header((LOCATION, own_path(next)));
    response.insert_header((SET_COOKIE, guest.set_cookie(Some(cookie)))).finish()
}

/// A path of the console. Everything else leads to the overview, since a link may name another site.
fn own_path(next: &str) -> &str {
    let is_own = next.starts_with('/')
        && !next.starts_with("//")
        && next.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    if is_own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_to_no_other_site() {
        assert_eq!(own_path("/flow?code=A%26"), "/flow?code=A%26");
        for other in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\n", "flows", "/a b"]
        {
            assert_eq!(own_path(other), "/", "{other:?}");
        }
    }
}
