//! Safe access to files and directories.
//!
//! Files named by settings or tables must be regular and of bounded size. Files created by this program are
//! private and never opened through symbolic links, which another user of the directory could plant.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Reads a regular file of at most `max_bytes`.
///
/// Other file types are rejected before they are opened: a FIFO without a writer would block the thread for
/// ever, and opening a device may have side effects.
pub(crate) fn read_regular(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_regular(&fs::metadata(path)?)?;
    // The file may have been replaced since the check.
    let file = OpenOptions::new().read(true).custom_flags(flags(OFlags::NONBLOCK)).open(path)?;
    check_regular(&file.metadata()?)?;
    let mut content = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > max_bytes {
        let problem = format!("it is larger than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(content)
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is not a regular file but a FIFO, a device or a socket",
    ))
}

/// Opens a file in a directory of this program; a new file gets mode 0600.
pub(crate) fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.mode(0o600).custom_flags(flags(OFlags::NOFOLLOW.union(OFlags::NONBLOCK)));
    let file = options.open(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a symbolic link, which is not followed here; remove it",
        ),
        _ => error,
    })?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a private file; see [`open_private`].
pub(crate) fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_private(path, File::options().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Creates a directory and its parents with mode 0700. Existing ones keep their mode.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Sets the umask so that all new files are private, including those created by `SQLite`.
pub(crate) fn make_new_files_private() {
    rustix::process::umask(Mode::RWXG.union(Mode::RWXO));
}

/// Returns whether any of these permission bits is set. Returns false if the file cannot be read.
pub(crate) fn allows(path: &Path, bits: u32) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bits != 0)
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn a_fifo_is_rejected_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let error = read_regular(path, 10).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn symbolic_links_are_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        fs::write(&target, "kept").unwrap();
        symlink(&target, &link).unwrap();
        let replacing = open_private(&link, File::options().write(true).create(true).truncate(true));
        for outcome in [replacing.map(|_| ()), read_private(&link).map(|_| ())] {
            assert!(outcome.unwrap_err().to_string().contains("a symbolic link, which is not followed"));
        }
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        fs::remove_file(&target).unwrap();
        assert!(open_private(&link, File::options().append(true).create(true)).is_err());
        assert!(!target.exists());
    }

    #[test]
    fn created_files_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let (dir, file) = (directory.path().join("a/b"), directory.path().join("a/b/file"));
        create_private_dir(&dir).unwrap();
        open_private(&file, File::options().append(true).create(true)).unwrap();
        for path in [&dir, &dir.join(".."), &file] {
            assert!(!allows(path, 0o077), "{}", path.display());
        }
        assert!(allows(&file, 0o200));
    }

    #[test]
    fn regular_files_are_read_up_to_a_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(read_regular(file.path(), 10).unwrap(), b"0123456789");
        assert!(read_regular(file.path(), 9).unwrap_err().to_string().contains("larger than 9 bytes"));
        assert!(read_regular(Path::new("/"), 9).unwrap_err().to_string().contains("a directory"));
    }
}
