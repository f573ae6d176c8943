//! stub
#[must_use]
pub fn run() -> i32 {
    0
}
