//! Tests of the proxy that the fault tests rely on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use test_support::proxy::{Act, How, Mqtt, Proxy, Sign, Way};
use test_support::{PATIENCE, eventually};

const PUBACK: [u8; 4] = [0x40, 2, 0, 7];
const PUBLISH: [u8; 6] = [0x32, 4, 0, 0, 0, 7];

/// A client and a server with a proxy between them.
struct Pair {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

fn pair(proxy: impl FnOnce(SocketAddr) -> Proxy) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = proxy(listener.local_addr().unwrap());
    let (client, server) = (connect(&proxy), patient(listener.accept().unwrap().0));
    // The server is connected to before the proxy counts the connection as one of its own.
    proxy.wait_for_taken(1);
    Pair { proxy, listener, client, server }
}

fn connect(proxy: &Proxy) -> TcpStream {
    patient(TcpStream::connect(proxy.address()).unwrap())
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Reads to the end. Returns the bytes, and whether the end was orderly.
fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    (bytes, end.is_ok())
}

fn mysql(sequence: u8, command: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(rest.len() + 1).unwrap();
    [&[length, 0, 0, sequence, command], rest].concat()
}

#[test]
fn proxy_passes_bytes_and_ends() {
    let mut pair = pair(Proxy::to);
    pair.client.write_all(b"there").unwrap();
    assert_eq!(read(&mut pair.server, 5), b"there");
    pair.server.write_all(b"and back").unwrap();
    assert_eq!(read(&mut pair.client, 8), b"and back");
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut pair.server), (vec![], true));
    pair.server.write_all(b"still here").unwrap();
    drop(pair.server);
    assert_eq!(read_to_end(&mut pair.client), (b"still here".to_vec(), true));
    eventually("the connection to be forgotten", || (pair.proxy.connections() == 0).then_some(()));
}

#[test]
fn cut_is_orderly_or_reset() {
    for (how, in_order) in [(How::Fin, true), (How::Rst, false)] {
        let mut pair = pair(Proxy::to);
        pair.client.write_all(b"x").unwrap();
        read(&mut pair.server, 1);
        pair.proxy.cut(how);
        assert_eq!(read_to_end(&mut pair.client), (vec![], in_order), "{how:?}");
        assert_eq!(read_to_end(&mut pair.server), (vec![], in_order), "{how:?}");
    }
}

