//! Spelling of booleans and null in `data.attribute_value`.

/// Spelling of `true`, `false` and `null` as stored values. Objects and arrays always use the JSON spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueStyle {
    /// `True`, `False`, `None`: as the Python service wrote them.
    #[default]
    Python,
    /// `true`, `false`, `null`.
    Json,
}

impl ValueStyle {
    pub(super) fn boolean(self, value: bool) -> &'static str {
        match (self, value) {
            (ValueStyle::Python, true) => "True",
            (ValueStyle::Python, false) => "False",
            (ValueStyle::Json, true) => "true",
            (ValueStyle::Json, false) => "false",
        }
    }

    pub(super) fn null(self) -> &'static str {
        match self {
            ValueStyle::Python => "None",
            ValueStyle::Json => "null",
        }
    }
}
