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
        let mut body = Self { bytes: Vec::new(), is_whole: false };
        // Behind a 101 another protocol begins, which has no end.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // What was read counts, even if the rest is late. Dropping an unfinished response closes its connection.
            let _ = timeout_at(deadline, body.read_from(&mut response, max_kept)).await;
        }
        body
    }

    async fn read_from(&mut self, response: &mut ClientResponse, max_kept: usize) {
        let mut length = 0;
        while length < MAX_READ_BYTES {
            match response.next().await {
                Some(Ok(bytes)) => {
                    length += bytes.len();
                    let room = max_kept.saturating_sub(self.bytes.len()).min(bytes.len());
                    self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
                }
                end => {
                    self.is_whole = end.is_none();
                    return;
                }
            }
        }
    }
}
