//! The progress bar, which is shown only on a terminal.

use std::time::Duration;

use indicatif::ProgressStyle;

/// Layout of a bar.
const TEMPLATE: &str = "{msg:<24} {bar:30} {human_pos} of {human_len} messages, {elapsed}";

/// Shows the progress of a measurement until it is dropped.
pub(super) struct ProgressBar(indicatif::ProgressBar);

impl ProgressBar {
    /// Creates a bar for this number of messages. It is hidden unless standard error is a terminal.
    pub(super) fn new(label: &'static str, messages: u64) -> Self {
        let bar = indicatif::ProgressBar::new(messages);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(label);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Creates a spinner for a step whose progress is unknown.
    pub(super) fn waiting(label: &'static str) -> Self {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.set_message(label);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// Sets the number of completed messages.
    pub(super) fn set_position(&self, messages: u64) {
        self.0.set_position(messages);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
