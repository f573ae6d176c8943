//! Copies bytes in both directions until one side ends.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Notify;
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

/// Ends the direction to the client when it is asked for.
pub(super) struct DownloadEnd<'a> {
    pub(super) asked: &'a Notify,
    /// The last packet for the client.
    pub(super) packet: Vec<u8>,
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
    ///
    /// A side that closes its connection may have sent packets before: the last acknowledgements of the client, or the
    /// reason of the broker. So a failed write ends only its own direction.
    pub(super) async fn run(
        &mut self,
        connect: &[u8],
        filter: &mut Filter,
        download_end: &DownloadEnd<'_>,
    ) -> ConnectionEnd {
        if let Err(error) = send(&mut self.to_broker, connect).await {
            return ConnectionEnd::Broker(Some(error));
        }
        let mut download = pin!(download(&mut self.from_broker, &mut self.to_client, filter, download_end));
        let mut upload = pin!(upload(&mut self.from_client, &mut self.to_broker));
        tokio::select! {
            end = &mut download => match end {
                Some(end) => end,
                None => upload.await,
            },
            end = &mut upload => match end {
                ConnectionEnd::Broker(Some(error)) => match download.await {
                    Some(ConnectionEnd::Broker(None)) | None => ConnectionEnd::Broker(Some(error)),
                    Some(end) => end,
                },
                end => end,
            },
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

/// Copies until the broker ends the connection. Returns `None` if the client reads or gets nothing more.
async fn download(
    from: &mut ReadHalf<Box<dyn Stream>>,
    to: &mut WriteHalf<TcpStream>,
    filter: &mut Filter,
    end: &DownloadEnd<'_>,
) -> Option<ConnectionEnd> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut out = Vec::with_capacity(CHUNK_BYTES);
    let mut asked = pin!(end.asked.notified());
    loop {
        let read = tokio::select! {
            read = from.read(&mut chunk) => read,
            () = &mut asked => {
                // A failure means that the client is gone already.
                let _ = to.write_all(&end.packet).await;
                return None;
            }
        };
        let bytes = match read {
            Ok(0) => return Some(ConnectionEnd::Broker(None)),
            Ok(count) => chunk.get(..count).unwrap_or_default(),
            Err(error) => return Some(ConnectionEnd::Broker(Some(error))),
        };
        let taken = filter.process(bytes, &mut out);
        // Packets before an invalid one are still passed on.
        if to.write_all(&out).await.is_err() {
            return None;
        }
        if let Err(malformed) = taken {
            return Some(ConnectionEnd::Malformed(malformed));
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::coalescing::MessageCount;
    use super::super::filter::LastPing;
    use super::super::rejected::Token;
    use super::*;
    use crate::domain::broker::MqttVersion;

    const CONNECT: &[u8] = b"CONNECT";
    const CONNACK: &[u8] = &[0x20, 2, 0, 0];
    const END: &[u8] = &[0x30, 3, 0, 1, b't'];
    const LAST_PACKETS: &[u8] = &[0x40, 2, 0, 1, 0xe0, 0];

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (dialled, listener.accept().await.unwrap().0)
    }

    async fn serve(to_client: TcpStream, to_broker: TcpStream, asked: &Notify) -> ConnectionEnd {
        let (token, messages, ping) = (Token::new(), MessageCount::default(), LastPing::default());
        let mut filter = Filter::new(MqttVersion::V311, token, 1, messages, ping);
        let mut pump = Pump::new(to_client, Box::new(to_broker));
        let download_end = DownloadEnd { asked, packet: END.to_vec() };
        let end = pump.run(CONNECT, &mut filter, &download_end).await;
        pump.close(&end).await;
        end
    }

    #[tokio::test]
    async fn last_packets_of_a_client_reach_the_broker() {
        for _ in 0..50 {
            let ((mut client, mut to_client), (mut broker, to_broker)) = (pair().await, pair().await);
            client.write_all(LAST_PACKETS).await.unwrap();
            // Closing a connection with unread bytes resets it.
            to_client.write_all(CONNACK).await.unwrap();
            client.readable().await.unwrap();
            drop(client);
            broker.write_all(CONNACK).await.unwrap();
            let reads = async move {
                let mut sent = Vec::new();
                broker.read_to_end(&mut sent).await.unwrap();
                sent
            };
            let never = Notify::new();
            let (end, sent) = tokio::join!(serve(to_client, to_broker, &never), reads);
            assert!(matches!(end, ConnectionEnd::Client), "{end:?}");
            assert_eq!(sent, [CONNECT, LAST_PACKETS].concat());
        }
    }

    #[tokio::test]
    async fn last_packets_of_a_broker_reach_the_client() {
        for _ in 0..50 {
            let ((mut client, to_client), (broker, to_broker)) = (pair().await, pair().await);
            let reads = async move {
                broker.readable().await.unwrap();
                // The pump runs on this thread, so it sees all of this at once.
                client.try_write(LAST_PACKETS).unwrap();
                broker.try_write(CONNACK).unwrap();
                drop(broker);
                let mut received = Vec::new();
                client.read_to_end(&mut received).await.unwrap();
                received
            };
            let never = Notify::new();
            let (end, received) = tokio::join!(serve(to_client, to_broker, &never), reads);
            assert!(matches!(end, ConnectionEnd::Broker(Some(_))), "{end:?}");
            assert_eq!(received, CONNACK);
        }
    }

    #[tokio::test]
    async fn client_gets_nothing_after_the_end_of_the_download() {
        let ((mut client, to_client), (mut broker, to_broker)) = (pair().await, pair().await);
        let asked = Notify::new();
        let work = async {
            broker.write_all(CONNACK).await.unwrap();
            let mut received = vec![0; CONNACK.len()];
            client.read_exact(&mut received).await.unwrap();
            asked.notify_one();
            let mut end = vec![0; END.len()];
            client.read_exact(&mut end).await.unwrap();
            assert_eq!(end, END);
            broker.write_all(CONNACK).await.unwrap();
            client.write_all(LAST_PACKETS).await.unwrap();
            let mut sent = vec![0; CONNECT.len() + LAST_PACKETS.len()];
            broker.read_exact(&mut sent).await.unwrap();
            assert_eq!(sent, [CONNECT, LAST_PACKETS].concat());
            client.shutdown().await.unwrap();
            drop(broker);
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"");
        };
        let (end, ()) = tokio::join!(serve(to_client, to_broker, &asked), work);
        assert!(matches!(end, ConnectionEnd::Client), "{end:?}");
    }
}
