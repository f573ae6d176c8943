//! A wall clock for the gateway alone, by a preloaded library.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use test_support::world::World;

/// Moves the clock of the gateways that are started in its world.
pub(super) struct WallClock {
    moved_by: File,
    _directory: TempDir,
}

impl WallClock {
    pub(super) fn in_world(world: &mut World) -> WallClock {
        let directory = TempDir::new().unwrap();
        let (library, file) = (directory.path().join("wall_clock.so"), directory.path().join("moved-by"));
        build(&library);
        let clock = WallClock { moved_by: File::create(&file).unwrap(), _directory: directory };
        clock.move_by(0);
        world.set("LD_PRELOAD", library.to_str().unwrap()).set("WALL_CLOCK", file.to_str().unwrap());
        clock
    }

    /// From now on the clock is this many seconds ahead of the machine's.
    pub(super) fn move_by(&self, seconds: i64) {
        self.moved_by.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}

fn build(library: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wall_clock.c");
    let output = Command::new("gcc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .args([library, &source])
        .args(["-ldl", "-pthread"])
        .output()
        .expect("gcc is needed to build the gateway, so it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
