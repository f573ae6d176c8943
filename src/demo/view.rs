//! The live view: prints a line for each message that arrives in the database or at the endpoint.

use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::companion::{Companion, StopSignal};
use super::endpoint::Post;
use super::lines::{self, Counts};
use crate::settings::DatabaseSettings;
use crate::store::demo::{LastRows, StoredAttribute, data_after, dead_letters_after};
use crate::store::{Database, StoreError};

/// Time between two queries. The database is polled, because it sends no notifications.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Rows of `data` per query. A message has fewer attributes, so that its rows, which are committed together, always fit
/// into one page.
const DATA_PAGE: u64 = 40_000;

/// Dead letters per query. The number is small because payloads can be large.
const DEAD_LETTER_PAGE: u64 = 100;

/// Reasons why the view ended before the demo.
#[derive(Debug, thiserror::Error)]
enum ViewError {
    /// Standard output is closed, for example by the reader of a pipe.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts the view. It prints the introduction, then all rows after `seen` and all posts, and at the end a summary.
pub(super) fn start(
    database: DatabaseSettings,
    seen: LastRows,
    posts: Receiver<Post>,
    introduction: String,
) -> io::Result<Companion> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Companion::start("demo-view", move |stop| {
        let shown =
            runtime.block_on(Database::connect(&database, 1)).map_err(ViewError::from).and_then(|database| {
                let counts = Counts::default();
                View { runtime, database, seen, posts, out: io::stdout(), counts }.show(&introduction, stop)
            });
        match shown {
            Ok(()) => {}
            Err(ViewError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => log::error!("Live view ended; the demo continues: {error}"),
        }
    })
}

struct View<W> {
    runtime: Runtime,
    database: Database,
    seen: LastRows,
    posts: Receiver<Post>,
    out: W,
    counts: Counts,
}

impl<W: Write> View<W> {
    fn show(mut self, introduction: &str, stop: &StopSignal) -> Result<(), ViewError> {
        self.out.write_all(introduction.as_bytes())?;
        let mut is_ending = false;
        while !is_ending {
            is_ending = stop.wait(POLL_INTERVAL);
            match self.show_new_rows() {
                Err(ViewError::Store(error)) => log::warn!("Live view cannot read the database: {error}"),
                outcome => outcome?,
            }
        }
        writeln!(self.out, "{}", self.counts)?;
        self.out.flush()?;
        Ok(())
    }

    fn show_new_rows(&mut self) -> Result<(), ViewError> {
        self.show_posts()?;
        while self.show_stored()? {}
        while self.show_dead_letters()? {}
        self.out.flush()?;
        Ok(())
    }

    fn show_posts(&mut self) -> Result<(), ViewError> {
        for post in self.posts.try_iter().take(super::MAX_PENDING_POSTS) {
            writeln!(self.out, "{}", lines::posted(&post))?;
            *self.counts.posted.entry(post.flow_code).or_default() += 1;
        }
        Ok(())
    }

    /// Shows a page of stored messages. Returns true if there may be more.
    fn show_stored(&mut self) -> Result<bool, ViewError> {
        let page = self.runtime.block_on(data_after(&self.database, self.seen.data, DATA_PAGE))?;
        let is_full = page.len() as u64 == DATA_PAGE;
        let same_message = |a: &StoredAttribute, b: &StoredAttribute| {
            a.message_id == b.message_id && a.flow_code == b.flow_code
        };
        let mut messages: Vec<&[StoredAttribute]> = page.chunk_by(same_message).collect();
        if is_full && messages.len() > 1 {
            // The rows of the last message may continue on the next page.
            messages.pop();
        }
        for message in messages {
            writeln!(self.out, "{}", lines::stored(message))?;
            if let Some(last) = message.last() {
                self.seen.data = last.id;
                *self.counts.stored.entry(last.flow_code.clone()).or_default() += 1;
            }
        }
        Ok(is_full)
    }

    /// Shows a page of dead letters. Returns true if there may be more.
    fn show_dead_letters(&mut self) -> Result<bool, ViewError> {
        let letters = dead_letters_after(&self.database, self.seen.dead_letters, DEAD_LETTER_PAGE);
        let page = self.runtime.block_on(letters)?;
        for letter in &page {
            writeln!(self.out, "{}", lines::dead_letter(letter))?;
            self.seen.dead_letters = letter.id;
            self.counts.dead_letters += 1;
        }
        Ok(page.len() as u64 == DEAD_LETTER_PAGE)
    }
}
