//! Clients that mean no good: messages flow as if they were not there, and others are answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::admin::{wait_for, wait_for_value};
use test_support::http::{admin_of, get, try_request};
use test_support::oracle::Load;
use test_support::world::{Backend, World};

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

/// Messages are processed and probes answered.
fn nobody_is_hurt(world: &World, load: &mut Load, admin: SocketAddr) {
    let messages = load.next(world, 500);
    world.publish_all(messages);
    load.wait_until_stored(world);
    assert_eq!(get(admin, "/health/live").status, 200);
    assert_eq!(get(admin, "/metrics").status, 200);
}

#[test]
fn slow_idle_greedy_and_rude_clients_hurt_nobody() {
    let mut world = World::on(Backend::MariaDb);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);

    let idle: Vec<TcpStream> = (0..200).map(|_| connect(admin)).collect();
    nobody_is_hurt(&world, &mut load, admin);

    let greedy: Vec<TcpStream> = (0..100).map(|_| never_reads(admin)).collect();
    nobody_is_hurt(&world, &mut load, admin);

    let endless = vec![b'A'; 200_000];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| one_byte_a_second(admin, &over));
        for rude in [&b"\0\xff garbage\r\n\r\n"[..], b"GET /metrics HTTP/9.9\r\n\r\n", &endless] {
            // It may be thrown out before it has said all.
            let _ = connect(admin).write_all(rude);
        }
        let _ = try_request(admin, "POST", "/metrics");
        nobody_is_hurt(&world, &mut load, admin);
        over.store(true, Ordering::SeqCst);
    });
    drop((idle, greedy));
    wait_for_value(admin, "mqtt_gateway_ready", 1.0);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// In the order in which they came, a probe would be answered when the last of those before it was thrown out.
#[test]
fn held_connections_do_not_block_probes() {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    let gateway = world.start();
    let admin = admin_of(&gateway);
    let held: Vec<TcpStream> = (0..600).map(|_| never_reads(admin)).collect();
    assert_eq!(get(admin, "/health/live").status, 200);
    // One of the newer ones, which would have been served and thrown out before the probe.
    let newer = &held[500];
    newer.set_nonblocking(true).unwrap();
    let mut answers = vec![0; 1 << 20];
    let end = loop {
        match (&*newer).read(&mut answers) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(end, Some(ErrorKind::WouldBlock), "it was thrown out before the probe was answered");
}

/// The message path has priority over a flood of requests.
#[test]
fn admin_threads_have_low_priority() {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    world.flow("F", "f").insert(&world.sql);
    let gateway = world.start();
    gateway.wait_for_line("Subscribed");
    assert_eq!(get(admin_of(&gateway), "/health/live").status, 200);
    let threads = gateway.threads();
    let nice_of = |name: &str| -> Vec<i32> {
        threads.iter().filter(|(thread, _)| thread.starts_with(name)).map(|(_, nice)| *nice).collect()
    };
    // The tests may run at low priority themselves, and 19 is the lowest.
    let on_the_way = rustix::process::getpriority_process(None).unwrap();
    let of_the_port = (on_the_way + 10).min(19);
    assert_eq!(nice_of("admin-http"), [of_the_port], "{threads:?}");
    assert_eq!(nice_of("MQTTAsync_rcv"), [on_the_way], "{threads:?}");
    // The server's worker has a thread of the actor system as the actors have, of whom there are five at least.
    let mut of_the_actor_system = nice_of("actix-rt");
    of_the_actor_system.sort_unstable();
    assert_eq!(of_the_actor_system.pop(), Some(of_the_port), "{threads:?}");
    assert!(of_the_actor_system.len() >= 5, "{threads:?}");
    assert!(of_the_actor_system.iter().all(|nice| *nice == on_the_way), "{threads:?}");
}

/// Asks again and again on one connection, and takes no answer.
fn never_reads(admin: SocketAddr) -> TcpStream {
    let mut stream = connect(admin);
    let request = "GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n".repeat(200);
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let _ = stream.write_all(request.as_bytes());
    stream
}

fn one_byte_a_second(admin: SocketAddr, over: &AtomicBool) {
    let mut stream = connect(admin);
    for byte in b"GET /health/live HTTP/1.1\r\n" {
        if over.load(Ordering::SeqCst) || stream.write_all(&[*byte]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_client_that_never_reads_is_thrown_out() {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    let gateway = world.start();
    let admin = admin_of(&gateway);
    let mut greedy = never_reads(admin);
    // The gateway closes it at its maximum age. Bytes sent until then are read here.
    let mut rest = Vec::new();
    let _ = greedy.read_to_end(&mut rest);
    assert_eq!(get(admin, "/health/live").status, 200);
}
