//! A directory for unreadable bytes, kept for an operator and never read by the gateway.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::durable;
use super::error::InboxError;
use crate::files;

const QUARANTINE_DIR: &str = "quarantine";

/// Copies a range of a file, unless an earlier start did. The copy is named after its origin. Returns the copy
/// and whether it is new.
pub(super) fn copy_range(dir: &Path, file: &Path, range: &Range<u64>) -> Result<(PathBuf, bool), InboxError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let copy = open_quarantine(dir)?.join(format!("{name}.{}-{}", range.start, range.end));
    if copy.exists() {
        return Ok((copy, false));
    }
    let staged = copy.with_file_name("copy.new");
    write_range(file, range, &staged)
        .and_then(|()| fs::rename(&staged, &copy))
        .map_err(InboxError::io("write", &copy))?;
    durable::sync_dir(&dir.join(QUARANTINE_DIR))?;
    Ok((copy, true))
}

fn write_range(file: &Path, range: &Range<u64>, to: &Path) -> io::Result<()> {
    let mut source = files::open_private(file, File::options().read(true))?;
    source.seek(SeekFrom::Start(range.start))?;
    let mut copy = durable::create_private_file(to)?;
    io::copy(&mut source.take(range.end - range.start), &mut copy)?;
    copy.sync_all()
}

/// Moves a whole file into quarantine under a new name and returns its path.
pub(super) fn move_file(dir: &Path, file: &Path) -> Result<PathBuf, InboxError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let quarantine = open_quarantine(dir)?;
    let free =
        (0..u32::MAX).map(|number| quarantine.join(format!("{name}.whole.{number}"))).find(|to| !to.exists());
    let to = free.unwrap_or_else(|| quarantine.join(name.as_ref()));
    fs::rename(file, &to).map_err(InboxError::io("quarantine", file))?;
    durable::sync_dir(&quarantine)?;
    Ok(to)
}

fn open_quarantine(dir: &Path) -> Result<PathBuf, InboxError> {
    let quarantine = dir.join(QUARANTINE_DIR);
    durable::create_private_dir(&quarantine)?;
    Ok(quarantine)
}
