//! The threads: one accepts, two for each connection carry its bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Act, Connection, Dialogue, How, Moment, Shared, State, Way, open_again};

/// Interval at which a blocked pump checks whether it is still needed.
const BLOCKED: Duration = Duration::from_millis(100);

pub(super) fn accept(shared: &Arc<Shared>, mut listener: TcpListener, address: SocketAddr) {
    loop {
        let client = listener.accept();
        let mut state = shared.lock();
        if state.closed {
            return;
        }
        if state.refusing {
            drop(listener);
            state.listening = false;
            shared.changed.notify_all();
            let woken = shared.changed.wait_while(state, |state| state.refusing && !state.closed);
            if woken.is_ok_and(|state| state.closed) {
                return;
            }
            listener = open_again(address);
            shared.lock().listening = true;
            shared.changed.notify_all();
            continue;
        }
        drop(state);
        if let Ok((client, _)) = client {
            let shared = Arc::clone(shared);
            // Connecting may take as long as a server's backlog is full.
            std::thread::spawn(move || connect(&shared, client));
        }
    }
}

/// A server that is not there is passed on as a connection that ends at once.
fn connect(shared: &Arc<Shared>, client: TcpStream) {
    let address = *shared.server.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(server) = TcpStream::connect(address) else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(BLOCKED));
    }
    let copies = (client.try_clone(), server.try_clone());
    let (Ok(from_client), Ok(from_server)) = copies else { return };
    let id = {
        let mut state = shared.lock();
        if state.closed || state.refusing {
            return;
        }
        state.taken += 1;
        let id = state.taken;
        let connection = Connection {
            client,
            server,
            dialogue: Dialogue::default(),
            stalled: [false; 2],
            half_closed: [false; 2],
            answer: [None; 2],
            ended: [false; 2],
        };
        state.connections.insert(id, connection);
        shared.changed.notify_all();
        id
    };
    let other = Arc::clone(shared);
    let (Ok(to_client), Ok(to_server)) = (from_client.try_clone(), from_server.try_clone()) else { return };
    std::thread::spawn(move || {
        Pump { shared: other, id, way: Way::ToServer, to: to_server }.run(from_client);
    });
    Pump { shared: Arc::clone(shared), id, way: Way::ToClient, to: to_client }.run(from_server);
}

struct Pump {
    shared: Arc<Shared>,
    id: u64,
    way: Way,
    to: TcpStream,
}

/// The connection is over, or this way of it.
struct Over;

/// A watch that no test waits for.
const NOBODY: u64 = u64::MAX;

impl Pump {
    fn run(mut self, mut from: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        let mut waiting = Vec::new();
        loop {
            match from.read(&mut piece) {
                Ok(0) => {
                    let _ = self.send(&waiting).and_then(|()| self.finish());
                    return;
                }
                Ok(count) => {
                    waiting.extend_from_slice(&piece[..count]);
                    if self.carry(&mut waiting).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // Reset by the sender: the receiver learns it the same way, unless it is to learn nothing now.
                    if let Ok(mut state) = self.gate() {
                        self.shared.end(&mut state, self.id, How::Rst);
                    }
                    return;
                }
            }
        }
    }

    /// Passes on whole packets and keeps the beginning of the next one.
    fn carry(&mut self, waiting: &mut Vec<u8>) -> Result<(), Over> {
        let delay = self.shared.lock().delay[self.way as usize];
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        let (mut sent, mut seen) = (0, 0);
        while let Some(length) = self.shared.protocol.first_packet(self.way, &waiting[seen..]) {
            let packet = seen..seen + length;
            if let Some(pulled) = self.pull(&waiting[packet.clone()]) {
                self.send(&waiting[sent..packet.start])?;
                self.obey(&pulled, &waiting[packet.clone()])?;
                sent = packet.end;
            }
            seen = packet.end;
        }
        self.send(&waiting[sent..seen])?;
        waiting.drain(..seen);
        Ok(())
    }

