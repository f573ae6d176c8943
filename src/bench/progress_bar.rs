//! The progress bar: on a terminal only.

use std::time::Duration;

use indicatif::ProgressStyle;

/// How a bar looks.
const TEMPLATE: &str = "{msg:<24} {bar:30} {human_pos} of {human_len} messages, {elapsed}";

/// Shows how far something is.
pub(super) struct ProgressBar(indicatif::ProgressBar);

impl ProgressBar {
    /// A bar for so many messages; hidden unless standard error is a terminal.
    pub(super) fn of(what: &'static str, messages: u64) -> Self {
        let bar = indicatif::ProgressBar::new(messages);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// For what takes a while and does not tell how far it is.
    pub(super) fn waiting(what: &'static str) -> Self {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// So many are through.
    pub(super) fn reached(&self, messages: u64) {
        self.0.set_position(messages);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
