//! The parts of pages that are kept up to date while a page is open.

use askama::Template;

use super::page::render;
use crate::http::api::problem::ApiProblem;

/// A part of a page. It has nothing of the session, since all visitors of the page share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LivePart {
    pub(super) name: &'static str,
    pub(super) html: String,
}

impl LivePart {
    pub(super) fn new(name: &'static str, template: &impl Template) -> Result<Self, ApiProblem> {
        Ok(Self { name, html: render(template)? })
    }
}
