//! A connection to an endpoint as seen by awc: each response begins with a normalised head.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::ActixStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Ready};

use super::answer::HeadReader;

/// Buffer size for reading a head. Most heads are shorter.
const PIECE_BYTES: usize = 1024;

/// A byte stream to an endpoint.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// The connection. awc writes a whole request before it reads the response, so a write starts an exchange.
pub(super) struct AnswerStream {
    wire: Box<dyn Wire>,
    reading: ReadState,
}

enum ReadState {
    Head(HeadReader),
    /// Buffered bytes that precede the unread bytes of the connection.
    Body(Vec<u8>),
}

impl AnswerStream {
    pub(super) fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, reading: ReadState::Head(HeadReader::default()) }
    }

    fn begin_exchange(&mut self) {
        if !matches!(&self.reading, ReadState::Head(head) if head.is_untouched()) {
            self.reading = ReadState::Head(HeadReader::default());
        }
    }
}

impl AsyncRead for AnswerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                ReadState::Head(reader) => {
                    let mut piece = [0; PIECE_BYTES];
                    let mut piece = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.wire).poll_read(cx, &mut piece))?;
                    let mut bytes = piece.filled();
                    if bytes.is_empty() {
                        let Some(head) = reader.take_incomplete() else { return Poll::Ready(ended(reader)) };
                        this.reading = ReadState::Body(head.plain());
                    } else if let Some(head) = reader.read(&mut bytes).map_err(unreadable)? {
                        let mut plain = head.plain();
                        plain.extend_from_slice(bytes);
                        this.reading = ReadState::Body(plain);
                    }
                }
                ReadState::Body(first) if first.is_empty() => {
                    return Pin::new(&mut this.wire).poll_read(cx, into);
                }
                ReadState::Body(first) => {
                    let taken = first.drain(..first.len().min(into.remaining()));
                    into.put_slice(taken.as_slice());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Handles a closed connection: no response, or an incomplete head.
fn ended(reader: &HeadReader) -> io::Result<()> {
    if reader.is_untouched() {
        return Ok(());
    }
    Err(unreadable("the answer was cut off within its head"))
}

/// Creates an error that never means a closed connection, because the endpoint did answer.
fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncWrite for AnswerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_exchange();
        Pin::new(&mut this.wire).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// awc requires this trait but never calls it.
impl ActixStream for AnswerStream {
    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        Poll::Ready(Ok(Ready::READABLE))
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        Poll::Ready(Ok(Ready::WRITABLE))
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerStream").finish_non_exhaustive()
    }
}