#[test]
fn a_closed_port_refuses_and_takes_again() {
    let pair = pair(Proxy::to);
    pair.proxy.refuse();
    let refused = TcpStream::connect(pair.proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    pair.proxy.accept();
    let _client = connect(&pair.proxy);
    pair.listener.accept().unwrap();
}

#[test]
fn stalled_way_holds_bytes_other_goes_on() {
    let mut pair = pair(Proxy::to);
    pair.proxy.stall(Way::ToServer);
    pair.client.write_all(b"kept").unwrap();
    pair.server.write_all(b"passes").unwrap();
    assert_eq!(read(&mut pair.client, 6), b"passes");
    pair.client.shutdown(std::net::Shutdown::Write).unwrap();
    pair.server.set_nonblocking(true).unwrap();
    assert_eq!(pair.server.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    pair.server.set_nonblocking(false).unwrap();
    pair.proxy.flow();
    assert_eq!(read_to_end(&mut pair.server), (b"kept".to_vec(), true));
}

#[test]
fn half_closed_way_spares_the_other() {
    let mut pair = pair(Proxy::to);
    pair.proxy.half_close(Way::ToServer);
    assert_eq!(read_to_end(&mut pair.server), (vec![], true));
    pair.client.write_all(b"into the void").unwrap();
    pair.server.write_all(b"passes").unwrap();
    assert_eq!(read(&mut pair.client, 6), b"passes");
}

#[test]
fn a_delay_holds_each_piece_that_long() {
    let mut pair = pair(Proxy::to);
    let delay = Duration::from_millis(200);
    pair.proxy.delay(Way::ToClient, delay);
    let asked = Instant::now();
    pair.server.write_all(b"slow").unwrap();
    assert_eq!(read(&mut pair.client, 4), b"slow");
    // A lower bound is no matter of how busy the machine is.
    assert!(asked.elapsed() >= delay);
}

#[test]
fn exactly_the_chosen_number_of_bytes_passes() {
    let mut pair = pair(Proxy::to);
    let cut = pair.proxy.cut_at_byte(Way::ToServer, 7, How::Fin);
    pair.client.write_all(b"01234").unwrap();
    assert_eq!(read(&mut pair.server, 5), b"01234");
    assert!(!cut.has_fired());
    pair.client.write_all(b"56789").unwrap();
    cut.wait();
    assert_eq!(read_to_end(&mut pair.server), (b"56".to_vec(), true));
    assert_eq!(read_to_end(&mut pair.client).0, b"");
}

#[test]
fn nth_packet_is_found_in_any_fragments() {
    let mut pair = pair(Proxy::to_mqtt);
    let before = pair.proxy.at(Sign::Packet(Way::ToServer, Mqtt::Puback), 2).before(Act::Cut(How::Fin));
    let stream = [&PUBLISH[..], &PUBACK, &PUBLISH, &PUBACK, &PUBLISH].concat();
    let (first, rest) = stream.split_at(8);
    pair.client.write_all(first).unwrap();
    assert_eq!(read(&mut pair.server, 6), PUBLISH);
    pair.client.write_all(rest).unwrap();
    before.wait();
    assert_eq!(read_to_end(&mut pair.server).0, [&PUBACK[..], &PUBLISH].concat());
}

#[test]
fn armed_filter_ends_connections_until_disarmed() {
    // SUBSCRIBE and UNSUBSCRIBE of `bad` under the packet identifier 1.
    let packets = [&b"\x82\x08\0\x01\0\x03bad\x01"[..], b"\xA2\x07\0\x01\0\x03bad"];
    let other = b"\xA2\x08\0\x01\0\x04good";
    for packet in packets {
        let mut pair = pair(Proxy::to_mqtt);
        pair.proxy.cut_at_every(Sign::Filter("bad"));
        pair.client.write_all(&[other, packet, other].concat()).unwrap();
        assert_eq!(read_to_end(&mut pair.server).0, other);
        pair.proxy.disarm();
        let (mut client, mut server) = (connect(&pair.proxy), pair.listener.accept().unwrap().0);
        client.write_all(packet).unwrap();
        assert_eq!(read(&mut server, packet.len()), packet);
    }
}

#[test]
fn after_packet_means_passed_on() {
    let mut pair = pair(Proxy::to_mqtt);
    let after = pair.proxy.at(Sign::Packet(Way::ToServer, Mqtt::Puback), 1).after(Act::Stall);
    pair.client.write_all(&[&PUBACK[..], &PUBLISH].concat()).unwrap();
    assert_eq!(read(&mut pair.server, 4), PUBACK);
    after.wait();
    pair.server.write_all(&PUBLISH).unwrap();
    pair.proxy.flow();
    assert_eq!(read(&mut pair.server, 6), PUBLISH);
    assert_eq!(read(&mut pair.client, 6), PUBLISH);
}

#[test]
fn statement_answer_is_swallowed_with_connection() {
    let mut pair = pair(Proxy::to_mysql);
    let cut = pair.proxy.at(Sign::Statement("commit"), 2).after(Act::CutAtAnswer);
    let (commit, done) = (mysql(0, 3, b"COMMIT"), mysql(1, 0, b""));
    let commit_once = |pair: &mut Pair| {
        pair.client.write_all(&commit).unwrap();
        assert_eq!(read(&mut pair.server, commit.len()), commit);
        pair.server.write_all(&done).unwrap();
    };
    commit_once(&mut pair);
    assert_eq!(read(&mut pair.client, done.len()), done);
    assert!(!cut.has_fired());
    commit_once(&mut pair);
    cut.wait();
    assert_eq!(read_to_end(&mut pair.client), (vec![], false));
}

#[test]
fn an_answer_is_held_until_it_may_flow() {
    let mut pair = pair(Proxy::to_mysql);
    let held = pair.proxy.at(Sign::Statement("COMMIT"), 1).after(Act::HoldAnswer);
    pair.client.write_all(&mysql(0, 3, b"commit")).unwrap();
    read(&mut pair.server, 11);
    assert!(!held.has_fired(), "there is no answer yet");
    pair.server.write_all(&mysql(1, 0, b"")).unwrap();
    held.wait();
    pair.proxy.flow();
    assert_eq!(read(&mut pair.client, 5), mysql(1, 0, b""));
}

#[test]
fn prepared_statement_is_known_by_text() {
    let mut pair = pair(Proxy::to_mysql);
    let sign = Sign::Statement("INSERT INTO data");
    let met = pair.proxy.at(sign, 1).before(Act::Cut(How::Rst));
    // A handshake packet that looks like a query has another sequence number.
    for packet in [mysql(1, 3, b"INSERT INTO data"), mysql(0, 0x16, b"insert into data values (?)")] {
        pair.client.write_all(&packet).unwrap();
        assert_eq!(read(&mut pair.server, packet.len()), packet);
    }
    let named = mysql(1, 0, &[9, 0, 0, 0]);
    pair.server.write_all(&named).unwrap();
    assert_eq!(read(&mut pair.client, named.len()), named);
    assert!(!met.has_fired());
    pair.client.write_all(&mysql(0, 0x17, &[9, 0, 0, 0, 0])).unwrap();
    met.wait();
    assert_eq!(read_to_end(&mut pair.server), (vec![], false));
}

fn postgres(kind: u8, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], rest].concat()
}

#[test]
fn postgres_statement_is_known_by_text() {
    let mut pair = pair(Proxy::to_postgres);
    let met = pair.proxy.at(Sign::Statement("INSERT INTO data"), 1).before(Act::Cut(How::Rst));
    // The request for TLS and the start-up packet have no type.
    let handshake = [&[0, 0, 0, 8, 4, 210, 22, 47][..], &[0, 0, 0, 9, 0, 3, 0, 0, 0]].concat();
    let prepared = [
        postgres(b'P', b"one\0insert into \"data\" values ($1)\0\0\0"),
        postgres(b'P', b"two\0SELECT 1\0\0\0"),
        postgres(b'B', b"\0one\0\0\0\0\0\0\0"),
        postgres(b'B', b"\0two\0\0\0\0\0\0\0"),
        postgres(b'E', b"\0\0\0\0\0"),
        postgres(b'S', b""),
    ];
    let passing = [handshake, prepared.concat()].concat();
    pair.client.write_all(&passing).unwrap();
    assert_eq!(read(&mut pair.server, passing.len()), passing);
    // Its answer to the question has no length.
    pair.server.write_all(b"N").unwrap();
    assert_eq!(read(&mut pair.client, 1), b"N");
    assert!(!met.has_fired());
    let bound = postgres(b'B', b"\0one\0\0\0\0\0\0\0");
    pair.client.write_all(&[bound.clone(), postgres(b'E', b"\0\0\0\0\0")].concat()).unwrap();
    met.wait();
    assert_eq!(read_to_end(&mut pair.server), (bound, false));
}
