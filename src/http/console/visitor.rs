//! The sender of a request: checks host, origin and session, and the key of a form.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use actix_web::web::{Bytes, Data};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use subtle::ConstantTimeEq;

use super::MAX_FORM_BYTES;
use super::demo_access::DemoAccess;
use super::fields::{Fields, link};
use super::page::{ConsoleError, PageFrame, PageVisitor};
use super::sessions::{COOKIE_LIFE, ConsoleSessions, Session};
use crate::control::{AccessRefusal, Caller};
use crate::domain::api_token::TokenScope;
use crate::http::api::gate::{check_host, only};
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::http::connections::trust_if;

/// The field of forms with the key of the session. Pages of other sites do not know it.
pub(super) const FORM_KEY: &str = "key";

/// A browser that may have no session.
#[derive(Debug)]
pub(super) struct Guest {
    /// The cookie of the session, if the browser sent one.
    pub(super) secret: Option<String>,
    /// Name of the cookie of the session.
    pub(super) cookie: String,
}

/// A person with a session.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// The session.
    pub(super) session: Session,
    /// The token, and its present permissions.
    pub(super) caller: Caller,
    /// Where the request went.
    pub(super) query: Fields,
    /// Whether this is the console of a demo.
    is_demo: bool,
}

/// A form that was sent from a page of the session.
#[derive(Debug)]
pub(super) struct Submission {
    visitor: Visitor,
    fields: Fields,
}

impl Guest {
    fn new(request: &HttpRequest) -> Result<Self, ConsoleError> {
        let thread = request.app_data::<Data<ApiThread>>().ok_or_else(ApiProblem::internal)?;
        check_host(request.headers(), request.uri(), thread.hosts())?;
        let cookie = cookie_name(only(request.headers(), &HOST).unwrap_or_default());
        let secret = cookie_of(request.headers(), &cookie);
        Ok(Self { secret, cookie })
    }

    /// The header that gives the browser the cookie of a session, or takes it away.
    pub(super) fn set_cookie(&self, secret: Option<&str>) -> String {
        let life = if secret.is_some() { COOKIE_LIFE.as_secs() } else { 0 };
        let (name, secret) = (&self.cookie, secret.unwrap_or_default());
        format!("{name}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict")
    }
}

impl FromRequest for Guest {
    type Error = ConsoleError;
    type Future = std::future::Ready<Result<Self, ConsoleError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(Self::new(request))
    }
}

impl Visitor {
    /// The frame of a page of a part of the console.
    pub(super) fn frame(&self, part: &'static str, title: impl Into<String>) -> PageFrame {
        let visitor = PageVisitor {
            name: self.caller.token.clone(),
            scope: self.caller.scope,
            form_key: self.session.form_key.clone(),
            is_demo: self.is_demo,
        };
        PageFrame { part, visitor: Some(visitor), ..PageFrame::new(title) }
    }

    /// Fails unless the visitor has this scope.
    pub(super) fn require(&self, needed: TokenScope) -> Result<(), ConsoleError> {
        if self.caller.scope.allows(needed) { Ok(()) } else { Err(ApiProblem::forbidden(needed).into()) }
    }

    /// The present permissions of the visitor, whose session has this secret; none if the session is over.
    pub(super) async fn again(
        &self,
        secret: &str,
        thread: &ApiThread,
        sessions: &ConsoleSessions,
    ) -> Option<Caller> {
        find_session(secret, thread, sessions).await.map(|(_, caller)| caller)
    }

    async fn of(request: HttpRequest) -> Result<Self, ConsoleError> {
        let guest = Guest::new(&request)?;
        let (Some(thread), Some(sessions)) =
            (request.app_data::<Data<ApiThread>>(), request.app_data::<Data<ConsoleSessions>>())
        else {
            return Err(ApiProblem::internal().into());
        };
        let refused = || no_session(&request);
        let secret = guest.secret.ok_or_else(refused)?;
        let finding = async { find_session(&secret, thread, sessions).await.ok_or_else(refused) };
        let (session, caller) = trust_if(request.conn_data(), finding).await?;
        let is_demo = request.app_data::<Data<DemoAccess>>().is_some();
        let query = Fields::parse(request.query_string().as_bytes());
        let visitor = Self { session, caller, query, is_demo };
        // An error page has the navigation of its visitor.
        request.extensions_mut().insert(visitor.clone());
        Ok(visitor)
    }
}

