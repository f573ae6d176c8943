//! The outcome of a post.

use std::time::Duration;

use actix_web::error::ParseError;
use awc::error::{ConnectError, SendRequestError};
use thiserror::Error;

use super::redirect::MAX_REDIRECTS;
use crate::credentials::CredentialError;
use crate::domain::library_text::without_links;
use crate::domain::posting::answers;

/// A failed post. No variant shows the URL, which may hold secrets.
#[derive(Debug, Error)]
pub enum PostError {
    /// The post has no message.
    #[error("a post without a message")]
    NoMessage,
    /// The URL is not valid.
    #[error("not a usable URL: {0}")]
    Url(#[from] url::ParseError),
    /// The URL has no host, or is neither http nor https.
    #[error("not a usable URL: http or https with a host is needed")]
    Scheme,
    /// The URL is `https` and there are no root certificates to verify the endpoint.
    #[error("https is not available without root certificates, see the log line about them")]
    NoCertificates,
    /// The connection failed, for example because of an unknown name.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// One side did not accept the certificate of the other, or there is no common version of TLS.
    #[error("cannot connect by TLS: {0}")]
    Tls(String),
    /// The endpoint closed the connection instead of answering.
    #[error("the connection was closed without an answer")]
    NoAnswer,
    /// Sending the request or reading the response failed.
    #[error("the request failed: {0}")]
    Exchange(String),
    /// Connect, request and the head of the response took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// A secret of the options cannot be read.
    #[error("options.delivery: {0}")]
    Credential(#[from] CredentialError),
    /// A secret of the options is not usable. The text never contains it.
    #[error("options.delivery.{path}: {problem}")]
    Options {
        /// The option.
        path: String,
        /// The problem, and the expected value.
        problem: String,
    },
    /// No token was issued for the post.
    #[error("no token from {endpoint}: {problem}")]
    Token {
        /// Origin of the token endpoint.
        endpoint: String,
        /// The reason, without secrets.
        problem: String,
    },
    /// The endpoint answered with a status other than success.
    #[error("HTTP status {}", .0.status)]
    Status(FailedAnswer),
    /// The endpoint redirects to a location that a post must not follow.
    #[error("HTTP status {status} leads to {to}: {reason}")]
    Redirect {
        /// The status.
        status: u16,
        /// The location, without secrets.
        to: String,
        /// The reason for not following it, and the remedy.
        reason: &'static str,
    },
    /// The chain of redirects is too long.
    #[error("more than {MAX_REDIRECTS} redirects, the last to {to}")]
    TooManyRedirects {
        /// The status of the last redirect.
        status: u16,
        /// The last location, without secrets.
        to: String,
    },
    /// The post panicked.
    #[error("the post ended in a panic")]
    Panicked,
}

/// A post that the endpoint has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The HTTP status.
    pub status: u16,
}

/// An answer whose status is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Whether the status says that the content of the message is wrong.
    pub blames_message: bool,
    /// The delay that the endpoint asks for, by `Retry-After`.
    pub retry_after: Option<Duration>,
    /// The first 2 KiB of the body.
    pub text: String,
}

impl PostError {
    /// Whether the endpoint rejects the content of this message, so that a retry would fail the same way. Other
    /// statuses may concern the endpoint or the credentials and so affect the next message as well.
    #[must_use]
    pub fn blames_message(&self) -> bool {
        matches!(self, Self::Status(FailedAnswer { blames_message: true, .. }))
    }

    /// The answer, if the status was read and is not a success.
    #[must_use]
    pub fn answer(&self) -> Option<&FailedAnswer> {
        if let Self::Status(answer) = self { Some(answer) } else { None }
    }

    /// Whether posts of other flows to the same origin would fail too: it cannot be reached, or is overloaded. After a
    /// failure of TLS they may succeed, because each flow has its own TLS options.
    #[must_use]
    pub fn blames_origin(&self) -> bool {
        match self {
            Self::Connect(_) | Self::NoAnswer | Self::Exchange(_) | Self::Timeout(_) => true,
            Self::Status(answer) => answers::blames_origin(answer.status),
            _ => false,
        }
    }

    /// The HTTP status of the last answer, if one was read.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(FailedAnswer { status, .. })
            | Self::Redirect { status, .. }
            | Self::TooManyRedirects { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The failure of TLS that caused an error. An endpoint can refuse a client certificate as late as in its answer.
fn tls_failure(error: &SendRequestError) -> Option<&rustls::Error> {
    let (SendRequestError::Connect(ConnectError::Io(error))
    | SendRequestError::Send(error)
    | SendRequestError::Response(ParseError::Io(error))) = error
    else {
        return None;
    };
    error.get_ref()?.downcast_ref()
}

impl From<SendRequestError> for PostError {
    fn from(error: SendRequestError) -> Self {
        if let Some(failure) = tls_failure(&error) {
            return Self::Tls(without_links(failure));
        }
        match error {
            SendRequestError::Connect(ConnectError::Disconnected) => Self::NoAnswer,
            SendRequestError::Connect(error) => Self::Connect(without_links(&error)),
            SendRequestError::Url(_) => Self::Scheme,
            error => Self::Exchange(without_links(&error)),
        }
    }
}
