//! The REST API below `/api/v1`.
//!
//! ```text
//!  server ──▶ gate ─────────▶ flows, … ──▶ thread ──▶ control ──▶ database
//!             host, origin,   handlers     does all work
//!             token, scope
//! ```
//!
//! - The gate finds the operation of a request in the OpenAPI description. Other requests are refused, and the
//!   scope that the description names is the one that counts.
//! - The thread of the server also answers probes. Handlers therefore leave all work to the thread of the API.
//! - To add a route: write its handler with `#[utoipa::path]` and `#[get]` or the like, and add it to `description.rs`
//!   and to [`routes`].

mod answer;
mod body;
mod deliveries;
mod description;
mod drift;
mod events;
mod flow_bodies;
mod flow_edits;
mod flows;
pub(super) mod gate;
mod history;
mod hosts;
mod letters;
mod messages;
mod operations;
mod page;
pub(super) mod problem;
mod servers;
mod status;
pub(super) mod status_reading;
pub(super) mod thread;
mod tokens;
mod versions;

use std::io;
use std::sync::Arc;

use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::{self, Data, PathConfig, PayloadConfig, ServiceConfig};

use self::description::ApiDescription;
use self::problem::ApiProblem;
use self::thread::ApiThread;
use crate::control::LazyControl;

/// Maximum bytes of a request body.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The parts that all requests share.
#[derive(Clone)]
pub(super) struct Api {
    thread: Data<ApiThread>,
    description: Data<ApiDescription>,
}

impl Api {
    /// Starts the thread of the API, with the priority of the caller.
    pub(super) fn start(control: Arc<LazyControl>) -> io::Result<Self> {
        let thread = Data::new(ApiThread::start(control)?);
        Ok(Self { thread, description: Data::new(ApiDescription::new()) })
    }

    /// The thread, which the console shares.
    pub(super) fn thread(&self) -> Data<ApiThread> {
        self.thread.clone()
    }
}

/// Registers all routes.
pub(super) fn routes(config: &mut ServiceConfig, api: &Api) {
    let scope = web::scope("/api/v1")
        .app_data(api.thread.clone())
        .app_data(api.description.clone())
        .app_data(PayloadConfig::new(MAX_BODY_BYTES))
        .app_data(PathConfig::default().error_handler(|_, _| ApiProblem::unknown_path().into()))
        .wrap(from_fn(gate::gate))
        .wrap(DefaultHeaders::new().add(("X-Content-Type-Options", "nosniff")))
        .service(description::describe_api)
        .configure(events::routes)
        .configure(flows::routes)
        .configure(flow_edits::routes)
        .configure(history::routes)
        .configure(drift::routes)
        .configure(servers::routes)
        .configure(messages::routes)
        .configure(letters::routes)
        .configure(deliveries::routes)
        .configure(status::routes)
        .configure(tokens::routes);
    config.service(scope);
}
