//! The live view: what has arrived in the database and at the endpoint, a line for each message.

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

/// Time between two looks: the database does not tell by itself.
const LOOK: Duration = Duration::from_millis(250);

/// Rows of `data` in one look. More than a message can have attributes, so that the rows of a
/// message, which are written together, are never torn apart for good.
const DATA_PAGE: u64 = 40_000;

/// Dead letters in one look; their payloads can be large.
const DEAD_LETTER_PAGE: u64 = 100;

/// Why the view ended before the demo.
#[derive(Debug, thiserror::Error)]
enum ViewError {
    /// Standard output takes nothing any more: the reader of a pipe has gone.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Starts the view: first the introduction, then what arrives after the rows that were `seen`, and
/// at the end a summary.
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
            Err(error) => log::error!("The live view has ended, the demo goes on: {error}"),
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
            is_ending = stop.wait(LOOK);
            match self.show_news() {
                Err(ViewError::Store(error)) => log::warn!("The live view cannot look: {error}"),
                outcome => outcome?,
            }
        }
        writeln!(self.out, "{}", self.counts)?;
        self.out.flush()?;
        Ok(())
    }

    fn show_news(&mut self) -> Result<(), ViewError> {
        self.show_posts()?;
        while self.show_stored()? {}
        while self.show_dead_letters()? {}
        self.out.flush()?;
        Ok(())
    }

    fn show_posts(&mut self) -> Result<(), ViewError> {
        for post in self.posts.try_iter().take(super::POSTS_NOT_YET_SHOWN) {
            writeln!(self.out, "{}", lines::posted(&post))?;
            *self.counts.posted.entry(post.flow_code).or_default() += 1;
        }
        Ok(())
    }

    /// Shows a page; says whether there may be more.
    fn show_stored(&mut self) -> Result<bool, ViewError> {
        let page = self.runtime.block_on(data_after(&self.database, self.seen.data, DATA_PAGE))?;
        let is_full = page.len() as u64 == DATA_PAGE;
        let same_message = |a: &StoredAttribute, b: &StoredAttribute| {
            a.message_id == b.message_id && a.flow_code == b.flow_code
        };
        let mut messages: Vec<&[StoredAttribute]> = page.chunk_by(same_message).collect();
        if is_full && messages.len() > 1 {
            // The last one may go on behind the page.
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

    /// Shows a page; says whether there may be more.
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
