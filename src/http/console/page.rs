//! Pages, and the answers to requests that failed.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use askama::Template;

use super::assets::ASSETS;
use crate::control::ControlError;
use crate::domain::api_token::TokenScope;
use crate::domain::problem::{Problem, sentence};
use crate::http::api::problem::ApiProblem;

const HTML: &str = "text/html; charset=utf-8";

/// The frame of all pages.
pub(super) struct PageFrame {
    pub(super) title: String,
    /// The path of the current part in the navigation.
    pub(super) part: &'static str,
    /// None before the login.
    pub(super) visitor: Option<PageVisitor>,
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

/// The visitor of a page.
pub(super) struct PageVisitor {
    pub(super) name: String,
    pub(super) scope: TokenScope,
    pub(super) form_key: String,
    pub(super) is_demo: bool,
}

impl PageFrame {
    /// A page without a session.
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            part: "",
            visitor: None,
            style: ASSETS.style.path(),
            script: ASSETS.script.path(),
            icon: ASSETS.icon.path(),
        }
    }

    /// The hidden field that every form needs.
    pub(super) fn form_key(&self) -> &str {
        self.visitor.as_ref().map_or("", |visitor| &visitor.form_key)
    }

    pub(super) fn may_operate(&self) -> bool {
        self.allows(TokenScope::Operate)
    }

    pub(super) fn may_edit(&self) -> bool {
        self.allows(TokenScope::Admin)
    }

    fn allows(&self, needed: TokenScope) -> bool {
        self.visitor.as_ref().is_some_and(|visitor| visitor.scope.allows(needed))
    }
}

/// A time of a document without its fractions, under a heading that names the time zone.
pub(super) fn short_time(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// Renders a page, or a part of one.
pub(super) fn render(template: &impl Template) -> Result<String, ApiProblem> {
    template.render().map_err(|error| {
        log::error!("Console: a page failed: {error}");
        ApiProblem::internal()
    })
}

/// A page that is ready to be sent.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    body: String,
}

impl Page {
    /// Makes a page.
    pub(super) fn new(template: &impl Template) -> Result<Self, ApiProblem> {
        Self::with_status(StatusCode::OK, template)
    }

    /// Its text.
    pub(super) fn body(&self) -> &str {
        &self.body
    }

    /// Makes a page with another status.
    pub(super) fn with_status(status: StatusCode, template: &impl Template) -> Result<Self, ApiProblem> {
        Ok(Self { status, body: render(template)? })
    }
}

impl Responder for Page {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::build(self.status).content_type(HTML).body(self.body)
    }
}

/// Conditions of a list. Those that cannot be used are none, with the problems for the page that shows the form again.
pub(super) fn conditions_or_problems<T: Default>(
    read: Result<T, ControlError>,
) -> Result<(T, Vec<Problem>), ControlError> {
    match read {
        Ok(conditions) => Ok((conditions, Vec::new())),
        Err(ControlError::Invalid { problems }) => Ok((T::default(), problems)),
        Err(error) => Err(error),
    }
}

/// The status of a list whose conditions have these problems.
pub(super) fn status_of(problems: &[Problem]) -> StatusCode {
    if problems.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
}

/// The word of a condition is none of the form.
pub(super) fn unknown_word(field: &'static str, word: &str) -> ControlError {
    ControlError::invalid(field, format!("{word:?} is not in the list"), "choose one of the list")
}

/// Leads to another page, after a form was accepted.
#[derive(Debug)]
pub(super) struct SeeOther(pub(super) String);

impl Responder for SeeOther {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::SeeOther().insert_header((LOCATION, self.0)).finish()
    }
}

/// Another page, or this one again.
#[derive(Debug)]
pub(super) enum Reply {
    See(SeeOther),
    Show(Page),
}

impl Responder for Reply {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        match self {
            Self::See(other) => other.respond_to(request),
            Self::Show(page) => page.respond_to(request),
        }
    }
}

/// Why there is no page.
#[derive(Debug)]
pub(super) enum ConsoleError {
    /// The visitor has to log in.
    NoSession { login: String },
    /// The visitor sent a form, and has to log in.
    FormWithoutSession,
    /// The request failed.
    Failed(ApiProblem),
}

#[derive(Template)]
#[template(path = "error.html", config = "src/http/console/askama.toml")]
struct ErrorPage<'p> {
    frame: PageFrame,
    detail: &'p str,
    remedy: Option<String>,
    problems: &'p [Problem],
    /// Whether a form may succeed if it is sent again.
    is_form_to_repeat: bool,
}

#[derive(Template)]
#[template(path = "session_over.html", config = "src/http/console/askama.toml")]
struct SessionOverPage {
    frame: PageFrame,
}

impl<'p> ErrorPage<'p> {
    fn new(ApiProblem { details, .. }: &'p ApiProblem, frame: PageFrame) -> Self {
        Self {
            frame,
            detail: &details.detail,
            remedy: details.remedy.as_deref().map(sentence),
            problems: &details.problems,
            is_form_to_repeat: false,
        }
    }
}

impl From<ApiProblem> for ConsoleError {
    fn from(problem: ApiProblem) -> Self {
        Self::Failed(problem)
    }
}

impl From<ControlError> for ConsoleError {
    fn from(error: ControlError) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for ConsoleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSession { .. } | Self::FormWithoutSession => f.write_str("there is no session"),
            Self::Failed(problem) => problem.fmt(f),
        }
    }
}

impl ResponseError for ConsoleError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NoSession { .. } => StatusCode::SEE_OTHER,
            Self::FormWithoutSession => StatusCode::UNAUTHORIZED,
            Self::Failed(problem) => problem.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        let problem = match self {
            Self::NoSession { login } => {
                return HttpResponse::SeeOther().insert_header((LOCATION, login.as_str())).finish();
            }
            Self::FormWithoutSession => {
                let page = SessionOverPage { frame: PageFrame::new("Your session is over") };
                let mut response = HttpResponse::Unauthorized();
                return response.content_type(HTML).body(page.render().unwrap_or_default());
            }
            Self::Failed(problem) => problem,
        };
        let mut response = HttpResponse::build(self.status_code());
        if let Some(wait) = problem.response().headers().get(RETRY_AFTER) {
            response.insert_header((RETRY_AFTER, wait.clone()));
        }
        response.content_type(HTML).body(error_page(problem, PageFrame::new(problem.details.title)))
    }
}

/// The text of an error page as the answer to a form.
pub(super) fn refused_form_page(problem: &ApiProblem, frame: PageFrame) -> String {
    let is_form_to_repeat = problem.status_code().is_server_error();
    ErrorPage { is_form_to_repeat, ..ErrorPage::new(problem, frame) }.render().unwrap_or_default()
}

/// The text of an error page.
pub(super) fn error_page(problem: &ApiProblem, frame: PageFrame) -> String {
    ErrorPage::new(problem, frame).render().unwrap_or_default()
}
