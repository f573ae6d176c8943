//! Files as this program opens them.
//!
//! Files that settings or tables name are regular ones of bounded size. Files that it makes are for its own user alone,
//! and are not reached by symbolic links: in a directory where others may write, these lead anywhere.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// The content of a regular file of at most `max_bytes`.
///
/// Whatever else the path may lead to is refused before it is opened: a FIFO without a writer would block the
/// thread for ever, and to open a device may have consequences.
pub(crate) fn read_regular(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_regular(&fs::metadata(path)?)?;
    // It may have been replaced meanwhile.
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

/// Opens a file in one of our directories; when it is created, for our user alone.
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

/// Reads such a file.
pub(crate) fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open_private(path, File::options().read(true))?.read_to_end(&mut content)?;
    Ok(content)
}

/// Creates a directory and its parents for our user alone. Those that are there stay as they are.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// From now on whatever this process creates is for its own user alone, files of `SQLite` among them.
pub(crate) fn create_for_ourselves_alone() {
    rustix::process::umask(Mode::RWXG.union(Mode::RWXO));
}

/// Whether one of these permission bits of a file or directory is set. Unknown counts as no.
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
    fn a_fifo_is_refused_without_being_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero")] {
            let error = read_regular(path, 10).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_symbolic_link_is_neither_followed_nor_truncated() {
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
    fn what_is_created_is_for_our_user_alone() {
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
    fn a_regular_file_is_read_up_to_its_bound() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(read_regular(file.path(), 10).unwrap(), b"0123456789");
        assert!(read_regular(file.path(), 9).unwrap_err().to_string().contains("larger than 9 bytes"));
        assert!(read_regular(Path::new("/"), 9).unwrap_err().to_string().contains("a directory"));
    }
}
