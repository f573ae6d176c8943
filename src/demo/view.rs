//! The live view: prints a line for each message that is stored, posted or rejected.

use std::io::{self, Write};
use std::time::Duration;

use super::companion::{Companion, StopSignal};
use super::lines::Counts;
use crate::control::{event_line, missed_line};
use crate::domain::message_event::{MessageEvent, MessageOutcome};
use crate::domain::value_style::ValueStyle;
use crate::observe::{Heard, Listener};

/// Interval at which new events are shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the view. It prints the introduction, then all events, and at the end a summary.
pub(super) fn start(events: Listener, style: ValueStyle, introduction: String) -> io::Result<Companion> {
    Companion::start("demo-view", move |stop| {
        let view = View { events, style, out: io::stdout(), counts: Counts::default() };
        match view.show(&introduction, stop) {
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
    counts: Counts,
}

impl<W: Write> View<W> {
    fn show(mut self, introduction: &str, stop: &StopSignal) -> io::Result<()> {
        self.out.write_all(introduction.as_bytes())?;
        let mut is_ending = false;
        while !is_ending {
            is_ending = stop.wait(SHOW_INTERVAL);
            while let Some(heard) = self.events.try_next() {
                self.show_heard(&heard)?;
            }
            self.out.flush()?;
        }
        writeln!(self.out, "{}", self.counts)?;
        self.out.flush()
    }

    fn show_heard(&mut self, heard: &Heard) -> io::Result<()> {
        match heard {
            Heard::Event(event) => {
                self.counts.add(event);
                writeln!(self.out, "{}", event_line(event, self.style))
            }
            Heard::Missed(missed) => {
                self.counts.missed += missed;
                writeln!(self.out, "{}", missed_line(*missed))
            }
        }
    }
}

impl Counts {
    fn add(&mut self, event: &MessageEvent) {
        let by_flow = match event.outcome {
            MessageOutcome::Stored => &mut self.stored,
            MessageOutcome::Posted => &mut self.posted,
            MessageOutcome::Dead => {
                self.dead_letters += 1;
                return;
            }
            // Its first message is counted.
            MessageOutcome::Repeated => return,
        };
        *by_flow.entry(event.flow.clone().unwrap_or_default()).or_default() += 1;
    }
}
