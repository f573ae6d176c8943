//! Asks before something is done that cannot be taken back by a click.

use askama::Template;

use super::fields::link;
use super::page::{Page, PageFrame};
use crate::http::api::problem::ApiProblem;

/// A question with its consequences, and the form that answers it.
#[derive(Template)]
#[template(path = "question.html", config = "src/http/console/askama.toml")]
pub(super) struct Question {
    pub(super) frame: PageFrame,
    /// Name of the part of the console.
    pub(super) part_name: &'static str,
    pub(super) text: String,
    /// What will happen.
    pub(super) consequence: String,
    pub(super) target: &'static str,
    pub(super) hidden: Vec<(&'static str, String)>,
    pub(super) button: String,
    pub(super) back: String,
    pub(super) command: String,
}

impl Question {
    /// The path of the form, which asks the same again if it is loaded again.
    fn action(&self) -> String {
        let given = self.hidden.iter().filter(|(_, value)| !value.is_empty());
        link(self.target, given.map(|(name, value)| (*name, value.as_str())))
    }

    /// The page of the question.
    pub(super) fn page(&self) -> Result<Page, ApiProblem> {
        Page::new(self)
    }
}
