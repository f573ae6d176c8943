//! File systems of a test's own: a small one in memory, and one behind a disk whose power can be cut.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory that is a file system in memory.
pub(super) struct Memory {
    mounted: Mounted,
}

impl Memory {
    pub(super) fn of_mebibytes(mebibytes: u32) -> Memory {
        let directory = TempDir::new().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"], directory.path());
        Memory { mounted: Mounted { directory } }
    }

    pub(super) fn path(&self) -> &Path {
        self.mounted.directory.path()
    }

    /// Fills the file system. The caller deletes the file.
    pub(super) fn fill(&self) -> PathBuf {
        let path = self.path().join("somebody-elses");
        let mut file = File::create(&path).unwrap();
        for piece in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; piece]).is_ok() {}
        }
        path
    }

    /// Takes all the room but this many bytes.
    pub(super) fn fill_but(&self, bytes: u64) {
        let filler = OpenOptions::new().write(true).open(self.fill()).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - bytes).unwrap();
    }

    pub(super) fn make_read_only(&self) {
        mount(&["-o", "remount,ro", "tmpfs"], self.path());
    }
}

/// An ext4 file system on a disk that is a file. Unsynced data is only in this machine's memory, so the file holds the
/// content of a disk after a power failure.
pub(super) struct Disk {
    mounted: Option<Mounted>,
    image: PathBuf,
    files: TempDir,
}

impl Disk {
    pub(super) fn of_mebibytes(mebibytes: u64) -> Disk {
        let files = TempDir::new().unwrap();
        let image = files.path().join("disk");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let mut disk = Disk { mounted: None, image, files };
        disk.mount();
        disk
    }

    pub(super) fn path(&self) -> &Path {
        self.mounted.as_ref().unwrap().directory.path()
    }

    /// A power failure: only the present content of the disk is kept.
    pub(super) fn cut_power(&mut self) {
        let held = self.files.path().join("held");
        fs::copy(&self.image, &held).unwrap();
        // Unmounting writes everything, but to the disk that is thrown away.
        self.mounted = None;
        fs::rename(&held, &self.image).unwrap();
        self.mount();
    }

    fn mount(&mut self) {
        let directory = TempDir::new().unwrap();
        // Nothing is written because time has passed: a test would see more or less of it by chance.
        let options = "loop,commit=300";
        mount(&["-o", options, self.image.to_str().unwrap()], directory.path());
        self.mounted = Some(Mounted { directory });
    }
}

/// Unmounted when dropped.
struct Mounted {
    directory: TempDir,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a gateway that a failing test leaves behind may still be in it.
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

fn mount(arguments: &[&str], directory: &Path) {
    run(Command::new("mount").args(arguments).arg(directory));
}

fn run(command: &mut Command) {
    command.env("PATH", test_support::mosquitto::path_with_sbin());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}(file systems are mounted by root alone)");
}

/// Flips a bit of the byte at `at`.
pub(super) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    OpenOptions::new().write(true).open(file).unwrap().write_all(&bytes).unwrap();
}
