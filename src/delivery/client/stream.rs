//! A connection to an endpoint, as awc sees it: each answer begins with a plain head.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::ActixStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Ready};

use super::answer::HeadReader;

/// Bytes read at a time while a head is awaited. Most heads are shorter.
const PIECE_BYTES: usize = 1024;

/// What carries bytes to an endpoint and back.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// The connection. awc writes a whole request before it reads the answer, so a write begins an exchange.
pub(super) struct AnswerStream {
    wire: Box<dyn Wire>,
    reading: Reading,
}

enum Reading {
    Head(HeadReader),
    /// Bytes that come before those that are still to be read.
    Body(Vec<u8>),
}

impl AnswerStream {
    pub(super) fn new(wire: Box<dyn Wire>) -> Self {
        Self { wire, reading: Reading::Head(HeadReader::default()) }
    }

    fn begin_exchange(&mut self) {
        if !matches!(&self.reading, Reading::Head(head) if head.is_untouched()) {
            self.reading = Reading::Head(HeadReader::default());
        }
    }
}

impl AsyncRead for AnswerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.reading {
                Reading::Head(reader) => {
                    let mut piece = [0; PIECE_BYTES];
                    let mut piece = ReadBuf::new(&mut piece);
                    ready!(Pin::new(&mut this.wire).poll_read(cx, &mut piece))?;
                    let mut bytes = piece.filled();
                    if bytes.is_empty() {
                        return Poll::Ready(ended(reader));
                    }
                    if let Some(head) = reader.read(&mut bytes).map_err(unreadable)? {
                        let mut plain = head.plain();
                        plain.extend_from_slice(bytes);
                        this.reading = Reading::Body(plain);
                    }
                }
                Reading::Body(first) if first.is_empty() => {
                    return Pin::new(&mut this.wire).poll_read(cx, into);
                }
                Reading::Body(first) => {
                    let taken = first.drain(..first.len().min(into.remaining()));
                    into.put_slice(taken.as_slice());
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// The connection was closed: nothing came, or not a whole head.
fn ended(reader: &HeadReader) -> io::Result<()> {
    if reader.is_untouched() {
        return Ok(());
    }
    Err(unreadable("the answer was cut off within its head"))
}

/// Never an error that stands for a closed connection: something was answered.
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

/// awc asks for this trait and never calls it.
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
