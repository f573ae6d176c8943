//! A TCP proxy between the gateway and one of its peers, which breaks the connection the way a test says.
//!
//! ```text
//!   gateway ──Way::ToServer──▶ proxy ──▶ mosquitto, MariaDB, PostgreSQL, endpoint
//!           ◀──Way::ToClient──
//! ```
//!
//! Calls for tests, at any time and from any thread:
//!
//! | call | effect |
//! | --- | --- |
//! | `cut(How)` | every connection ends, by FIN or by RST |
//! | `lead_to(server)` | new connections go to another server |
//! | `refuse()`, `accept()` | new connections are refused as if nobody listened, or taken again |
//! | `stall(Way)`, `flow()` | bytes that way (and their end) are kept; `flow` lets everything kept go on |
//! | `half_close(Way)` | the receiver that way is told that no more comes; the other way goes on |
//! | `delay(Way, Duration)` | each piece that is read waits that long; zero ends it |
//! | `cut_at_byte(Way, n, How)` | exactly `n` more bytes pass that way (of all connections together), then their connection ends |
//! | `at(Sign, nth).before(Act)`, `.after(Act)` | at the `nth` such packet from now on, see [`Sign`] and [`Act`] |
//! | `cut_at_every(Sign)` | each such packet ends its connection and is not passed on |
//! | `disarm()` | no trigger and no cut is set any more |
//!
//! Triggers and cuts at a byte give a [`Watch`]: `wait()` returns when it has happened. Nothing here needs a sleep.
//!
//! ```text
//! let proxy = world.reach_database_by_proxy();
//! // The third COMMIT is done, its answer never arrives.
//! let cut = proxy.at(Sign::Statement("COMMIT"), 3).after(Act::CutAtAnswer);
//! …
//! cut.wait();
//! ```

mod mysql;
mod postgres;
mod pump;
mod wire;

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::wire::{Dialogue, Protocol};
use super::{PATIENCE, eventually};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

impl Way {
    pub fn back(self) -> Way {
        match self {
            Way::ToServer => Way::ToClient,
            Way::ToClient => Way::ToServer,
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In order, as by `close`; the kernel makes a RST of it when unread bytes are left.
    Fin,
    /// At once, as by a host that forgot the connection.
    Rst,
}

/// A packet that a test waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A statement under way to the server whose text contains this, upper and lower case alike and whatever quotes its
    /// names have: sent as text, or prepared earlier and now executed. Preparing it is no sign.
    Statement(&'static str),
    /// An MQTT packet of this type, on its way to the broker or from it.
    Packet(Way, Mqtt),
    /// A SUBSCRIBE or UNSUBSCRIBE of a filter that contains this.
    Filter(&'static str),
}

/// Types of MQTT packets, by their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mqtt {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
}

/// Action of a trigger on the connection that pulled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing: the test only wants to know.
    Pass,
    /// The connection ends. Before the packet: it is not passed on. After: it is, and the peer may or may not act on
    /// it.
    Cut(How),
    /// Everything both ways is kept until `flow()`; before the packet: it, too.
    Stall,
    /// The next bytes the other way, the answer, end the connection and are not passed on: the peer has done what it
    /// was asked, and whoever asked never hears it.
    CutAtAnswer,
    /// The answer is kept until `flow()`. Fires when the answer is there.
    HoldAnswer,
    /// The packet is not passed on, whatever the moment; all others are.
    Swallow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// Lives as long as the value; dropping it ends all connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: Mutex<SocketAddr>,
    protocol: Protocol,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    refusing: bool,
    listening: bool,
    /// Both ways, for all connections, also later ones.
    stalled: [bool; 2],
    delay: [Duration; 2],
    connections: HashMap<u64, Connection>,
    /// All that were ever taken.
    taken: u64,
    triggers: Vec<Trigger>,
    /// Packets that are not passed on.
    swallowed: Option<Sign>,
    /// Packets that end their connection.
    cut_at_every: Option<Sign>,
    /// Bytes that may still pass, and the action after them.
    cut_at: [Option<(u64, How, u64)>; 2],
    fired: HashMap<u64, bool>,
    watches: u64,
}

/// Gone from the map is over: its pumps end when they see that.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    dialogue: Dialogue,
    stalled: [bool; 2],
    /// The receiver had its end of stream.
    half_closed: [bool; 2],
    /// Fate of the next bytes this way.
    answer: [Option<(Act, u64)>; 2],
    /// Ways on which the sender has said that it is done.
    ended: [bool; 2],
}

