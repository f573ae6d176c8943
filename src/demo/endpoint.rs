//! The built-in HTTP endpoint: takes what the gateway posts and passes it on to the view.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{SyncSender, TrySendError};

use actix_web::dev::Server;
use actix_web::web::{self, Bytes, Data, Path, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::{NaiveDateTime, Utc};

use crate::http::thread::HttpThread;

/// Tried first: the same port each time lets messages that an earlier demo could not post any more
/// reach this one.
const CUSTOMARY_PORT: u16 = 8088;

/// Beginning of the addresses of all demos' endpoints.
pub(super) const ORIGIN: &str = "http://127.0.0.1:";

/// Twice what the gateway takes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Waits for requests in hand at the end, in seconds.
const SHUTDOWN_S: u64 = 1;

/// Something that was posted.
pub(super) struct Post {
    /// UTC.
    pub(super) received_at: NaiveDateTime,
    /// The last part of the path.
    pub(super) flow_code: String,
    /// `Idempotency-Key`; the same again means the same message again.
    pub(super) key: String,
    pub(super) body: String,
}

/// The endpoint, on a thread of its own.
pub(super) struct Endpoint(HttpThread);

impl Endpoint {
    /// Listens on the loopback interface.
    pub(super) fn start(posts: SyncSender<Post>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, CUSTOMARY_PORT))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        HttpThread::start("demo-endpoint", listener, |listener| serve(listener, posts)).map(Self)
    }

    /// Where the flow of this code posts to.
    pub(super) fn url(&self, flow_code: &str) -> String {
        format!("{ORIGIN}{}{}", self.0.address().port(), path(flow_code))
    }

    /// Ends the server and waits for its thread.
    pub(super) fn end(self) {
        self.0.end();
    }
}

/// Path that the flow of this code posts to.
pub(super) fn path(flow_code: &str) -> String {
    format!("/demo/{flow_code}")
}

fn serve(listener: TcpListener, posts: SyncSender<Post>) -> io::Result<Server> {
    let posts = Data::new(posts);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::clone(&posts))
            .app_data(PayloadConfig::new(MAX_BODY_BYTES))
            .route("/demo/{flow_code}", web::post().to(take))
    });
    // Signals are the gateway's affair.
    Ok(server.workers(1).disable_signals().shutdown_timeout(SHUTDOWN_S).listen(listener)?.run())
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
        // Nobody watches any more; the endpoint serves all the same.
        Ok(()) | Err(TrySendError::Disconnected(_)) => HttpResponse::NoContent().finish(),
        Err(TrySendError::Full(_)) => HttpResponse::ServiceUnavailable().finish(),
    }
}
