//! A part of a page that a browser replaces when it has changed.

use askama::Template;

use super::page::render;
use crate::http::api::problem::ApiProblem;

/// A part of a page that is made apart from it.
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
