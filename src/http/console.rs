//! The console: pages for operators at `/`, made on the server.
//!
//! ```text
//!  server ──▶ visitor ───────▶ overview, flows, letters ──▶ thread of the API ──▶ control ──▶ database
//!             host, origin,    handlers and templates
//!             session, form key
//! ```
//!
//! - A handler has its visitor as an argument, and a form as a [`Submission`]: without them it cannot be reached.
//! - All texts of templates are escaped by [`VisibleText`](visible_text::VisibleText).
//! - To add a page: write its template, a handler, and its route in [`routes`]. The work belongs to `control`.

mod actors;
mod assets;
mod broker_form;
mod brokers;
mod charts;
mod conflict;
mod deliveries;
mod demo;
mod demo_access;
mod drift;
mod fields;
mod flow_form;
mod flow_removal;
mod flows;
mod history;
mod inputs;
mod letters;
mod links;
mod live;
mod live_part;
mod login;
mod overview;
mod page;
mod post_attempts;
mod question;
mod random_text;
mod replicas;
mod sessions;
mod shell;
mod tokens;
mod visible_text;
mod visitor;

use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::web::{self, Data, PayloadConfig, ServiceConfig};

pub(crate) use self::demo_access::DemoAccess;
#[cfg(feature = "tools")]
pub(crate) use self::demo_access::{DemoAction, DemoReport, FlowBalance};
use self::links::{page_of_button, without_query};
pub(super) use self::live::LiveStreams;
pub(super) use self::sessions::ConsoleSessions;
use super::api::thread::ApiThread;

/// Maximum bytes of a form. A payload of the largest size is longer in a form.
const MAX_FORM_BYTES: usize = 4 * 1024 * 1024;

/// Maximum bytes of the form of the login, which everybody may send.
const MAX_LOGIN_BYTES: usize = 8 * 1024;

/// Pages load nothing from other sites, and run no script and no style inside a page.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Registers all routes.
pub(super) fn routes(
    config: &mut ServiceConfig,
    thread: &Data<ApiThread>,
    sessions: &Data<ConsoleSessions>,
    live: &Data<LiveStreams>,
    demo: Option<&Data<DemoAccess>>,
) {
    let headers = DefaultHeaders::new()
        .add(("Content-Security-Policy", CONTENT_POLICY))
        .add(("X-Content-Type-Options", "nosniff"))
        // Not `no-referrer`: forms would have no origin.
        .add(("Referrer-Policy", "same-origin"));
    let page = |path: &str| {
        let page = web::resource(path).app_data(thread.clone()).app_data(sessions.clone());
        let page = page.app_data(live.clone());
        let page = demo.into_iter().fold(page, |page, demo| page.app_data(demo.clone()));
        let page = page.app_data(PayloadConfig::new(MAX_FORM_BYTES));
        page.wrap(from_fn(page::with_navigation)).wrap(headers.clone())
    };
    let (show, act) = (web::get, web::post);
    config
        .service(page("/").route(show().to(overview::show)))
        .service(
            page("/login")
                .app_data(PayloadConfig::new(MAX_LOGIN_BYTES))
                .route(show().to(login::show))
                .route(act().to(login::log_in)),
        )
        .service(page("/enter").route(show().to(login::enter)))
        .service(page("/logout").route(page_of_button("/", "/")).route(act().to(login::log_out)))
        .service(page("/assets/{name}").route(show().to(assets::serve)))
        .service(page("/live").route(show().to(live::follow)))
        .service(page("/actors").route(show().to(actors::show)))
        .service(page("/flows").route(show().to(flows::list)))
        .service(page("/flow").route(show().to(flows::show)))
        .service(page("/flow/enable").route(page_of_button("/flow", "/flows")).route(act().to(flows::enable)))
        .service(
            page("/flow/disable").route(page_of_button("/flow", "/flows")).route(act().to(flows::disable)),
        )
        .service(
            page("/flow/rollback").route(page_of_button("/flow", "/flows")).route(act().to(flows::roll_back)),
        )
        .service(
            page("/flow/test")
                .route(without_query("/flows"))
                .route(show().to(flow_form::show_test))
                .route(act().to(flow_form::test)),
        )
        .service(
            page("/flow/edit")
                .route(without_query("/flows"))
                .route(show().to(flow_form::show_edit))
                .route(act().to(flow_form::edit)),
        )
        .service(page("/flow/new").route(show().to(flow_form::show_new)).route(act().to(flow_form::add)))
        .service(
            page("/flow/remove")
                .route(show().to(flow_removal::confirm))
                .route(act().to(flow_removal::remove)),
        )
        .service(page("/brokers").route(show().to(brokers::list)))
        .service(page("/broker").route(show().to(brokers::show)))
        .service(
            page("/broker/test").route(page_of_button("/broker", "/brokers")).route(act().to(brokers::test)),
        )
        .service(
            page("/broker/enable")
                .route(page_of_button("/broker", "/brokers"))
                .route(act().to(brokers::enable)),
        )
        .service(
            page("/broker/disable")
                .route(page_of_button("/broker", "/brokers"))
                .route(act().to(brokers::disable)),
        )
        .service(
            page("/broker/remove")
                .route(show().to(brokers::confirm_removal))
                .route(act().to(brokers::remove)),
        )
        .service(
            page("/broker/edit").route(show().to(broker_form::show_edit)).route(act().to(broker_form::edit)),
        )
        .service(
            page("/broker/new").route(show().to(broker_form::show_new)).route(act().to(broker_form::add)),
        )
        .service(page("/replicas").route(show().to(replicas::list)))
        .service(page("/history").route(show().to(history::list)))
        .service(page("/tokens").route(show().to(tokens::list)).route(act().to(tokens::add)))
        .service(
            page("/token/revoke")
                .route(show().to(tokens::confirm_revocation))
                .route(act().to(tokens::revoke)),
        )
        .service(page("/deliveries").route(show().to(deliveries::list)))
        .service(page("/deliveries/posts").route(show().to(deliveries::list_posts)))
        .service(
            page("/deliveries/retry")
                .route(page_of_button("/deliveries", "/deliveries"))
                .route(act().to(deliveries::retry)),
        )
        .service(
            page("/deliveries/cancel")
                .route(show().to(deliveries::confirm))
                .route(act().to(deliveries::cancel)),
        )
        .service(page("/drift").route(show().to(drift::list)))
        .service(page("/drift/accept").route(show().to(drift::confirm)).route(act().to(drift::accept)))
        .service(
            page("/drift/dismiss").route(page_of_button("/drift", "/drift")).route(act().to(drift::dismiss)),
        )
        .service(page("/dead-letters").route(show().to(letters::list)))
        .service(page("/dead-letter").route(show().to(letters::show)))
        .service(
            page("/dead-letter/test")
                .route(page_of_button("/dead-letter", "/dead-letters"))
                .route(act().to(letters::test)),
        )
        .service(
            page("/dead-letters/replay")
                .route(show().to(letters::confirm_replay))
                .route(act().to(letters::replay)),
        )
        .service(
            page("/dead-letters/discard")
                .route(show().to(letters::confirm_discard))
                .route(act().to(letters::discard)),
        );
    if demo.is_some() {
        config.service(page("/demo").route(show().to(demo::show))).service(
            page("/demo/{action}").route(page_of_button("/demo", "/demo")).route(act().to(demo::act)),
        );
    }
}
