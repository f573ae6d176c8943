//! Expansion of `${NAME}` and `${NAME:-default}` in a value.

/// Expands variables with `lookup`. An unknown name becomes its default, or an empty text.
///
/// A `$` without a well-formed `{…}` is kept. Defaults are not expanded.
pub(super) fn expand(value: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        match variable(after) {
            Ok((name, default, behind)) => {
                expanded.push_str(&lookup(name).unwrap_or_else(|| default.unwrap_or_default().to_owned()));
                rest = behind;
            }
            Err(plain) => {
                expanded.push_str("${");
                expanded.push_str(plain);
                rest = after.strip_prefix(plain).unwrap_or_default();
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

/// Splits `NAME}…` or `NAME:-default}…` into name, default and remaining text.
///
/// The error contains the text that can be skipped without missing a variable, so that the run time stays linear.
fn variable(text: &str) -> Result<(&str, Option<&str>, &str), &str> {
    let end_of_name = text.find(['}', ':']).ok_or(text)?;
    let (name, rest) = text.split_at_checked(end_of_name).ok_or(text)?;
    if let Some(behind) = rest.strip_prefix('}') {
        return Ok((name, None, behind));
    }
    let rest = rest.strip_prefix(":-").ok_or(name)?;
    let (default, behind) = rest.split_once('}').ok_or(text)?;
    Ok((name, Some(default), behind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reference implementation that examines every `${` separately.
    fn one_by_one(value: &str) -> String {
        let Some((before, after)) = value.split_once("${") else { return value.to_owned() };
        let (put_in, behind) = match variable(after) {
            Ok((name, _, behind)) => (format!("<{name}>"), behind),
            Err(_) => ("${".to_owned(), after),
        };
        format!("{before}{put_in}{}", one_by_one(behind))
    }

    proptest! {
        #[test]
        fn skipped_text_has_no_variable(value in "([$][{]|[}]|:|:-|-|a|[$]){0,30}") {
            prop_assert_eq!(expand(&value, &|name| Some(format!("<{name}>"))), one_by_one(&value));
        }
    }
}
