//! Numbers in the syntax of Python's `int()` and `float()`, as far as settings need it.

/// Parses an integer: `"10"`, `" 10 "`, `"+5"`, `"1_000"`. None if invalid, or with more digits than any setting has.
pub(super) fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = plain_digits(digits)?.parse::<i128>().ok()?;
    Some(if negative { -value } else { value })
}

/// Parses an integer, or a number with a fraction or an exponent: `"2.5"`, `"1e1"`.
pub(super) fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_numeral = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    if text.chars().all(is_numeral) {
        return text.parse().ok();
    }
    let digits = plain_digits(text.strip_prefix('+').unwrap_or(text))?;
    digits.parse().ok()
}

/// Removes underscores, which are valid only between two digits.
fn plain_digits(text: &str) -> Option<String> {
    let groups = || text.split('_');
    let proper = groups().all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit()));
    proper.then(|| groups().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_parse_as_in_python() {
        let taken =
            [(" 10 ", 10), ("+5", 5), ("-3", -3), ("1_000", 1000), ("007", 7), ("0", 0), ("\t1\n", 1)];
        for (text, value) in taken {
            assert_eq!(integer(text), Some(value), "{text:?}");
        }
        for text in ["", " ", "1.0", "_1", "1_", "1__0", "1 0", "+-1", "+ 1", "0x10", "1e3", "ten", "²", "-"]
        {
            assert_eq!(integer(text), None, "{text:?}");
        }
        assert_eq!(integer(&"9".repeat(100)), None);
    }

    #[test]
    fn decimals_may_have_a_fraction() {
        for (text, value) in [("10", 10.0), (" 2.5 ", 2.5), ("1_000", 1000.0), ("+1e1", 10.0), (".5", 0.5)] {
            assert_eq!(decimal(text), Some(value), "{text:?}");
        }
        for text in ["", "nan", "inf", "1,5", "1.5s", "1_0.5"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_integer_is_read_back(value in any::<i64>()) {
            prop_assert_eq!(integer(&value.to_string()), Some(i128::from(value)));
        }
    }
}
