//! The built-in HTTP endpoint: receives posts from the gateway and forwards them to the view.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{SyncSender, TrySendError};

use actix_web::web::{self, Bytes, Data, Path, PayloadConfig, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use chrono::{NaiveDateTime, Utc};

use crate::http::thread::HttpThread;

/// Preferred port. With a stable port, messages that an earlier demo could not post reach this endpoint.
const DEFAULT_PORT: u16 = 8088;

/// Prefix of the endpoint URLs of all demos.
pub(super) const ORIGIN: &str = "http://127.0.0.1:";

/// Limit of a request body, twice the payload limit of the gateway.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// A received post.
pub(super) struct Post {
    /// Time of receipt, in UTC.
    pub(super) received_at: NaiveDateTime,
    /// Last segment of the path.
    pub(super) flow_code: String,
    /// Value of `Idempotency-Key`. A repeated key marks a repeated message.
    pub(super) key: String,
    pub(super) body: String,
}

/// The endpoint, which runs on its own thread.
pub(super) struct Endpoint(HttpThread);

impl Endpoint {
    /// Starts the endpoint on the loopback interface.
    pub(super) fn start(posts: SyncSender<Post>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let posts = Data::new(posts);
        let configure = move |app: &mut ServiceConfig| {
            app.app_data(Data::clone(&posts))
                .app_data(PayloadConfig::new(MAX_BODY_BYTES))
                .route("/demo/{flow_code}", web::post().to(take));
        };
        HttpThread::start_routes("demo-endpoint", listener, configure).map(Self)
    }

    /// Returns the URL to which the flow with this code posts.
    pub(super) fn url(&self, flow_code: &str) -> String {
        format!("{ORIGIN}{}{}", self.0.address().port(), path(flow_code))
    }

    /// Ends the server and waits for its thread.
    pub(super) fn end(self) {
        self.0.end();
    }
}

/// Returns the path to which the flow with this code posts.
pub(super) fn path(flow_code: &str) -> String {
    format!("/demo/{flow_code}")
}

async fn take(
    request: HttpRequest,
    flow_code: Path<String>,
    body: Bytes,
    posts: Data<SyncSender<Post>>,
) -> HttpResponse {
    let key = request.headers().get("Idempotency-Key").and_then(|key| key.to_str().ok());
    let post = Post {
        received_at: Utc::now().naive_utc(),
        flow_code: flow_code.into_inner(),
        key: key.unwrap_or_default().to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    match posts.try_send(post) {
        // The endpoint keeps serving after the view has ended.
        Ok(()) | Err(TrySendError::Disconnected(_)) => HttpResponse::NoContent().finish(),
        Err(TrySendError::Full(_)) => HttpResponse::ServiceUnavailable().finish(),
    }
}
