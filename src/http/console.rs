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
mod error_navigation;
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
use actix_web::{Resource, Route};

pub(crate) use self::demo_access::DemoAccess;
#[cfg(feature = "tools")]
pub(crate) use self::demo_access::{DemoAction, DemoReport, FlowBalance};
use self::error_navigation::with_navigation;
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
    let page = |path: &str, routes: Vec<Route>| {
        let page = web::resource(path).app_data(thread.clone()).app_data(sessions.clone());
        let page = page.app_data(live.clone()).app_data(PayloadConfig::new(MAX_FORM_BYTES));
        let page = demo.into_iter().fold(page, |page, demo| page.app_data(demo.clone()));
        let page = routes.into_iter().fold(page, Resource::route);
        page.wrap(from_fn(with_navigation)).wrap(headers.clone())
    };
    let of_flow = || page_of_button("/flow", "/flows");
    let of_broker = || page_of_button("/broker", "/brokers");
    let (show, act) = (web::get, web::post);
    config
        .service(page("/", vec![show().to(overview::show)]))
        .service(
            page("/login", vec![show().to(login::show), act().to(login::log_in)])
                .app_data(PayloadConfig::new(MAX_LOGIN_BYTES)),
        )
        .service(page("/enter", vec![show().to(login::enter)]))
        .service(page("/logout", vec![page_of_button("/", "/"), act().to(login::log_out)]))
        .service(page("/assets/{name}", vec![show().to(assets::serve)]))
        .service(page("/live", vec![show().to(live::follow)]))
        .service(page("/actors", vec![show().to(actors::show)]))
        .service(page("/flows", vec![show().to(flows::list)]))
        .service(page("/flow", vec![show().to(flows::show)]))
        .service(page("/flow/enable", vec![of_flow(), act().to(flows::enable)]))
        .service(page("/flow/disable", vec![of_flow(), act().to(flows::disable)]))
        .service(page("/flow/rollback", vec![of_flow(), act().to(flows::roll_back)]))
        .service(page(
            "/flow/test",
            vec![without_query("/flows"), show().to(flow_form::show_test), act().to(flow_form::test)],
        ))
        .service(page(
            "/flow/edit",
            vec![without_query("/flows"), show().to(flow_form::show_edit), act().to(flow_form::edit)],
        ))
        .service(page("/flow/new", vec![show().to(flow_form::show_new), act().to(flow_form::add)]))
        .service(page("/flow/remove", vec![show().to(flow_removal::confirm), act().to(flow_removal::remove)]))
        .service(page("/brokers", vec![show().to(brokers::list)]))
        .service(page("/broker", vec![show().to(brokers::show)]))
        .service(page("/broker/test", vec![of_broker(), act().to(brokers::test)]))
        .service(page("/broker/enable", vec![of_broker(), act().to(brokers::enable)]))
        .service(page("/broker/disable", vec![of_broker(), act().to(brokers::disable)]))
        .service(page("/broker/remove", vec![show().to(brokers::confirm_removal), act().to(brokers::remove)]))
        .service(page("/broker/edit", vec![show().to(broker_form::show_edit), act().to(broker_form::edit)]))
        .service(page("/broker/new", vec![show().to(broker_form::show_new), act().to(broker_form::add)]))
        .service(page("/replicas", vec![show().to(replicas::list)]))
        .service(page("/history", vec![show().to(history::list)]))
        .service(page("/tokens", vec![show().to(tokens::list), act().to(tokens::add)]))
        .service(page("/token/revoke", vec![show().to(tokens::confirm_revocation), act().to(tokens::revoke)]))
        .service(page("/deliveries", vec![show().to(deliveries::list)]))
        .service(page("/deliveries/posts", vec![show().to(deliveries::list_posts)]))
        .service(page(
            "/deliveries/retry",
            vec![page_of_button("/deliveries", "/deliveries"), act().to(deliveries::retry)],
        ))
        .service(page(
            "/deliveries/cancel",
            vec![show().to(deliveries::confirm), act().to(deliveries::cancel)],
        ))
        .service(page("/drift", vec![show().to(drift::list)]))
        .service(page("/drift/accept", vec![show().to(drift::confirm), act().to(drift::accept)]))
        .service(page("/drift/dismiss", vec![page_of_button("/drift", "/drift"), act().to(drift::dismiss)]))
        .service(page("/dead-letters", vec![show().to(letters::list)]))
        .service(page("/dead-letter", vec![show().to(letters::show)]))
        .service(page(
            "/dead-letter/test",
            vec![page_of_button("/dead-letter", "/dead-letters"), act().to(letters::test)],
        ))
        .service(page(
            "/dead-letters/replay",
            vec![show().to(letters::confirm_replay), act().to(letters::replay)],
        ))
        .service(page(
            "/dead-letters/discard",
            vec![show().to(letters::confirm_discard), act().to(letters::discard)],
        ));
    if demo.is_some() {
        let button = page_of_button("/demo", "/demo");
        config.service(page("/demo", vec![show().to(demo::show)]));
        config.service(page("/demo/{action}", vec![button, act().to(demo::act)]));
    }
}
