//! Reads the head of an answer, whatever it looks like, and writes a plain one in its place.
//!
//! ```text
//!  endpoint ──▶ HTTP/1.1 103 …   ──▶ HeadReader ──▶ (dropped)
//!               HTTP/1.1 200 OK  ──▶            ──▶ HTTP/1.1 200, its framing, Location ──▶ awc
//! ```
//!
//! An endpoint whose status line was read has taken the message or has refused it. awc takes an interim
//! answer (100 to 199) for the final one, and refuses a whole head for a flaw in a header that nobody
//! needs: the endpoint would get the message again and again. So awc sees only what the delivery needs.
//! A head whose framing is in doubt ends with its connection, and its body is not read.

use thiserror::Error;

/// Bytes of an answer's heads, the interim ones included.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Why an answer has no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum HeadError {
    /// It does not begin with a status line.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Interim answers, or a status line, without an end.
    #[error("the head of the answer is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
}

/// Reads heads line by line, until one is final.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    read_bytes: usize,
    head: Option<Head>,
}

/// What of a head counts.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    framing: Framing,
    closes: bool,
    location: Option<Vec<u8>>,
    /// The header that a folded line goes on with.
    last: Field,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    NotSaid,
    Length(u64),
    Chunked,
    /// Said twice, or in words that have no meaning here.
    InDoubt,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Framing,
    Location,
    Other,
}

impl HeadReader {
    /// No byte has come yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.read_bytes == 0
    }

    /// Takes from `bytes` what belongs to heads; answers the final one once it is whole.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Head>, HeadError> {
        while !bytes.is_empty() {
            let room = MAX_HEAD_BYTES.saturating_sub(self.read_bytes);
            if room == 0 {
                // The status counts, however much is said besides.
                *bytes = &[];
                let head = self.head.take().filter(|head| !head.is_interim());
                return head.map(|head| Some(head.in_doubt())).ok_or(HeadError::TooLong);
            }
            let within = bytes.get(..room).unwrap_or(bytes);
            let end = within.iter().position(|byte| *byte == b'\n').map(|newline| newline + 1);
            let (line, rest) = bytes.split_at(end.unwrap_or(within.len()));
            *bytes = rest;
            self.read_bytes += line.len();
            self.line.extend_from_slice(line);
            if end.is_some() && self.end_line()? {
                return Ok(self.head.take());
            }
        }
        Ok(None)
    }

    /// Interprets a whole line. True if it ends the final head.
    fn end_line(&mut self) -> Result<bool, HeadError> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        match self.head.as_mut() {
            None if line.is_empty() => Ok(false),
            None => {
                self.head = Some(Head::begin(line).ok_or(HeadError::NotHttp)?);
                Ok(false)
            }
            Some(head) if !line.is_empty() => {
                head.read_header(line);
                Ok(false)
            }
            Some(head) => {
                let is_final = !head.is_interim();
                self.head = self.head.take().filter(|_| is_final);
                Ok(is_final)
            }
        }
    }
}

impl Head {
    /// Reads a status line: a version, a status of three digits, and words that do not count.
    fn begin(line: &[u8]) -> Option<Self> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let version = words.next().filter(|version| version.starts_with(b"HTTP/"))?;
        let digits = words.next().filter(|digits| digits.len() == 3)?;
        let status = u16::try_from(number(digits)?).ok().filter(|status| *status >= 100)?;
        // Those of HTTP/1.0 keep a connection only by a word of its own.
        let closes = version != b"HTTP/1.1";
        Some(Self { status, framing: Framing::NotSaid, closes, location: None, last: Field::Other })
    }

    /// Another head follows on the same connection. After 101 none does.
    fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn in_doubt(self) -> Self {
        Self { framing: Framing::InDoubt, ..self }
    }

    fn read_header(&mut self, line: &[u8]) {
        if line.first().is_some_and(u8::is_ascii_whitespace) {
            return self.read_folded(line.trim_ascii_start());
        }
        self.last = Field::Other;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let name = name.trim_ascii_end().to_ascii_lowercase();
        match name.as_slice() {
            b"content-length" => self.frame(number(value).map_or(Framing::InDoubt, Framing::Length)),
            b"transfer-encoding" if value.eq_ignore_ascii_case(b"chunked") => self.frame(Framing::Chunked),
            b"transfer-encoding" => self.frame(Framing::InDoubt),
            b"connection" => {
                let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                self.closes |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            b"location" if self.location.is_none() => {
                self.location = Some(value.to_vec());
                self.last = Field::Location;
            }
            _ => {}
        }
    }

    fn read_folded(&mut self, line: &[u8]) {
        match (self.last, self.location.as_mut()) {
            (Field::Framing, _) => self.framing = Framing::InDoubt,
            (Field::Location, Some(location)) => location.extend_from_slice(line),
            _ => {}
        }
    }

    /// Takes what a header says of the framing; a second one may only repeat the first.
    fn frame(&mut self, said: Framing) {
        let agrees =
            self.framing == Framing::NotSaid || (self.framing == said && matches!(said, Framing::Length(_)));
        self.framing = if agrees { said } else { Framing::InDoubt };
        self.last = Field::Framing;
    }

    /// The head in the form that is read from it. Its body follows, unless the connection ends with it.
    pub(super) fn plain(&self) -> Vec<u8> {
        let (length, ends) = match self.framing {
            _ if matches!(self.status, 204 | 304) => ("Content-Length: 0".to_owned(), self.closes),
            Framing::Length(bytes) => (format!("Content-Length: {bytes}"), self.closes),
            Framing::Chunked => ("Transfer-Encoding: chunked".to_owned(), self.closes),
            Framing::NotSaid | Framing::InDoubt => ("Content-Length: 0".to_owned(), true),
        };
        let mut plain = format!("HTTP/1.1 {} \r\n{length}\r\n", self.status).into_bytes();
        if ends {
            plain.extend_from_slice(b"Connection: close\r\n");
        }
        let location = self.location.as_ref().filter(|location| location.iter().all(u8::is_ascii_graphic));
        if let Some(location) = location {
            plain.extend_from_slice(b"Location: ");
            plain.extend_from_slice(location);
            plain.extend_from_slice(b"\r\n");
        }
        plain.extend_from_slice(b"\r\n");
        plain
    }
}

/// A number of digits alone.
fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
