//! A broker of another maker, started by a script of `starters`, and the cases for all of them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::overlap::{Found, Overlap};
use test_support::mosquitto::Broker;
use test_support::process::Gateway;
use test_support::publisher::{Login, Publisher};
use test_support::world::{Backend, World, text_of};
use test_support::{eventually, eventually_within, net};

pub(crate) const PASSWORD: &str = "a-word";

/// Erlang takes its time, above all beside other tests.
const STARTING: Duration = Duration::from_mins(3);

/// How often a gateway is ended in the midst of a stream.
pub(crate) const ENDS: usize = 3;

/// How a gateway ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Orderly,
    Kill,
}

/// Ends with this value: its starter kills it when it has no standard input any more.
pub(crate) struct Peer {
    starter: Child,
    _directory: TempDir,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Started by the command that `starter` makes of a directory and four ports. The first port is for MQTT.
    pub(crate) fn start(starter: impl FnOnce(&Path, [String; 4]) -> Command) -> Peer {
        let directory = TempDir::new().unwrap();
        let ports = [(); 4].map(|()| net::free_port());
        let mut command = starter(directory.path(), ports.map(|port| port.to_string()));
        let mut starter = command.stdin(Stdio::piped()).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
        eventually_within(STARTING, "the broker's port", || {
            assert!(starter.try_wait().unwrap().is_none(), "{command:?} has ended");
            net::answers(address).then_some(())
        });
        Peer { starter, _directory: directory, address }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.starter.stdin.take());
        let _ = self.starter.wait();
    }
}

/// The path of a file among the starters.
pub(crate) fn starter(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/peers/starters").join(name)
}

/// A world with a broker at this address, at which only this user may connect.
pub(crate) fn world_at(broker: SocketAddr, user: &str) -> World {
    let world = World::without_broker(Backend::MariaDb, Broker::shared());
    world.add_server(&broker.ip().to_string(), Some(broker.port()), Some(true), Some(true));
    use_credentials(&world, user, PASSWORD);
    assert!(world.command(&["migrate"]).status.success());
    world
}

fn use_credentials(world: &World, user: &str, password: &str) {
    let credentials = [user.into(), password.into()];
    world.sql.execute("UPDATE mqtt_servers SET username = ?, password = ?", credentials);
}

/// `check` gives this reason for a wrong password, and accepts the right one.
pub(crate) fn assert_check_tells_a_wrong_password(world: &World, user: &str, reason: &str) {
    use_credentials(world, user, "another-word");
    let checked = world.command(&["check"]);
    let told = text_of(&checked);
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains(reason), "{told}");
    use_credentials(world, user, PASSWORD);
    // A broker may make a client wait that has just failed.
    eventually("check to accept the broker", || world.command(&["check"]).status.success().then_some(()));
}

pub(crate) fn publisher_at(broker: SocketAddr, user: &str) -> Publisher {
    let credentials = Some((user.to_owned(), PASSWORD.to_owned()));
    Publisher::connect_as(broker, Login { client_id: "device".to_owned(), credentials })
}

/// Restarts the gateway in the midst of a stream of messages, again and again.
pub(crate) fn restart_under_load(
    end: End,
    world: &World,
    overlap: &mut Overlap,
    publisher: &mut Publisher,
    mut gateway: Gateway,
) -> Gateway {
    for _ in 0..ENDS {
        publisher.publish_all(overlap.next(world, 1_000));
        match end {
            End::Orderly => assert_eq!(gateway.stop(), Some(0)),
            End::Kill => gateway.kill(),
        }
        // The session has to keep these.
        publisher.publish_all(overlap.next(world, 1_000));
        gateway = world.start();
        gateway.wait_for_line("Connected to the broker");
    }
    publisher.publish_all(overlap.next(world, 1_000));
    overlap.wait_until_stored(world);
    gateway
}

/// Serves flows whose topics overlap, with orderly ends and kills, and a backlog each time. Nothing may be lost.
/// Returns the other deviations.
pub(crate) fn serve(maker: &str, peer: &Peer, user: &str) -> Found {
    let world = world_at(peer.address, user);
    assert_check_tells_a_wrong_password(&world, user, "username and password");
    let mut overlap = Overlap::over(&world);
    let gateway = world.start();
    gateway.wait_for_line("\"Subscribed\"");
    let mut publisher = publisher_at(peer.address, user);
    publisher.publish_all(overlap.next(&world, 1_000));
    overlap.wait_until_stored(&world);
    let gateway = restart_under_load(End::Orderly, &world, &mut overlap, &mut publisher, gateway);
    let after_orderly_ends = overlap.compare(&world);
    let mut gateway = restart_under_load(End::Kill, &world, &mut overlap, &mut publisher, gateway);
    assert_eq!(gateway.stop(), Some(0));
    let found = overlap.compare(&world);
    let _ = writeln!(
        std::io::stderr(),
        "{maker}: {ENDS} orderly ends {after_orderly_ends:?}, {ENDS} kills {found:?}"
    );
    assert_eq!((after_orderly_ends.twice, found.lost), (0, 0));
    found
}
