//! The real gateway at database servers whose identity is verified, or not, and at false ones.

mod false_server;
mod imposters;
mod servers;

use test_support::world::{World, command, text_of};

/// Output of `check` with these additional settings.
fn check(world: &World, settings: &[(&str, &str)]) -> String {
    let mut all = world.settings.clone();
    all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    text_of(&command(&["check"], &all, world.directory()))
}

/// The line of `text` that begins so.
fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}: {text}"))
}
