//! What comes in: messages that the database refuses, floods of what nobody can read, odd topics.

mod floods;
mod hostile;
mod poison;