struct Trigger {
    sign: Sign,
    /// How many such packets pass before it.
    skip: usize,
    moment: Moment,
    act: Act,
    watch: u64,
}

/// Something that will happen at the proxy.
#[must_use = "what is not awaited may not have happened"]
pub struct Watch {
    shared: Arc<Shared>,
    id: u64,
}

impl Watch {
    /// Returns when it has happened.
    ///
    /// # Panics
    /// When it has not within [`PATIENCE`].
    pub fn wait(&self) {
        self.shared.wait_until("the trigger of the proxy", |state| state.fired[&self.id]);
    }

    pub fn has_fired(&self) -> bool {
        self.shared.lock().fired[&self.id]
    }
}

/// A trigger without an action yet.
pub struct At<'a> {
    proxy: &'a Proxy,
    sign: Sign,
    nth: usize,
}

impl At<'_> {
    /// When the packet is there and has not been passed on.
    pub fn before(self, act: Act) -> Watch {
        self.set(Moment::Before, act)
    }

    /// When the packet has been passed on.
    pub fn after(self, act: Act) -> Watch {
        self.set(Moment::After, act)
    }

    fn set(self, moment: Moment, act: Act) -> Watch {
        let mut state = self.proxy.shared.lock();
        let watch = state.new_watch();
        state.triggers.push(Trigger { sign: self.sign, skip: self.nth - 1, moment, act, watch });
        Watch { shared: Arc::clone(&self.proxy.shared), id: watch }
    }
}

impl Proxy {
    /// Does not parse the bytes, so no [`Sign`] is ever seen.
    pub fn to(server: SocketAddr) -> Proxy {
        Proxy::with(server, Protocol::Raw)
    }

    /// To MariaDB or its relatives, without TLS.
    pub fn to_mysql(server: SocketAddr) -> Proxy {
        Proxy::with(server, Protocol::MySql)
    }

    /// To `PostgreSQL`, without TLS.
    pub fn to_postgres(server: SocketAddr) -> Proxy {
        Proxy::with(server, Protocol::Postgres)
    }

    /// To an MQTT broker, without TLS.
    pub fn to_mqtt(server: SocketAddr) -> Proxy {
        Proxy::with(server, Protocol::Mqtt)
    }

