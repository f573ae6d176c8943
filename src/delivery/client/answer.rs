//! Reads the head of a response tolerantly and replaces it with a normalised one.
//!
//! ```text
//!  endpoint ──▶ HTTP/1.1 103 …   ──▶ HeadReader ──▶ (dropped)
//!               HTTP/1.1 200 OK  ──▶            ──▶ HTTP/1.1 200, what the delivery needs ──▶ awc
//! ```
//!
//! A readable status line shows whether the endpoint accepted the message. awc takes an interim response (100 to 199)
//! for the final one, and rejects a head for a flaw in an unused header. The endpoint would then receive the message
//! repeatedly, so awc sees only the parts of the head that the delivery needs. If the framing of a response is
//! ambiguous, its body is not read and its connection is closed.

use thiserror::Error;

/// Maximum size of a response's heads, including the interim ones.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Reason for which a response has no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum HeadError {
    /// The response does not begin with a status line.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// Endless interim responses, or an endless status line.
    #[error("the head of the answer is longer than {MAX_HEAD_BYTES} bytes")]
    TooLong,
}

/// Reads heads line by line, until the final one is complete.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    read_bytes: usize,
    head: Option<ResponseHead>,
}

/// The relevant parts of a head.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    framing: Framing,
    closes: bool,
    location: Option<Vec<u8>>,
    retry_after: Option<Vec<u8>>,
    /// The header to which a folded line belongs.
    last: HeaderKind,
}

/// Delimitation of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Unspecified,
    Length(u64),
    Chunked,
    /// Contradictory or unknown framing headers.
    InDoubt,
}

#[derive(Debug, Clone, Copy)]
enum HeaderKind {
    Framing,
    Location,
    RetryAfter,
    Other,
}

impl HeadReader {
    /// Whether no byte was read yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.read_bytes == 0
    }

    /// Takes the final head although it is incomplete. Its status counts, and nothing follows it.
    pub(super) fn take_incomplete(&mut self) -> Option<ResponseHead> {
        self.head.take().filter(|head| !head.is_interim()).map(ResponseHead::in_doubt)
    }

    /// Consumes the bytes of heads from `bytes`. Returns the final head once it is complete.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<ResponseHead>, HeadError> {
        while !bytes.is_empty() {
            let room = MAX_HEAD_BYTES.saturating_sub(self.read_bytes);
            if room == 0 {
                // The status counts, even if the headers are too long.
                *bytes = &[];
                return self.take_incomplete().map(Some).ok_or(HeadError::TooLong);
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

    /// Interprets a complete line. Returns `true` if it ends the final head.
    fn end_line(&mut self) -> Result<bool, HeadError> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        match self.head.as_mut() {
            None if line.is_empty() => Ok(false),
            None => {
                self.head = Some(ResponseHead::begin(line).ok_or(HeadError::NotHttp)?);
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

impl ResponseHead {
    /// Reads a status line: a version, a three-digit status, and an ignored reason phrase.
    fn begin(line: &[u8]) -> Option<Self> {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let version = words.next().filter(|version| version.starts_with(b"HTTP/"))?;
        let digits = words.next().filter(|digits| digits.len() == 3)?;
        let status = u16::try_from(number(digits)?).ok().filter(|status| *status >= 100)?;
        // HTTP/1.0 keeps a connection only on request.
        let closes = version != b"HTTP/1.1";
        let framing = Framing::Unspecified;
        Some(Self { status, framing, closes, location: None, retry_after: None, last: HeaderKind::Other })
    }

    /// Whether another head follows on the same connection. None follows a 101.
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
        self.last = HeaderKind::Other;
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
                self.last = HeaderKind::Location;
            }
            b"retry-after" if self.retry_after.is_none() => {
                self.retry_after = Some(value.to_vec());
                self.last = HeaderKind::RetryAfter;
            }
            _ => {}
        }
    }

    fn read_folded(&mut self, line: &[u8]) {
        match self.last {
            HeaderKind::Framing => self.framing = Framing::InDoubt,
            HeaderKind::Location => self.location.get_or_insert_default().extend_from_slice(line),
            HeaderKind::RetryAfter => self.retry_after.get_or_insert_default().extend_from_slice(line),
            HeaderKind::Other => {}
        }
    }

    /// Records a framing header. A second one must repeat the first.
    fn frame(&mut self, said: Framing) {
        let agrees = self.framing == Framing::Unspecified
            || (self.framing == said && matches!(said, Framing::Length(_)));
        self.framing = if agrees { said } else { Framing::InDoubt };
        self.last = HeaderKind::Framing;
    }

    /// The normalised head. The body follows, unless the connection ends with the head.
    pub(super) fn plain(&self) -> Vec<u8> {
        let (length, ends) = match self.framing {
            _ if matches!(self.status, 204 | 304) => ("Content-Length: 0".to_owned(), self.closes),
            Framing::Length(bytes) => (format!("Content-Length: {bytes}"), self.closes),
            Framing::Chunked => ("Transfer-Encoding: chunked".to_owned(), self.closes),
            Framing::Unspecified | Framing::InDoubt => ("Content-Length: 0".to_owned(), true),
        };
        let mut plain = format!("HTTP/1.1 {} \r\n{length}\r\n", self.status).into_bytes();
        if ends {
            plain.extend_from_slice(b"Connection: close\r\n");
        }
        let is_safe = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        for (name, value) in [("Location: ", &self.location), ("Retry-After: ", &self.retry_after)] {
            if let Some(value) = value.as_ref().filter(|value| value.iter().all(is_safe)) {
                plain.extend_from_slice(&[name.as_bytes(), value, b"\r\n"].concat());
            }
        }
        plain.extend_from_slice(b"\r\n");
        plain
    }
}

/// Parses a number that consists of digits only.
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
