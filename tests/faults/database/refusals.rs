//! A server that is there and does not write: read-only, full, without a table.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use test_support::eventually_within;
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::world::{Backend, World, text_of};

use super::reconnected;

/// Publishes into a server that refuses, mends it when the gateway has complained, and sees that all arrives.
fn waits_until(world: &World, complaint: &str, refuse: impl FnOnce(), mend: impl FnOnce()) {
    let mut load = Load::over(world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(world, 300);
    world.publish_all(messages);
    load.wait_until_stored(world);
    refuse();
    let messages = load.next(world, 1_000);
    world.publish_all(messages);
    gateway.wait_for_line_that(complaint, &|line| {
        line.contains("Database refuses, nothing is lost") && line.contains(complaint)
    });
    mend();
    let messages = load.next(world, 300);
    world.publish_all(messages);
    load.wait_until_stored(world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(world), [0; 0]);
    assert_eq!(world.dead_letters(), [], "nothing was wrong with the messages");
    assert!(!gateway.stderr().contains("restarted"), "an outage is no reason to restart anything");
}

#[test]
fn a_read_only_server_is_waited_for() {
    let server = MariaDbServer::new();
    let world = World::on_server(&server, Broker::shared());
    let read_only = |on| world.sql.run(&format!("SET GLOBAL read_only = {on}"));
    waits_until(&world, "read-only", || read_only(1), || read_only(0));
}

/// The server's tablespace may not grow. The server reports a full disk.
#[test]
fn full_server_files_are_waited_out() {
    let one_file = |most: &str| {
        [
            format!("--innodb-data-file-path=ibdata1:12M:autoextend:max:{most}"),
            "--innodb-file-per-table=0".into(),
        ]
    };
    let mut server = MariaDbServer::with(&one_file("40M").each_ref().map(String::as_str));
    let world = World::on_server(&server, Broker::shared());
    let fill = || {
        // Rows that fit into a page: the rollback of a larger one needs room, and without it the server ends.
        world.sql.run("CREATE TABLE filler (filling VARBINARY(7000))");
        for rows in [64, 1] {
            let insert =
                format!("INSERT INTO filler VALUES {}", vec!["(REPEAT('x', 7000))"; rows].join(", "));
            while world.sql.try_run(&insert).is_ok() {}
        }
    };
    waits_until(&world, "is full", fill, || {
        server.stop();
        server.set_options(&one_file("80M").each_ref().map(String::as_str));
        server.start();
        reconnected(&world);
    });
}

#[test]
#[ignore = "mounts a file system, which takes root; run by scripts/faults"]
fn full_server_disk_is_waited_out() {
    let disk = SmallDisk::mount(160);
    let server = MariaDbServer::in_directory(disk.path(), &["--innodb-log-file-size=8M"]);
    let world = World::on_server(&server, Broker::shared());
    let ballast = disk.path().join("ballast");
    waits_until(&world, "is full", || fill(&ballast), || std::fs::remove_file(&ballast).unwrap());
}

/// The inbox is on the same disk. When it is full, the broker has to queue messages.
#[test]
#[ignore = "mounts a file system, which takes root; run by scripts/faults"]
fn full_sqlite_disk_is_waited_out() {
    let disk = SmallDisk::mount(24);
    let world = World::on_sqlite_below(disk.path(), Broker::private());
    world.add_broker();
    let ballast = disk.path().join("ballast");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    fill(&ballast);
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    gateway.wait_for_line("Database refuses, nothing is lost");
    gateway.wait_for_line("The inbox takes no message");
    std::fs::remove_file(&ballast).unwrap();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

/// A file system of its own in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> SmallDisk {
        let place = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=1777");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(place.path()).status();
        assert!(mount.unwrap().success(), "this test needs the right to mount a file system");
        SmallDisk(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Leaves not a byte of a disk.
fn fill(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(ballast).unwrap();
    for bytes in [1 << 20, 4096, 1] {
        let piece = vec![b'x'; bytes];
        while file.write_all(&piece).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server that is on it may end a moment later.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn dropped_table_is_awaited() {
    let world = World::on(Backend::MariaDb);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    world.sql.run("DROP TABLE inbox_offsets");
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    gateway.wait_for_line_that("the missing table", &|line| {
        line.contains("Database refuses, nothing is lost") && line.contains("inbox_offsets")
    });
    let output = world.command(&["migrate"]);
    assert!(output.status.success(), "{}", text_of(&output));
    load.wait_until_stored(&world);
    gateway.wait_for_line("processed again");
    assert_eq!(gateway.stop(), Some(0));
    // The dropped table held the offset. So the records of the inbox are stored twice, and nothing else is.
    let twice = load.judge(&world).len();
    assert!(twice <= 300, "{twice}");
}

/// A GRANT on the whole database is not for connections that are in use already.
#[test]
fn granted_privilege_is_noticed_under_load() {
    let world = World::on(Backend::MariaDb);
    let mut load = Load::over(&world, 4);
    let output = world.command(&["migrate"]);
    assert!(output.status.success(), "{}", text_of(&output));
    let name = &world.name;
    world.sql.run(&format!("REVOKE ALL ON {name}.* FROM '{name}'@'%'"));
    world.sql.run(&format!("GRANT SELECT, UPDATE, DELETE ON {name}.* TO '{name}'@'%'"));
    for row in world.sql.rows("SHOW TABLES", []) {
        let table: String = row.try_get_by_index(0).unwrap();
        if table != "data" {
            world.sql.run(&format!("GRANT INSERT ON {name}.{table} TO '{name}'@'%'"));
        }
    }
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    // Both lanes have failed on a connection of theirs, and are never idle for long.
    for lane in ["flow-worker-0", "flow-worker-1"] {
        gateway.wait_for_line_that(lane, &|line| line.contains(lane) && line.contains("retrying"));
    }
    gateway.wait_for_line("INSERT command denied");
    world.sql.run(&format!("GRANT INSERT ON {name}.* TO '{name}'@'%'"));
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    eventually_within(Duration::from_secs(20), "the messages", || {
        let stored = world.sql.count("SELECT COUNT(*) FROM data WHERE attribute_name = 'key'", []);
        (stored >= 200).then_some(())
    });
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

/// Such a server truncates long values and replaces unknown characters by question marks, if allowed.
#[test]
fn lax_server_alters_no_value() {
    let server = MariaDbServer::with(&["--sql-mode=", "--character-set-server=utf8mb3"]);
    let world = World::on_server(&server, Broker::shared());
    world.sql.run("ALTER TABLE data MODIFY attribute_value TEXT CHARACTER SET utf8mb3");
    let mut load = Load::over(&world, 4);
    world.flow("any", "any").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let long = "x".repeat(70_000);
    for text in ["plain", "ü€", "four bytes: 😀", &long, "plain again"] {
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        world.publish("any", format!(r#"{{"text": "{text}"}}"#));
    }
    load.wait_until_stored(&world);
    let stored = world.wait_for_stored("any", 3);
    let texts: Vec<_> = stored.iter().map(|message| (message.id, message.value("text").unwrap())).collect();
    assert_eq!(texts, [(1, "plain"), (2, "ü€"), (3, "plain again")]);
    let letters = world.wait_for_dead_letters(2);
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["refused_by_database", "value_too_long"]);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
