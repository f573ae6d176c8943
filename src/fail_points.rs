//! Fail points at which a test aborts the process.

/// Defines a fail point that aborts the process when its action is `return`. Like `kill -9`, it flushes and closes
/// nothing. It expands to nothing without the feature `failpoints`.
macro_rules! crash_point {
    ($name:expr) => {
        #[cfg(feature = "failpoints")]
        {
            let _: Option<()> = fail::eval($name, |_| std::process::abort());
        }
    };
}
