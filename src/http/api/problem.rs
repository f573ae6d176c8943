//! Problem details (RFC 9457): the answer to every request that failed.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::line;
use crate::control::ControlError;
use crate::domain::api_token::TokenScope;
use crate::domain::problem::Problem;

/// The media type of problem details.
const PROBLEM_JSON: &str = "application/problem+json";

/// Prefix of the types of problems.
const TYPES: &str = "urn:mqtt-gateway:problem:";

/// Waiting time for a client that came too early.
const SOON: Duration = Duration::from_secs(1);

/// Why a request failed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ProblemDetails {
    /// The kind of problem, a URN.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem, for people.
    pub(in crate::http) title: &'static str,
    /// The status of the answer.
    status: u16,
    /// This problem.
    pub(in crate::http) detail: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) remedy: Option<String>,
    /// The problems of single fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::http) problems: Vec<Problem>,
}

/// A line of an answer that is made of lines.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AnswerLine<T> {
    /// A document.
    Document(T),
    /// The last line, if what follows failed.
    Failed {
        /// The problem.
        error: Box<ProblemDetails>,
    },
}

/// Problem details, with the headers that belong to them.
#[derive(Debug)]
pub(in crate::http) struct ApiProblem {
    pub(in crate::http) details: Box<ProblemDetails>,
    retry_after: Option<Duration>,
    allow: Option<String>,
    /// The failure of the use case.
    cause: Option<Box<ControlError>>,
}

impl ApiProblem {
    fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        let details = ProblemDetails {
            kind: format!("{TYPES}{kind}"),
            title: status.canonical_reason().unwrap_or("Failure"),
            status: status.as_u16(),
            detail: detail.into(),
            remedy: None,
            problems: Vec::new(),
        };
        Self { details: Box::new(details), retry_after: None, allow: None, cause: None }
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.details.remedy = Some(remedy.into());
        self
    }

    fn with_retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The request breaks the description.
    pub(in crate::http) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
            .with_remedy("/api/v1/openapi.json describes the requests")
    }

    /// The query breaks the description.
    pub(super) fn bad_query(problem: impl fmt::Display) -> Self {
        Self::bad_request(format!("query: {problem}"))
    }

    /// The cursor of a page is none.
    pub(super) fn bad_cursor() -> Self {
        let detail = "query: after: this is no cursor of a page";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
            .with_remedy("follow `next` of the page before, or leave out after")
    }

    /// A body of another type than JSON.
    pub(super) fn not_json() -> Self {
        let detail = "the body is not application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
            .with_remedy("send JSON, with the header Content-Type: application/json")
    }

    /// A body that is compressed.
    pub(super) fn encoded() -> Self {
        let detail = "the body has the header Content-Encoding";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
            .with_remedy("send it without compression, and without this header")
    }

    /// A body that is too large.
    pub(super) fn too_large(max_bytes: usize) -> Self {
        let detail = format!("the body is longer than {max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// A form that is too large.
    pub(in crate::http) fn form_too_large(max_bytes: usize) -> Self {
        let detail = format!("nothing was saved: the form is longer than {max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
            .with_remedy("go back, and shorten its longest entry; a command takes a long payload from a file")
    }

    /// A form that did not arrive.
    pub(in crate::http) fn broken_form(error: &actix_web::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", format!("the form did not arrive: {error}"))
            .with_remedy("go back, and send it again")
    }

    /// There is no such path.
    pub(in crate::http) fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such path")
            .with_remedy("/api/v1/openapi.json lists the paths")
    }

    /// The path has other methods.
    pub(super) fn wrong_method(allow: String) -> Self {
        let detail = format!("this path has only the methods {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self { allow: Some(allow), ..problem }
    }

    /// The request has no valid token.
    pub(super) fn unauthorised(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).with_remedy(
            "send the header Authorization: Bearer TOKEN; `mqtt-gateway tokens add` makes a token",
        )
    }

    /// There were too many wrong tokens.
    pub(super) fn blocked(wait: Duration) -> Self {
        let detail = "there were too many wrong tokens";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail).with_retry(wait)
    }

    /// The token permits less.
    pub(in crate::http) fn forbidden(needed: TokenScope) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", format!("this needs a token with scope {needed}"))
            .with_remedy(format!("`mqtt-gateway tokens add NAME --scope {needed}` makes one"))
    }

    /// The request is for another host.
    pub(super) fn wrong_host(detail: String) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", detail)
            .with_remedy("use the address of the gateway, or add the name to ADMIN_HOSTS")
    }

    /// The request comes from a page of another site.
    pub(in crate::http) fn foreign_origin() -> Self {
        let detail = "the header Origin names another site";
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", detail)
    }

    /// The form was not made for this session.
    pub(in crate::http) fn foreign_form() -> Self {
        let detail = "this form does not belong to your session";
        Self::new(StatusCode::FORBIDDEN, "foreign_form", detail)
            .with_remedy("open the page again, and repeat what you did")
    }

    /// All turns are taken.
    pub(in crate::http) fn busy() -> Self {
        let detail = "too many requests are at work";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            .with_remedy("end streams that are not needed, or try again later")
            .with_retry(SOON)
    }

    /// The request took too long. The host of the database may be gone, so this counts as an error of the database.
    pub(super) fn timed_out(waited: Duration) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", "the request took too long");
        let cause = Some(Box::new(ControlError::timed_out(waited)));
        Self { cause, ..problem }.with_retry(SOON)
    }

    /// The database is not there, or not ready.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store", detail).with_retry(SOON)
    }

    /// The database cannot be used yet.
    pub(super) fn not_connected(error: &ControlError) -> Self {
        Self::unavailable(error.to_string())
    }

    /// A fault of the gateway.
    pub(in crate::http) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the gateway failed; its log says why")
    }

    /// The failure of the use case, if there was one.
    pub(super) fn cause(&self) -> Option<&ControlError> {
        self.cause.as_deref()
    }

    /// The last line of an answer that failed.
    pub(super) fn line(self) -> Bytes {
        line(&AnswerLine::<()>::Failed { error: self.details })
    }

    /// The answer.
    pub(in crate::http) fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait) = self.retry_after {
            response.insert_header((RETRY_AFTER, wait.as_secs().saturating_add(1).to_string()));
        }
        if let Some(allow) = &self.allow {
            response.insert_header((ALLOW, allow.as_str()));
        }
        if self.status_code() == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"mqtt-gateway\""));
        }
        // The details have names that are texts, so this cannot fail.
        let body = serde_json::to_vec(&self.details).unwrap_or_default();
        response.content_type(PROBLEM_JSON).body(body)
    }
}

impl From<ControlError> for ApiProblem {
    fn from(error: ControlError) -> Self {
        let (status, wait) = match &error {
            ControlError::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            ControlError::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, None),
            ControlError::Conflict { .. } => (StatusCode::CONFLICT, None),
            ControlError::Outdated { .. } => (StatusCode::PRECONDITION_FAILED, None),
            ControlError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
        };
        let mut problem = Self::new(status, error.kind(), error.to_string());
        problem.details.remedy = error.remedy().map(str::to_owned);
        problem.details.problems = error.problems().to_vec();
        problem.retry_after = wait;
        problem.cause = Some(Box::new(error));
        problem
    }
}

impl fmt::Display for ApiProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details.detail)
    }
}

impl ResponseError for ApiProblem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.details.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}
