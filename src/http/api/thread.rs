//! The thread on which the API works.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::runtime;
use tokio::sync::mpsc::{self, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{self, LocalSet};
use tokio::time::timeout;

use super::answer::line;
use super::problem::{AnswerLine, ApiProblem};
use super::status_reading::{DatabaseReading, LastReading};
use crate::control::{AccessRefusal, Caller, Control, ControlError, LazyControl, TokenAccess};
use crate::domain::api_token::TokenHash;
use crate::domain::edit_history::EditOrigin;
use crate::domain::value_style::ValueStyle;

/// Media type of lines of JSON.
const LINES_OF_JSON: &str = "application/x-ndjson";

/// Maximum requests that work at the same time. Others wait.
const MAX_AT_WORK: usize = 16;

/// Maximum time that a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time that a request works, above the longest wait of any use case.
const WORK_TIMEOUT: Duration = Duration::from_secs(100);

/// What the thread does next: spawns a task on it. Each belongs to a connection, of which there are not many.
type ApiJob = Box<dyn FnOnce() + Send>;

/// Maximum requests with lines as their answer, and of those that connect to a broker. Further ones are refused.
const MAX_LONG: usize = 4;

/// Lines that wait for the client. The work waits when there are more.
const MAX_LINES: usize = 8;

/// The thread of the API, with the use cases and their connections.
pub(in crate::http) struct ApiThread {
    jobs: UnboundedSender<ApiJob>,
    control: Arc<LazyControl>,
    access: Arc<TokenAccess>,
    turns: Arc<Semaphore>,
    long: Arc<Semaphore>,
    last_reading: LastReading,
}

impl ApiThread {
    /// Starts the thread, with the priority of the caller.
    pub(super) fn start(control: Arc<LazyControl>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, queue) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("admin-api".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, work_off(queue)))?;
        let access = Arc::new(TokenAccess::new(Arc::clone(&control)));
        let (turns, long) = (Semaphore::new(MAX_AT_WORK), Semaphore::new(MAX_LONG));
        let (turns, long) = (Arc::new(turns), Arc::new(long));
        Ok(Self { jobs, control, access, turns, long, last_reading: LastReading::default() })
    }

    /// Has the thread do `work`, and returns its result. Dropped, the work is dropped too: a transaction is rolled back.
    pub(in crate::http) async fn run<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Control) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let turn = self.turn().await?;
        let control = Arc::clone(&self.control);
        self.spawn(async move || {
            let _turn = turn;
            let work = async |control: &Control| {
                let working = timeout(WORK_TIMEOUT, work(control)).await;
                working.unwrap_or_else(|_| Err(ApiProblem::timed_out(WORK_TIMEOUT)))
            };
            work_with(&control, work).await
        })
        .await?
    }

    /// Has the thread do work that goes on after the answer has begun.
    pub(in crate::http) fn begin(&self, work: impl AsyncFnOnce() + Send + 'static) -> Result<(), ApiProblem> {
        let job = move || drop(task::spawn_local(async move { work().await }));
        self.jobs.send(Box::new(job)).map_err(|_| ApiProblem::internal())
    }

    /// As [`Self::run`], for an edit: the history names the caller.
    pub(in crate::http) async fn run_as<T: Send + 'static>(
        &self,
        caller: &Caller,
        work: impl AsyncFnOnce(&Control) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let origin = EditOrigin::Token(caller.token.clone());
        let done = self.run(async move |control| work(&control.acting_as(origin)).await).await;
        self.last_reading.forget().await;
        done
    }

    /// The state of the database, at most `max_age` old unless reading it is slow.
    pub(in crate::http) async fn database_status(&self, max_age: Duration) -> Arc<DatabaseReading> {
        let read = self.run(async |control| Ok(control.database_status().await?));
        self.last_reading.or_read(max_age, read).await
    }

    /// As [`Self::run`], for work that takes long. At once refused if there is much of it.
    pub(in crate::http) async fn run_long<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce(&Control) -> Result<T, ApiProblem> + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let turn = self.long_turn()?;
        self.run(async move |control| {
            let _turn = turn;
            work(control).await
        })
        .await
    }

    /// Has the thread do `work`, which sends lines. A failure before the first one is a problem, and later a line.
    /// The work is dropped when the client is gone.
    pub(super) async fn stream(
        &self,
        work: impl AsyncFnOnce(&Control, &LineSender) -> Result<(), ApiProblem> + Send + 'static,
    ) -> Result<HttpResponse, ApiProblem> {
        let turn = self.long_turn()?;
        let control = Arc::clone(&self.control);
        let (sender, mut lines) = mpsc::channel(MAX_LINES);
        let job = move || {
            task::spawn_local(async move {
                let _turn = turn;
                let sender = LineSender(sender);
                let work = async |control: &Control| work(control, &sender).await;
                let result = tokio::select! {
                    result = work_with(&control, work) => result,
                    () = sender.0.closed() => return,
                };
                if let Err(problem) = result {
                    // The client may be gone by now.
                    let _ = sender.0.send(Err(problem)).await;
                }
            });
        };
        self.jobs.send(Box::new(job)).map_err(|_| ApiProblem::internal())?;
        let first = match lines.recv().await {
            Some(Err(problem)) => return Err(problem),
            first => first,
        };
        let rest = unfold((first, lines), async |(first, mut lines)| {
            let line = match first {
                Some(line) => line,
                None => lines.recv().await?,
            };
            let line = line.unwrap_or_else(ApiProblem::line);
            Some((Ok::<Bytes, Infallible>(line), (None, lines)))
        });
        Ok(HttpResponse::Ok().content_type(LINES_OF_JSON).streaming(rest))
    }

    fn long_turn(&self) -> Result<OwnedSemaphorePermit, ApiProblem> {
        Arc::clone(&self.long).try_acquire_owned().map_err(|_| ApiProblem::busy())
    }

    /// Names of the gateway in the header `Host`.
    pub(in crate::http) fn hosts(&self) -> &[String] {
        &self.control.settings().api.hosts
    }

    /// How values are shown.
    pub(in crate::http) fn value_style(&self) -> ValueStyle {
        self.control.settings().value_style
    }

    /// The caller with this token.
    pub(in crate::http) async fn caller(&self, token: TokenHash, peer: IpAddr) -> Result<Caller, ApiProblem> {
        if let Some(caller) = self.access.remembered(&token) {
            return Ok(caller);
        }
        let access = Arc::clone(&self.access);
        let checked = self.spawn(async move || access.check(&token, peer).await).await?;
        checked.map_err(|refusal| refused(&refusal, peer))
    }

    /// Whether a token that was accepted before is revoked or expired. It is not while the database does not answer,
    /// since no revocation can be read.
    pub(super) async fn is_revoked(&self, token: TokenHash) -> bool {
        matches!(self.caller_again(token).await, Err(AccessRefusal::Wrong | AccessRefusal::Expired))
    }

    /// The caller whose token was accepted before.
    pub(in crate::http) async fn caller_again(&self, token: TokenHash) -> Result<Caller, AccessRefusal> {
        if let Some(caller) = self.access.remembered(&token) {
            return Ok(caller);
        }
        let access = Arc::clone(&self.access);
        let checked = self.spawn(async move || access.check_again(&token).await).await;
        checked.unwrap_or_else(|problem| Err(AccessRefusal::Unavailable(problem.to_string())))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiProblem> {
        let turn = timeout(TURN_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(ApiProblem::busy)
    }

    async fn spawn<T: Send + 'static>(
        &self,
        work: impl AsyncFnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiProblem> {
        let (mut sender, answer) = oneshot::channel();
        let job = move || {
            task::spawn_local(async move {
                let result = tokio::select! {
                    result = work() => result,
                    // The client is gone.
                    () = sender.closed() => return,
                };
                // The client may be gone by now.
                let _ = sender.send(result);
            });
        };
        self.jobs.send(Box::new(job)).map_err(|_| ApiProblem::internal())?;
        // The sender is dropped without an answer if the work panicked.
        answer.await.map_err(|_| ApiProblem::internal())
    }
}

/// Where work sends its lines.
pub(super) struct LineSender(Sender<Result<Bytes, ApiProblem>>);

impl LineSender {
    /// Sends a line as soon as the client takes it. Returns whether the client is there.
    pub(super) async fn send(&self, document: &impl Serialize) -> bool {
        self.0.send(Ok(line(&AnswerLine::Document(document)))).await.is_ok()
    }

    /// Sends a line unless others wait, for the progress of work.
    pub(super) fn try_send(&self, document: &impl Serialize) {
        // The next line says more, or the client is gone.
        let _ = self.0.try_send(Ok(line(&AnswerLine::Document(document))));
    }
}

/// Does `work` with the use cases, and renews their connections after an error that calls for it.
async fn work_with<T>(
    control: &LazyControl,
    work: impl AsyncFnOnce(&Control) -> Result<T, ApiProblem>,
) -> Result<T, ApiProblem> {
    let not_connected = |error: ControlError| ApiProblem::not_connected(&error);
    let used = control.get().await.map_err(not_connected)?;
    let done = work(&used).await;
    if let Some(error) = done.as_ref().err().and_then(ApiProblem::cause) {
        control.recover(&used, error).await.map_err(not_connected)?;
    }
    done
}

/// Ends when the server has ended.
async fn work_off(mut jobs: UnboundedReceiver<ApiJob>) {
    while let Some(job) = jobs.recv().await {
        job();
    }
}

/// The log limits repetitions of these lines.
fn refused(refusal: &AccessRefusal, peer: IpAddr) -> ApiProblem {
    match refusal {
        AccessRefusal::Wrong => {
            log::warn!("API: a wrong token came from {peer}");
            ApiProblem::unauthorised("the token is wrong or was revoked")
        }
        AccessRefusal::Expired => {
            log::warn!("API: an expired token came from {peer}");
            ApiProblem::unauthorised("the token has expired")
        }
        AccessRefusal::Blocked(wait) => {
            log::warn!("API: too many wrong tokens, the last one came from {peer}");
            ApiProblem::blocked(*wait)
        }
        AccessRefusal::Unavailable(problem) => ApiProblem::unavailable(problem),
    }
}
