//! Statement parser for `.env` files.

/// One statement of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// `key=value`, or `key` alone.
    Binding {
        /// Name of the variable.
        key: String,
        /// Value with escapes resolved and `${…}` unexpanded; none without a `=`.
        value: Option<String>,
    },
    /// An invalid statement.
    Unreadable {
        /// First line of the statement, counted from 1.
        line: usize,
    },
}

/// Parses all statements of `text`. Line ends must be newlines.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut cursor = RemainingText { rest: text, line: 1 };
    let mut found = Vec::new();
    loop {
        cursor.take_while(is_space);
        if cursor.rest.is_empty() {
            return found;
        }
        let line = cursor.line;
        match statement(&mut cursor) {
            Some(Some((key, value))) => found.push(Statement::Binding { key, value }),
            Some(None) => {}
            None => {
                cursor.take_while(|c| c != '\n');
                found.push(Statement::Unreadable { line });
            }
        }
    }
}

/// Name and value of a statement; none for a comment.
type Assignment = Option<(String, Option<String>)>;

/// Parses one statement. None if it is invalid; the cursor then stays at the error.
fn statement(cursor: &mut RemainingText<'_>) -> Option<Assignment> {
    skip_export(cursor);
    let key = if cursor.next_is('#') { None } else { Some(key(cursor)?) };
    cursor.take_while(is_blank);
    let value = if cursor.skip('=') {
        cursor.take_while(is_blank);
        Some(value(cursor)?)
    } else {
        None
    };
    cursor.take_while(is_blank);
    if cursor.next_is('#') {
        cursor.take_while(|c| c != '\n');
    }
    let at_end = cursor.rest.is_empty() || cursor.skip('\n');
    at_end.then_some(key.map(|key| (key, value)))
}

/// Skips the keyword `export`. It must be followed by white space in the same line.
fn skip_export(cursor: &mut RemainingText<'_>) {
    if cursor.rest.strip_prefix("export").is_some_and(|after| after.starts_with(is_blank)) {
        cursor.take("export".len());
        cursor.take_while(is_blank);
    }
}

fn key(cursor: &mut RemainingText<'_>) -> Option<String> {
    let key = if cursor.next_is('\'') {
        let (inside, _) = cursor.rest.strip_prefix('\'')?.split_once('\'')?;
        cursor.take(inside.len() + 2);
        inside
    } else {
        cursor.take_while(|c| c != '=' && c != '#' && !is_space(c))
    };
    (!key.is_empty()).then(|| key.to_owned())
}

fn value(cursor: &mut RemainingText<'_>) -> Option<String> {
    if cursor.next_is('\'') {
        Some(unescape(quoted(cursor, '\'')?, single_quote_escape))
    } else if cursor.next_is('"') {
        Some(unescape(quoted(cursor, '"')?, double_quote_escape))
    } else {
        let line = cursor.take_while(|c| c != '\n');
        Some(without_comment(line).trim_end_matches(is_space).to_owned())
    }
}

/// Returns the text between two quotes, and moves the cursor past them.
fn quoted<'a>(cursor: &mut RemainingText<'a>, quote: char) -> Option<&'a str> {
    let inside = cursor.rest.strip_prefix(quote)?;
    let (inside, _) = inside.split_at_checked(closing_quote(inside, quote)?)?;
    cursor.take(inside.len() + 2);
    Some(inside)
}

/// Finds the end of a quoted value: the first quote without a preceding backslash.
///
/// If the file has none, the last escaped quote ends the value, so that a final `"C:\dir\"` is valid.
fn closing_quote(text: &str, quote: char) -> Option<usize> {
    let mut before = quote;
    let mut last_escaped = None;
    for (at, c) in text.char_indices() {
        if c == quote {
            if before != '\\' {
                return Some(at);
            }
            last_escaped = Some(at);
        }
        before = c;
    }
    last_escaped
}

/// Removes a comment. A `#` begins a comment only after white space, so `pass#word` is a value.
fn without_comment(line: &str) -> &str {
    let mut before = None;
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_some_and(is_space) {
            return line.get(..at).unwrap_or(line);
        }
        before = Some(c);
    }
    line
}

/// Resolves the escapes known to `meaning`, and keeps all other backslashes.
fn unescape(text: &str, meaning: fn(char) -> Option<char>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.clone().next().and_then(meaning) } else { None };
        if escaped.is_some() {
            rest.next();
        }
        plain.push(escaped.unwrap_or(c));
    }
    plain
}

fn single_quote_escape(c: char) -> Option<char> {
    matches!(c, '\\' | '\'').then_some(c)
}

fn double_quote_escape(c: char) -> Option<char> {
    Some(match c {
        '\\' | '\'' | '"' => c,
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return None,
    })
}

/// Returns whether Python treats the character as white space: Unicode white space and U+001C to U+001F.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Returns whether the character is white space within a line.
fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

/// The remaining text, and its first line number.
struct RemainingText<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> RemainingText<'a> {
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    fn next_is(&self, c: char) -> bool {
        self.rest.starts_with(c)
    }

    fn skip(&mut self, c: char) -> bool {
        let there = self.next_is(c);
        if there {
            self.take(c.len_utf8());
        }
        there
    }
}
