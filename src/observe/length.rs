//! Length limit for texts in the log. A topic may have 65,535 bytes, and each message may cause a line with it.

/// Maximum characters of a message, and of each text in a field.
pub(super) const TEXT_CHARS: usize = 2_000;

/// Shortens a text to `max_chars` characters by replacing its middle with `…`.
///
/// A quarter of the characters is taken from the end, because the error and the repeat count follow the topic.
pub(super) fn cut(text: String, max_chars: usize) -> String {
    // A text never has more characters than bytes, so short texts need no counting.
    if text.len() <= max_chars {
        return text;
    }
    let end = max_chars / 4;
    let begin = max_chars.saturating_sub(end + 1);
    let count = text.chars().count();
    if count <= max_chars {
        return text;
    }
    let begin = text.chars().take(begin);
    let end = text.chars().skip(count - end);
    begin.chain(['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut_to(text: &str, max_chars: usize) -> String {
        cut(text.to_owned(), max_chars)
    }

    #[test]
    fn long_text_loses_its_middle() {
        assert_eq!(cut_to("0123456789", 10), "0123456789");
        assert_eq!(cut_to("0123456789a", 10), "0123456…9a");
        assert_eq!(cut_to("ü".repeat(10).as_str(), 10), "ü".repeat(10), "letters count, not bytes");
    }

    proptest! {
        #[test]
        fn cut_text_keeps_both_ends(text in ".{0,40}", max_chars in 1_usize..30) {
            let short = cut_to(&text, max_chars);
            prop_assert!(short.chars().count() <= max_chars);
            if text.chars().count() <= max_chars {
                prop_assert_eq!(&short, &text);
            } else {
                let (begin, end) = (max_chars - max_chars / 4 - 1, max_chars / 4);
                prop_assert!(short.chars().take(begin).eq(text.chars().take(begin)));
                prop_assert!(short.chars().rev().take(end).eq(text.chars().rev().take(end)));
            }
        }

        #[test]
        fn suffix_survives_a_second_cut(text in "[a-z]{30,60}", max_chars in 20_usize..30) {
            let sum = format!("{} ×7", cut_to(&text, max_chars));
            let short = cut_to(&sum, max_chars);
            prop_assert!(short.ends_with(" ×7"));
            prop_assert_eq!(short.matches('…').count(), 1);
        }
    }
}
