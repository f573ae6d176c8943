//! The live view: prints a line for each message that is stored, posted or rejected.

use std::io::{self, Write};
use std::time::Duration;

use super::companion::{Companion, StopSignal};
use crate::control::{event_line, missed_line};
use crate::domain::value_style::ValueStyle;
use crate::observe::{Heard, Listener};

/// Interval at which new events are shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the view.
pub(super) fn start(events: Listener, style: ValueStyle) -> io::Result<Companion> {
    Companion::start("demo-view", move |stop| {
        let view = View { events, style, out: io::stdout() };
        match view.show(stop) {
            // The reader of a pipe has left.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => log::error!("Live view ended; the demo continues: standard output: {error}"),
            Ok(()) => {}
        }
    })
}

struct View<W> {
    events: Listener,
    style: ValueStyle,
    out: W,
}

impl<W: Write> View<W> {
    fn show(mut self, stop: &StopSignal) -> io::Result<()> {
        let mut is_ending = false;
        while !is_ending {
            is_ending = stop.wait(SHOW_INTERVAL);
            while let Some(heard) = self.events.try_next() {
                self.show_heard(&heard)?;
            }
            self.out.flush()?;
        }
        Ok(())
    }

    fn show_heard(&mut self, heard: &Heard) -> io::Result<()> {
        match heard {
            Heard::Event(event) => writeln!(self.out, "{}", event_line(event, self.style)),
            Heard::Missed(missed) => writeln!(self.out, "{}", missed_line(*missed)),
        }
    }
}
