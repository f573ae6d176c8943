//! The boot id of the machine.

use std::fs;

/// Random id that the Linux kernel draws at boot. All containers of a machine see the same one.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the boot id, or `None` where the system has none.
#[must_use]
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| id.to_owned())
}
