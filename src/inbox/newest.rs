//! Finds the newest record of a topic in an inbox that a gateway may be using. It takes no lock.

use std::io;
use std::path::Path;

use super::content::{candidates, known_meta, segments_of};
use super::cursor::CursorStep;
use super::error::InboxError;
use super::record;
use super::survey::open_segment;
use crate::domain::message::{Body, Offset, Record};

/// Most bytes that are read: the newest segments of a usual size.
const MAX_BYTES: u64 = 64 << 20;

/// The newest whole message whose topic is wanted, among the newest records.
pub fn newest_record(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<Record>, InboxError> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let candidates = candidates(dir)?;
    let (Some(meta), _) = known_meta(dir, &candidates)? else { return Ok(None) };
    let mut limit = Offset::MAX;
    let mut read = 0;
    for (base, path) in segments_of(candidates, &meta.id).iter().rev() {
        let opened = match open_segment(&meta.id, *base, path, limit) {
            // The segment was released after the listing, and all older ones with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            opened => opened.map_err(InboxError::io("read", path))?,
        };
        let (mut cursor, bytes) = opened;
        read += bytes;
        if read > MAX_BYTES.max(bytes) {
            break;
        }
        let mut newest = None;
        loop {
            match cursor.step(bytes, limit).map_err(InboxError::io("read", path))? {
                CursorStep::Record(_, found) => {
                    let is_wanted =
                        |found: &Record| matches!(found.body, Body::Whole(_)) && wanted(&found.topic);
                    newest = record::decode(found).filter(is_wanted).or(newest);
                }
                CursorStep::Damage(_) => {}
                CursorStep::End => break,
            }
        }
        if newest.is_some() {
            return Ok(newest);
        }
        limit = *base;
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::message::{DeliveryFacts, Publication};
    use crate::inbox::{FsyncPolicy, Inbox, InboxOptions, KeepPolicy};

    #[test]
    fn newest_message_of_a_topic_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let find = |topic: &str| newest_record(dir.path(), |found| found == topic).unwrap();
        assert_eq!(find("a"), None);
        let options = InboxOptions {
            keep: KeepPolicy::NONE,
            dir: dir.path().to_path_buf(),
            max_bytes: 4 << 20,
            segment_bytes: 4_000,
            fsync: FsyncPolicy::Never,
            lanes: 1,
            max_payload_bytes: 1_000,
        };
        let inbox = Inbox::open(options).unwrap().0;
        let delivery = DeliveryFacts::default();
        for number in 0..200 {
            let topic = if number < 20 { "a" } else { "b" };
            let payload = format!("{{\"n\": {number}}}");
            let publication =
                Publication { topic, payload: payload.as_bytes(), delivery: &delivery, unfit: None };
            inbox.append(&publication, 7).unwrap();
        }
        let payload = |topic: &str| match find(topic).unwrap().body {
            Body::Whole(payload) => String::from_utf8(payload).unwrap(),
            Body::Head { .. } => String::new(),
        };
        assert_eq!(payload("a"), "{\"n\": 19}", "in an older segment");
        assert_eq!(payload("b"), "{\"n\": 199}");
        assert_eq!(find("c"), None);
    }
}
