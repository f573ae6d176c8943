//! Reads the body of an answer, as far as it is needed.

use awc::ClientResponse;
use awc::http::StatusCode;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

/// Maximum number of bytes to read so that the connection can be reused.
const MAX_READ_BYTES: usize = 64 << 10;

/// The beginning of a body.
pub(super) struct AnswerBody {
    /// Its first bytes.
    pub(super) bytes: Vec<u8>,
    /// The body was read to its end, so its connection can be reused.
    pub(super) is_whole: bool,
}

impl AnswerBody {
    /// Reads a body until its end, its first [`MAX_READ_BYTES`], the deadline or an error. Keeps `max_kept` bytes.
    pub(super) async fn read(mut response: ClientResponse, deadline: Instant, max_kept: usize) -> Self {
        let (mut kept, mut length, mut is_whole) = (Vec::new(), 0, false);
        // Behind a 101 another protocol begins, which has no end.
        let max_bytes = if response.status() == StatusCode::SWITCHING_PROTOCOLS { 0 } else { MAX_READ_BYTES };
        while length < max_bytes {
            // Dropping an unfinished response closes its connection.
            let bytes = match timeout_at(deadline, response.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                end => {
                    is_whole = matches!(end, Ok(None));
                    break;
                }
            };
            length += bytes.len();
            let room = max_kept.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        Self { bytes: kept, is_whole }
    }
}
