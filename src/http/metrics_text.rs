//! Cache of the metrics text, sent in pieces.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

use crate::observe::Telemetry;
use crate::observe::metrics::Exposition;

/// Maximum age of the cached text.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Bytes given to a connection at a time. Unread text stays shared between all connections.
const PIECE_BYTES: usize = 16 * 1024;

/// Encoder with a cache for the metrics text.
#[derive(Debug)]
pub(super) struct MetricsText {
    exposition: Exposition,
    made: Mutex<Option<(Instant, Bytes)>>,
}

impl MetricsText {
    pub(super) fn new(telemetry: &Arc<Telemetry>) -> Self {
        Self { exposition: Exposition::new(telemetry), made: Mutex::default() }
    }

    /// Returns the metrics text, at most one second old. None if encoding fails.
    pub(super) fn now(&self) -> Option<Pieces> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = made.as_ref()
            && at.elapsed() < MAX_AGE
        {
            return Some(Pieces(text.clone()));
        }
        let text = Bytes::from(self.exposition.text().ok()?);
        *made = Some((Instant::now(), text.clone()));
        Some(Pieces(text))
    }
}

/// A response body that is sent piece by piece.
#[derive(Debug)]
pub(super) struct Pieces(Bytes);

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.0.len() as u64)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.0.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(self.0.split_to(most))))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn text_is_encoded_once_per_second() {
        let text = MetricsText::new(&Arc::default());
        let first = text.now().unwrap();
        let second = text.now().unwrap();
        assert_eq!(first.0.as_ptr(), second.0.as_ptr());
    }

    #[test]
    fn pieces_add_up_to_the_text() {
        let whole = Bytes::from(vec![7; 3 * PIECE_BYTES + 1]);
        let mut pieces = Pieces(whole.clone());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut got = Vec::new();
        while let Poll::Ready(Some(Ok(piece))) = Pin::new(&mut pieces).poll_next(&mut context) {
            assert!(piece.len() <= PIECE_BYTES);
            got.extend_from_slice(&piece);
        }
        assert_eq!(got, whole);
    }
}
