//! The progress of a long command, shown only on a terminal.

use indicatif::ProgressStyle;

/// Layout of the bar.
const TEMPLATE: &str = "{msg} {bar:30} {human_pos} of {human_len}, {elapsed}";

/// Shows progress on standard error until it is dropped.
pub(super) struct CommandProgress(indicatif::ProgressBar);

impl CommandProgress {
    /// Creates a bar for `total` rows. It is hidden unless standard error is a terminal.
    pub(super) fn new(label: &'static str, total: u64) -> Self {
        let bar = indicatif::ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_message(label);
        Self(bar)
    }

    /// Counts finished rows.
    pub(super) fn add(&self, rows: u64) {
        self.0.inc(rows);
    }
}

impl Drop for CommandProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
