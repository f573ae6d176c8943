//! `${NAME}` and `${NAME:-default}` in a value.

/// Puts in what `lookup` knows of the names. An unknown one gives its default, or nothing; a `$`
/// without a well-formed `{…}` behind it stays as it is, and defaults are not expanded again.
pub(super) fn expand(value: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        if let Some((name, default, behind)) = variable(after) {
            expanded.push_str(&lookup(name).unwrap_or_else(|| default.unwrap_or_default().to_owned()));
            rest = behind;
        } else {
            expanded.push_str("${");
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

/// Splits `NAME}…` or `NAME:-default}…` into name, default and what comes behind the brace.
fn variable(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let (name, rest) = text.split_at_checked(text.find(['}', ':'])?)?;
    if let Some(behind) = rest.strip_prefix('}') {
        return Some((name, None, behind));
    }
    let (default, behind) = rest.strip_prefix(":-")?.split_once('}')?;
    Some((name, Some(default), behind))
}
