//! Programs of the packages of scripts/requirements.txt.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A program in the environment with the packages, which are installed if they are missing.
pub fn tool(name: &str) -> PathBuf {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let script = r#". scripts/lib.sh && make_tools && printf %s "$TOOLS/bin""#;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let made = Command::new("bash").args(["-c", script]).current_dir(root).output();
        let made = made.expect("bash has to be installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().into()
    });
    programs.join(name)
}
