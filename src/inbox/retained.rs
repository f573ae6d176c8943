//! Hashes of each topic's last retained message, which identify repeated copies. A forgotten hash only means
//! that one more copy is stored.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::InboxError;
use crate::files;

/// Maximum number of topics in one generation.
const TOPICS_PER_GENERATION: usize = 50_000;

const YOUNG_FILE: &str = "retained.young";
const OLD_FILE: &str = "retained.old";

/// topic hash 16 │ payload hash 16 │ crc32 4
const LINE_BYTES: usize = 36;

type Hash = [u8; 16];

/// Hashes of the last retained payload of the latest 50,000 to 100,000 topics. New hashes are appended to the
/// young file; when it is full, it replaces the old file.
#[derive(Debug)]
pub struct RetainedMemory {
    dir: PathBuf,
    capacity: usize,
    young: HashMap<Hash, Hash>,
    old: HashMap<Hash, Hash>,
    file: File,
    lines: usize,
}

impl RetainedMemory {
    /// Opens the files in the inbox directory, which must exist.
    pub fn open(dir: &Path) -> Result<RetainedMemory, InboxError> {
        RetainedMemory::open_with(dir, TOPICS_PER_GENERATION)
    }

    fn open_with(dir: &Path, capacity: usize) -> Result<RetainedMemory, InboxError> {
        let (old, _) = read_lines(&dir.join(OLD_FILE))?;
        let path = dir.join(YOUNG_FILE);
        let (young, lines) = read_lines(&path)?;
        let file = open_for_append(&path)?;
        // A torn last line would misalign all following lines.
        file.set_len((lines * LINE_BYTES) as u64).map_err(InboxError::io("cut", &path))?;
        Ok(RetainedMemory { dir: dir.to_path_buf(), capacity, young, old, file, lines })
    }

    /// Returns whether this payload equals the last one remembered for the topic.
    #[must_use]
    pub fn is_repeat(&self, topic: &str, payload: &[u8]) -> bool {
        let topic = hash(topic.as_bytes());
        let last = self.young.get(&topic).or_else(|| self.old.get(&topic));
        last.is_some_and(|last| *last == hash(payload))
    }

    /// Remembers the payload as the topic's last. Must be called after the message is in the inbox: otherwise a
    /// crash in between would drop the message as a repetition.
    pub fn remember(&mut self, topic: &str, payload: &[u8]) -> Result<(), InboxError> {
        if self.lines >= self.capacity {
            self.begin_generation()?;
        }
        let (topic, payload) = (hash(topic.as_bytes()), hash(payload));
        self.file
            .write_all(&encode(&topic, &payload))
            .map_err(InboxError::io("append to", &self.dir.join(YOUNG_FILE)))?;
        self.lines += 1;
        self.young.insert(topic, payload);
        Ok(())
    }

    fn begin_generation(&mut self) -> Result<(), InboxError> {
        let path = self.dir.join(YOUNG_FILE);
        fs::rename(&path, self.dir.join(OLD_FILE)).map_err(InboxError::io("rename", &path))?;
        self.file = open_for_append(&path)?;
        self.old = std::mem::take(&mut self.young);
        self.lines = 0;
        Ok(())
    }
}

fn open_for_append(path: &Path) -> Result<File, InboxError> {
    let opened = files::open_private(path, File::options().append(true).create(true));
    opened.map_err(InboxError::io("open", path))
}

fn encode(topic: &Hash, payload: &Hash) -> [u8; LINE_BYTES] {
    let mut line = [0; LINE_BYTES];
    line[..16].copy_from_slice(topic);
    line[16..32].copy_from_slice(payload);
    let checksum = crc32fast::hash(&line[..32]);
    line[32..].copy_from_slice(&checksum.to_le_bytes());
    line
}

fn decode(line: &[u8; LINE_BYTES]) -> Option<(Hash, Hash)> {
    let (topic, payload) = (line[..16].try_into().ok()?, line[16..32].try_into().ok()?);
    (encode(&topic, &payload) == *line).then_some((topic, payload))
}

/// Reads the lines of a file up to the first damaged one, and counts them.
fn read_lines(path: &Path) -> Result<(HashMap<Hash, Hash>, usize), InboxError> {
    let bytes = match files::read_private(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(InboxError::io("read", path))?,
    };
    let (lines, _) = bytes.as_chunks::<LINE_BYTES>();
    let mut count = 0;
    let intact = lines.iter().map_while(decode).inspect(|_| count += 1).collect();
    Ok((intact, count))
}

fn hash(bytes: &[u8]) -> Hash {
    let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] = Sha256::digest(bytes).into();
    head
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_payload_is_a_repeat() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = RetainedMemory::open(dir.path()).unwrap();
        memory.remember("a", b"1").unwrap();
        memory.remember("a", b"2").unwrap();
        assert!(memory.is_repeat("a", b"2"));
        assert!(!memory.is_repeat("a", b"1"));
        assert!(!memory.is_repeat("b", b"2"));
    }

    #[test]
    fn hashes_survive_restart_and_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(YOUNG_FILE);
        RetainedMemory::open(dir.path()).unwrap().remember("a", b"1").unwrap();
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_slice(&[1, 2, 3]);
        fs::write(&path, torn).unwrap();
        RetainedMemory::open(dir.path()).unwrap().remember("b", b"2").unwrap();
        let memory = RetainedMemory::open(dir.path()).unwrap();
        assert!(memory.is_repeat("a", b"1"));
        assert!(memory.is_repeat("b", b"2"));
    }

    #[test]
    fn oldest_topics_are_forgotten_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = RetainedMemory::open_with(dir.path(), 10).unwrap();
        for topic in 0..25 {
            memory.remember(&topic.to_string(), b"x").unwrap();
        }
        for memory in [memory, RetainedMemory::open_with(dir.path(), 10).unwrap()] {
            let known: Vec<_> = (0..25).filter(|topic| memory.is_repeat(&topic.to_string(), b"x")).collect();
            assert_eq!(known, (10..25).collect::<Vec<_>>());
        }
    }
}
