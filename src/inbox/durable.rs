//! Private files and directories, and small files that are replaced atomically.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::Deserialize;

use super::error::InboxError;
use crate::files;

/// Creates the directory and its parents with mode 0700, because payloads may be private.
pub(super) fn create_private_dir(dir: &Path) -> Result<(), InboxError> {
    files::create_private_dir(dir).map_err(InboxError::io("create the directory", dir))
}

/// Creates an empty file with mode 0600; truncates an existing one.
pub(super) fn create_private_file(path: &Path) -> io::Result<File> {
    files::open_private(path, File::options().read(true).write(true).create(true).truncate(true))
}

/// Syncs a directory, so that created, renamed and deleted names are durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), InboxError> {
    File::open(dir).and_then(|opened| opened.sync_all()).map_err(InboxError::io("sync the directory", dir))
}

/// The member of each small file that tells how to read the others.
#[derive(Deserialize)]
pub(super) struct FileFormat {
    pub(super) format: u32,
}

/// The result of reading a small file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SmallFile {
    Missing,
    Corrupt,
    Intact(String),
}

/// Replaces a small file atomically: after a crash either the old or the new content is there. The first line
/// is a checksum of the rest.
pub(super) fn replace_small_file(dir: &Path, name: &str, body: &str) -> Result<(), InboxError> {
    let path = dir.join(name);
    fail::fail_point!("inbox-replace-file", |_| Err(InboxError::io("replace", &path)(
        io::ErrorKind::StorageFull.into()
    )));
    let staged = dir.join(format!("{name}.new"));
    write_checked(&staged, body)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&staged, &path))
        .map_err(InboxError::io("replace", &path))?;
    sync_dir(dir)
}

/// Replaces a small file without syncing it. The content survives `kill -9`, but a power loss may damage the
/// file. Use this only for content that startup can do without.
pub(super) fn replace_small_file_unsynced(dir: &Path, name: &str, body: &str) -> Result<(), InboxError> {
    let path = dir.join(name);
    let staged = dir.join(format!("{name}.new"));
    write_checked(&staged, body)
        .and_then(|_| fs::rename(&staged, &path))
        .map_err(InboxError::io("replace", &path))
}

fn write_checked(path: &Path, body: &str) -> io::Result<File> {
    let mut file = create_private_file(path)?;
    file.write_all(format!("{:08x}\n{body}", crc32fast::hash(body.as_bytes())).as_bytes())?;
    Ok(file)
}

/// Reads a file written by [`replace_small_file`].
pub(super) fn read_small_file(dir: &Path, name: &str) -> Result<SmallFile, InboxError> {
    let path = dir.join(name);
    let bytes = match files::read_private(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SmallFile::Missing),
        Err(error) => return Err(InboxError::io("read", &path)(error)),
    };
    Ok(checked_body(bytes).map_or(SmallFile::Corrupt, SmallFile::Intact))
}

fn checked_body(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let (checksum, body) = text.split_once('\n')?;
    let expected = u32::from_str_radix(checksum, 16).ok()?;
    (expected == crc32fast::hash(body.as_bytes())).then(|| body.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_small_file(dir.path(), "meta").unwrap(), SmallFile::Missing);
        replace_small_file(dir.path(), "meta", "one\ntwo").unwrap();
        replace_small_file(dir.path(), "meta", "three\n").unwrap();
        assert_eq!(read_small_file(dir.path(), "meta").unwrap(), SmallFile::Intact("three\n".into()));
    }

    #[test]
    fn any_flipped_bit_is_detected() {
        let dir = tempfile::tempdir().unwrap();
        replace_small_file(dir.path(), "meta", "{\"lanes\":2}").unwrap();
        let good = fs::read(dir.path().join("meta")).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x04;
            fs::write(dir.path().join("meta"), bad).unwrap();
            assert_eq!(read_small_file(dir.path(), "meta").unwrap(), SmallFile::Corrupt, "byte {index}");
        }
    }
}