    /// The trigger that this packet pulls, if any.
    fn pull(&self, packet: &[u8]) -> Option<(Moment, Act, u64)> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let connection = state.connections.get_mut(&self.id)?;
        let label = connection.dialogue.label(self.shared.protocol, self.way, packet);
        if state.swallowed.is_some_and(|sign| label.bears(sign)) {
            return Some((Moment::Before, Act::Swallow, NOBODY));
        }
        if state.cut_at_every.is_some_and(|sign| label.bears(sign)) {
            return Some((Moment::Before, Act::Cut(How::Fin), NOBODY));
        }
        let mut pulled = None;
        state.triggers.retain_mut(|trigger| {
            if !label.bears(trigger.sign) {
                return true;
            }
            if trigger.skip > 0 || pulled.is_some() {
                trigger.skip = trigger.skip.saturating_sub(1);
                return true;
            }
            pulled = Some((trigger.moment, trigger.act, trigger.watch));
            false
        });
        pulled
    }

    fn obey(&mut self, &(moment, act, watch): &(Moment, Act, u64), packet: &[u8]) -> Result<(), Over> {
        // The action on the answer has to be set before the question is passed on.
        if matches!(act, Act::CutAtAnswer | Act::HoldAnswer) {
            self.with_connection(|connection, back| connection.answer[back] = Some((act, watch)))?;
            return self.send(packet);
        }
        if moment == Moment::After && act != Act::Swallow {
            self.send(packet)?;
        }
        match act {
            Act::Cut(how) => self.shared.end(&mut self.shared.lock(), self.id, how),
            Act::Stall => self.with_connection(|connection, _| connection.stalled = [true; 2])?,
            Act::Pass | Act::CutAtAnswer | Act::HoldAnswer | Act::Swallow => {}
        }
        self.shared.fire(&mut self.shared.lock(), watch);
        let is_passed_on = moment == Moment::Before && act != Act::Swallow;
        if is_passed_on { self.send(packet) } else { Ok(()) }
    }

    fn with_connection(&self, change: impl FnOnce(&mut Connection, usize)) -> Result<(), Over> {
        let mut state = self.shared.lock();
        let connection = state.connections.get_mut(&self.id).ok_or(Over)?;
        change(connection, self.way.back() as usize);
        Ok(())
    }

    /// Waits while this way is stalled.
    fn gate(&self) -> Result<std::sync::MutexGuard<'_, State>, Over> {
        let way = self.way as usize;
        let is_kept = |state: &mut State| {
            let connection = state.connections.get(&self.id);
            connection.is_some_and(|connection| state.stalled[way] || connection.stalled[way])
        };
        let state = self.shared.lock();
        let state = self.shared.changed.wait_while(state, is_kept).map_err(|_| Over)?;
        if state.connections.contains_key(&self.id) { Ok(state) } else { Err(Over) }
    }

    /// Passes bytes on as soon as they may go.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.meet_answer()?;
        let way = self.way as usize;
        let (most, cut) = {
            let mut state = self.gate()?;
            match &mut state.cut_at[way] {
                Some((left, how, watch)) if *left <= bytes.len() as u64 => {
                    let cut = (usize::try_from(*left).unwrap(), Some((*how, *watch)));
                    state.cut_at[way] = None;
                    cut
                }
                Some((left, ..)) => {
                    *left -= bytes.len() as u64;
                    (bytes.len(), None)
                }
                None => (bytes.len(), None),
            }
        };
        self.write(&bytes[..most])?;
        let Some((how, watch)) = cut else { return Ok(()) };
        let mut state = self.shared.lock();
        self.shared.end(&mut state, self.id, how);
        self.shared.fire(&mut state, watch);
        Err(Over)
    }

    /// The next bytes this way may be an answer that a trigger waits for.
    fn meet_answer(&self) -> Result<(), Over> {
        let way = self.way as usize;
        let mut state = self.shared.lock();
        let connection = state.connections.get_mut(&self.id).ok_or(Over)?;
        let Some((act, watch)) = connection.answer[way].take() else { return Ok(()) };
        connection.stalled[way] = act == Act::HoldAnswer;
        let is_over = act == Act::CutAtAnswer;
        if is_over {
            self.shared.end(&mut state, self.id, How::Rst);
        }
        self.shared.fire(&mut state, watch);
        if is_over { Err(Over) } else { Ok(()) }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        while !bytes.is_empty() {
            match self.to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    drop(self.gate()?);
                }
                Err(_) => {
                    let mut state = self.shared.lock();
                    let half_closed =
                        state.connections.get(&self.id).is_some_and(|c| c.half_closed[self.way as usize]);
                    if !half_closed {
                        self.shared.end(&mut state, self.id, How::Rst);
                        return Err(Over);
                    }
                    // The receiver had its end of stream. The sender need not know.
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The sender is done: so is this way, and with the other way the connection.
    fn finish(&mut self) -> Result<(), Over> {
        let mut state = self.gate()?;
        let _ = self.to.shutdown(Shutdown::Write);
        let connection = state.connections.get_mut(&self.id).ok_or(Over)?;
        connection.ended[self.way as usize] = true;
        if connection.ended == [true; 2] {
            state.connections.remove(&self.id);
        }
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// Makes the close of the stream's last handle a RST, and ends its readers.
pub(super) fn end_reading_to_reset(stream: &TcpStream) {
    if let Ok(copy) = stream.try_clone() {
        let _ = tokio::net::TcpSocket::from_std_stream(copy).set_zero_linger();
    }
    let _ = stream.shutdown(Shutdown::Read);
}
