//! Places where a test breaks the process: an actor that panics or stands still, or the end of everything at once.

/// A fail point that does not return an error but ends the process when it is told to `return`: there and then, with
/// nothing written, closed or said any more, which is what `kill -9` leaves behind. Nothing in a build without the
/// feature.
macro_rules! crash_point {
    ($name:expr) => {
        #[cfg(feature = "failpoints")]
        {
            let _: Option<()> = fail::eval($name, |_| std::process::abort());
        }
    };
}