    fn with(server: SocketAddr, protocol: Protocol) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State { listening: true, ..State::default() });
        let shared =
            Arc::new(Shared { server: Mutex::new(server), protocol, state, changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || pump::accept(&accepting, listener, address));
        Proxy { address, shared }
    }

    /// Where the gateway has to be pointed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead to this server.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server.lock().unwrap() = server;
    }

    /// Connections that are there now.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// All connections that were ever taken.
    pub fn taken(&self) -> u64 {
        self.shared.lock().taken
    }

    /// Waits until `count` connections have been taken since the beginning.
    pub fn wait_for_taken(&self, count: u64) {
        self.shared.wait_until(&format!("connection {count}"), |state| state.taken >= count);
    }

    pub fn cut(&self, how: How) {
        let mut state = self.shared.lock();
        let all: Vec<u64> = state.connections.keys().copied().collect();
        for id in all {
            self.shared.end(&mut state, id, how);
        }
    }

    /// Returns when the port is closed.
    pub fn refuse(&self) {
        self.shared.lock().refusing = true;
        // The listener blocks in accept. A last connection wakes it.
        let _ = TcpStream::connect(self.address);
        self.shared.wait_until("the port to be closed", |state| !state.listening);
    }

    /// Returns when the port is open.
    pub fn accept(&self) {
        self.shared.lock().refusing = false;
        self.shared.changed.notify_all();
        self.shared.wait_until("the port to be open", |state| state.listening);
    }

    pub fn stall(&self, way: Way) {
        self.shared.lock().stalled[way as usize] = true;
    }

    /// Packets with this sign are not passed on, and all others are, until `flow()`.
    pub fn swallow(&self, sign: Sign) {
        self.shared.lock().swallowed = Some(sign);
    }

    /// Packets with this sign end their connection, until `disarm()`.
    pub fn cut_at_every(&self, sign: Sign) {
        self.shared.lock().cut_at_every = Some(sign);
    }

    /// Ends every stall, of all connections and of single ones. Swallowed bytes are lost.
    pub fn flow(&self) {
        let mut state = self.shared.lock();
        state.stalled = [false; 2];
        state.swallowed = None;
        for connection in state.connections.values_mut() {
            connection.stalled = [false; 2];
        }
        self.shared.changed.notify_all();
    }

    /// Later bytes that way are lost.
    pub fn half_close(&self, way: Way) {
        for connection in self.shared.lock().connections.values_mut() {
            connection.half_closed[way as usize] = true;
            let _ = connection.receiver(way).shutdown(Shutdown::Write);
        }
    }

    pub fn delay(&self, way: Way, delay: Duration) {
        self.shared.lock().delay[way as usize] = delay;
    }

    pub fn cut_at_byte(&self, way: Way, bytes: u64, how: How) -> Watch {
        let mut state = self.shared.lock();
        let watch = state.new_watch();
        state.cut_at[way as usize] = Some((bytes, how, watch));
        Watch { shared: Arc::clone(&self.shared), id: watch }
    }

    /// Takes back all triggers and cuts at a byte that have not come to pass.
    pub fn disarm(&self) {
        let mut state = self.shared.lock();
        state.triggers.clear();
        state.cut_at_every = None;
        state.cut_at = [None; 2];
    }

    /// At the `nth` packet with this sign from now on, counted from 1, of all connections together.
    pub fn at(&self, sign: Sign, nth: usize) -> At<'_> {
        assert!(nth > 0, "the first is 1");
        At { proxy: self, sign, nth }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.cut(How::Fin);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    /// A test that panics must not take the others' proxy with it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut(&State) -> bool) {
        let (state, waited) =
            self.changed.wait_timeout_while(self.lock(), PATIENCE, |state| !is_so(state)).unwrap();
        drop(state);
        assert!(!waited.timed_out(), "timed out waiting for: {what}");
    }

    fn fire(&self, state: &mut State, watch: u64) {
        state.fired.insert(watch, true);
        self.changed.notify_all();
    }

    fn end(&self, state: &mut State, id: u64, how: How) {
        let Some(connection) = state.connections.remove(&id) else { return };
        for stream in [&connection.client, &connection.server] {
            match how {
                How::Fin => {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                // Sent when the last handle is closed; this wakes up the pump that holds it.
                How::Rst => pump::end_reading_to_reset(stream),
            }
        }
        self.changed.notify_all();
    }
}

impl State {
    fn new_watch(&mut self) -> u64 {
        self.watches += 1;
        self.fired.insert(self.watches, false);
        self.watches
    }
}

impl Connection {
    fn receiver(&self, way: Way) -> &TcpStream {
        match way {
            Way::ToServer => &self.server,
            Way::ToClient => &self.client,
        }
    }
}

/// Opens a port again that was just closed. An outgoing connection of another process may have it meanwhile.
fn open_again(address: SocketAddr) -> TcpListener {
    eventually("the proxy's port to be free again", || TcpListener::bind(address).ok())
}
