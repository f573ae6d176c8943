//! Links to pages that several parts name.

use actix_web::Route;
use actix_web::guard::fn_guard;
use actix_web::web;

use super::fields::{link, link_with};
use super::page::SeeOther;
use super::visitor::Visitor;

/// The page of a flow.
pub(super) fn flow_link(code: &str) -> String {
    link("/flow", [("code", code)])
}

/// Leads from the path of a button, which only forms ask for, to the page that has it: that of the flow, broker or dead
/// letter of the query, or that of all.
pub(super) fn page_of_button(one: &'static str, all: &'static str) -> Route {
    web::get().to(move |visitor: Visitor| {
        let query = visitor.query.only(&["code", "id"]);
        std::future::ready(SeeOther(if query.is_empty() { all.to_owned() } else { link_with(one, &query) }))
    })
}

/// Leads to the list if a page is asked for without saying of what.
pub(super) fn without_query(all: &'static str) -> Route {
    page_of_button(all, all).guard(fn_guard(|context| context.head().uri.query().is_none()))
}

/// The page of a broker.
pub(super) fn broker_link(id: &str) -> String {
    link("/broker", [("id", id)])
}
