//! Which run of the machine this is.

use std::fs;

/// A random name that the Linux kernel takes when it starts, the same in all containers.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The name of this run; `None` where the system has none.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}
