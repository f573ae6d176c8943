//! Input: messages that the database rejects, floods of unreadable messages, odd topics.

mod floods;
mod hostile;
mod poison;
