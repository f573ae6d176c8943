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

/// Returns the time in milliseconds that a test has set for this fail point, or else `$time`.
macro_rules! time_point {
    ($name:expr, $time:expr) => {{
        #[cfg(feature = "failpoints")]
        let time =
            fail::eval($name, |ms| ms.and_then(|ms| ms.parse().ok()).map(std::time::Duration::from_millis))
                .flatten()
                .unwrap_or($time);
        #[cfg(not(feature = "failpoints"))]
        let time = $time;
        time
    }};
}
