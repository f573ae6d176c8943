//! Copies bytes in both directions until one side ends.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::dial::Stream;
use super::filter::Filter;
use super::packet::Malformed;

const CHUNK_BYTES: usize = 64 * 1024;

/// Maximum buffer size kept after a long message.
const KEPT_BYTES: usize = 256 * 1024;

/// Time for the other side to read the last bytes before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);

/// Side that ended the connection, and the cause.
#[derive(Debug)]
pub(super) enum ConnectionEnd {
    Client,
    /// `None`: the broker closed the connection in order.
    Broker(Option<io::Error>),
    /// The broker sent an invalid packet.
    Malformed(Malformed),
}

/// Connections to client and broker.
pub(super) struct Pump {
    from_client: ReadHalf<TcpStream>,
    to_client: WriteHalf<TcpStream>,
    from_broker: ReadHalf<Box<dyn Stream>>,
    to_broker: WriteHalf<Box<dyn Stream>>,
}

impl Pump {
    pub(super) fn new(client: TcpStream, broker: Box<dyn Stream>) -> Pump {
        let (from_client, to_client) = split(client);
        let (from_broker, to_broker) = split(broker);
        Pump { from_client, to_client, from_broker, to_broker }
    }

    /// Sends `connect` to the broker, then copies in both directions.
    pub(super) async fn run(&mut self, connect: &[u8], filter: &mut Filter) -> ConnectionEnd {
        if let Err(error) = send(&mut self.to_broker, connect).await {
            return ConnectionEnd::Broker(Some(error));
        }
        tokio::select! {
            end = download(&mut self.from_broker, &mut self.to_client, filter) => end,
            end = upload(&mut self.from_client, &mut self.to_broker) => end,
        }
    }

    /// Closes the connection that has not ended.
    pub(super) async fn close(mut self, end: &ConnectionEnd) {
        match end {
            ConnectionEnd::Client => close(&mut self.to_broker, &mut self.from_broker).await,
            ConnectionEnd::Broker(_) | ConnectionEnd::Malformed(_) => {
                close(&mut self.to_client, &mut self.from_client).await;
            }
        }
    }
}

async fn download(
    from: &mut ReadHalf<Box<dyn Stream>>,
    to: &mut WriteHalf<TcpStream>,
    filter: &mut Filter,
) -> ConnectionEnd {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut out = Vec::with_capacity(CHUNK_BYTES);
    loop {
        let bytes = match from.read(&mut chunk).await {
            Ok(0) => return ConnectionEnd::Broker(None),
            Ok(count) => chunk.get(..count).unwrap_or_default(),
            Err(error) => return ConnectionEnd::Broker(Some(error)),
        };
        let taken = filter.process(bytes, &mut out);
        // Packets before an invalid one are still passed on.
        if to.write_all(&out).await.is_err() {
            return ConnectionEnd::Client;
        }
        if let Err(malformed) = taken {
            return ConnectionEnd::Malformed(malformed);
        }
        out.clear();
        out.shrink_to(KEPT_BYTES);
    }
}

async fn upload(from: &mut ReadHalf<TcpStream>, to: &mut WriteHalf<Box<dyn Stream>>) -> ConnectionEnd {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let bytes = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => return ConnectionEnd::Client,
            Ok(count) => chunk.get(..count).unwrap_or_default(),
        };
        if let Err(error) = send(to, bytes).await {
            return ConnectionEnd::Broker(Some(error));
        }
    }
}

/// Writes and flushes, because TLS buffers unsent bytes until a flush.
async fn send(to: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Shuts down one direction and drains the other. Closing at once would discard bytes that the peer has not read.
async fn close(to: &mut (impl AsyncWrite + Unpin), from: &mut (impl AsyncRead + Unpin)) {
    let drained = async {
        to.shutdown().await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        while from.read(&mut chunk).await? > 0 {}
        io::Result::Ok(())
    };
    // Both connections are finished, so errors no longer matter.
    let _ = timeout(LINGER, drained).await;
}
