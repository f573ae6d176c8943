//! File access for settings, behind a trait so that tests need no files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::read_regular;

/// Maximum file size. A larger file was configured by mistake.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Source of files.
pub(crate) trait Files {
    /// Reads a whole file; none if it does not exist.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Lists the `*.toml` files of a directory by name; none if the directory does not exist.
    fn toml_files(&self, directory: &Path) -> io::Result<Option<Vec<PathBuf>>>;
}

/// The real file system. Relative paths start at the working directory.
pub(super) struct FileSystem;

impl Files for FileSystem {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match read_regular(path, MAX_FILE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            read => unless_missing(read),
        }
    }

    fn toml_files(&self, directory: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        let Some(entries) = unless_missing(fs::read_dir(directory))? else {
            return Ok(None);
        };
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.sort();
        Ok(Some(paths))
    }
}

fn unless_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