/// The session with this secret, with the present permissions of its token. Ends a session whose token is gone.
async fn find_session(
    secret: &str,
    thread: &ApiThread,
    sessions: &ConsoleSessions,
) -> Option<(Session, Caller)> {
    let session = sessions.find(secret, Instant::now())?;
    let Some(token) = session.token else {
        let caller = session.caller.clone();
        return Some((session, caller));
    };
    match thread.caller_again(token).await {
        Ok(caller) => Some((session, caller)),
        // The console has to say that the database does not answer. No revocation can be read.
        Err(AccessRefusal::Unavailable(_)) => {
            let caller = session.caller.clone();
            Some((session, caller))
        }
        Err(_) => {
            sessions.end(secret);
            None
        }
    }
}

impl FromRequest for Visitor {
    type Error = ConsoleError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ConsoleError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(Self::of(request.clone()))
    }
}

impl Submission {
    /// The visitor and the fields, if the visitor has this scope.
    pub(super) fn permitted(self, needed: TokenScope) -> Result<(Visitor, Fields), ConsoleError> {
        self.visitor.require(needed)?;
        self.fields.check().map_err(ApiProblem::from)?;
        Ok((self.visitor, self.fields))
    }
}

impl FromRequest for Submission {
    type Error = ConsoleError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ConsoleError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let visitor = Visitor::of(request.clone());
        let body = Bytes::from_request(request, payload);
        Box::pin(async move {
            let visitor = visitor.await?;
            let body = body.await.map_err(|error| {
                let status = error.as_response_error().status_code();
                let is_too_large = status == StatusCode::PAYLOAD_TOO_LARGE;
                if is_too_large {
                    ApiProblem::form_too_large(MAX_FORM_BYTES)
                } else {
                    ApiProblem::broken_form(&error)
                }
            })?;
            let fields = Fields::parse(&body);
            let (given, own) = (fields.get(FORM_KEY).as_bytes(), visitor.session.form_key.as_bytes());
            if !bool::from(given.ct_eq(own)) {
                return Err(ApiProblem::foreign_form().into());
            }
            Ok(Self { visitor, fields })
        })
    }
}

/// Browsers send a cookie to all ports of a host, so each gateway there needs another name.
fn cookie_name(host: &str) -> String {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let port = if port.chars().all(|c| c.is_ascii_digit()) { port } else { "" };
    format!("mqtt_gateway_{port}")
}

fn cookie_of(headers: &HeaderMap, name: &str) -> Option<String> {
    let cookies = headers.get_all(COOKIE).filter_map(|value: &HeaderValue| value.to_str().ok());
    let mut cookies = cookies.flat_map(|cookies| cookies.split("; ")).filter_map(|pair| pair.split_once('='));
    cookies.find(|(known, _)| *known == name).map(|(_, secret)| secret.to_owned())
}

/// The login, which leads back to the page. A form gets an answer that can be reloaded after the login, which sends the
/// form again.
fn no_session(request: &HttpRequest) -> ConsoleError {
    let wanted = request.uri().path_and_query().map_or("/", |wanted| wanted.as_str());
    match (request.method() == "GET", wanted) {
        (_, "/" | "/logout") => ConsoleError::NoSession { login: "/login".to_owned() },
        (true, wanted) => ConsoleError::NoSession { login: link("/login", [("next", wanted)]) },
        (false, _) => ConsoleError::FormWithoutSession,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn each_port_has_a_cookie() {
        assert_eq!(cookie_name("127.0.0.1:8080"), "mqtt_gateway_8080");
        assert_eq!(cookie_name("gateway.example"), "mqtt_gateway_");
        assert_eq!(cookie_name("[::1]"), "mqtt_gateway_");
        let request = TestRequest::default().insert_header((COOKIE, "a=1; mqtt_gateway_1=s=; b=2"));
        let request = request.to_http_request();
        assert_eq!(cookie_of(request.headers(), "mqtt_gateway_1").as_deref(), Some("s="));
        assert_eq!(cookie_of(request.headers(), "mqtt_gateway_"), None);
    }

    #[test]
    fn login_leads_back() {
        let login = |request: TestRequest| match no_session(&request.to_http_request()) {
            ConsoleError::NoSession { login } => Some(login),
            _ => None,
        };
        let next = login(TestRequest::get().uri("/flow?code=A%26"));
        assert_eq!(next.as_deref(), Some("/login?next=%2Fflow%3Fcode%3DA%2526"));
        assert_eq!(login(TestRequest::get().uri("/")).as_deref(), Some("/login"));
        assert_eq!(login(TestRequest::post().uri("/logout")).as_deref(), Some("/login"));
        assert_eq!(login(TestRequest::post().uri("/flow/enable")), None);
    }
}
