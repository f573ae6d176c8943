//! User name and password by reference.

use std::fs;

use test_support::oracle::Load;
use test_support::passwords::Passwords;
use test_support::world::{Backend, World};

const OLD: &str = "the-old-word";
const NEW: &str = "the-new-word";

fn world_with_passwords() -> (World, Passwords) {
    let passwords = Passwords::with(OLD);
    let mut world = World::with_broker(Backend::Sqlite, passwords.broker());
    let directory = world.directory().join("secrets");
    fs::create_dir(&directory).unwrap();
    world.set("CREDENTIALS_DIR", directory.to_str().unwrap());
    (world, passwords)
}

#[test]
fn rotated_password_is_read_on_reconnect() {
    let (mut world, passwords) = world_with_passwords();
    let file = world.directory().join("secrets/password");
    fs::write(&file, format!("{OLD}\n")).unwrap();
    let reference = format!("file:{}", file.display());
    world.sql.execute("UPDATE mqtt_servers SET username = 'device', password = ?", [reference.into()]);
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 200);
    world.publish_all(messages);

    passwords.set(NEW);
    // Throws the gateway out, in the midst of the stream.
    world.broker.reload();
    gateway.wait_for_line("MQTT connection failed with reason code: 135");
    let mark = world.broker.mark();
    fs::write(&file, format!("{NEW}\n")).unwrap();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert!(!gateway.stderr().contains(OLD) && !gateway.stderr().contains(NEW));
}

#[test]
fn name_and_password_may_stand_in_the_environment() {
    let (mut world, _passwords) = world_with_passwords();
    world.flow("any", "t").insert(&world.sql);
    world.sql.run("UPDATE mqtt_servers SET username = 'env:MQTT_USER', password = 'env:MQTT_PASSWORD'");
    world.set("MQTT_USER", "device");
    let mut gateway = world.start();
    let line = gateway.wait_for_line("env:MQTT_PASSWORD is not set in the environment");
    assert!(line.contains("password of the MQTT server with id 1"), "{line}");
    assert_eq!(gateway.stop(), Some(0));
    world.set("MQTT_PASSWORD", OLD);
    let mut gateway = world.start_subscribed();
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn password_like_a_reference_can_be_escaped() {
    let (mut world, passwords) = world_with_passwords();
    world.flow("any", "t").insert(&world.sql);
    passwords.set("env:HOME");
    world.broker.reload();
    world.sql.run("UPDATE mqtt_servers SET username = 'device', password = 'plain:env:HOME'");
    let mut gateway = world.start_subscribed();
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn broker_row_cannot_read_foreign_secrets() {
    let (mut world, passwords) = world_with_passwords();
    world.flow("any", "t").insert(&world.sql);
    let database = world.keep_secret_in_file();
    let allowed = database.parent().unwrap().to_str().unwrap().to_owned();
    let secret = fs::read_to_string(&database).unwrap().trim().to_owned();
    passwords.set(&secret);
    world.broker.reload();
    world.set("CREDENTIALS_DIR", &allowed).set("OTHER_PASSWORD", &secret);
    let mut gateway = world.start();
    for (reference, remedy) in [
        (format!("file:{}", database.display()), "a setting of the gateway names this file"),
        ("file:/proc/self/environ".to_owned(), "put the file below CREDENTIALS_DIR"),
        ("env:OTHER_PASSWORD".to_owned(), "Rename the variable, or set CREDENTIALS_ENV_PREFIX"),
        ("env:DATABASE_URL_FILE".to_owned(), "no settings of the gateway are read"),
    ] {
        let row = "UPDATE mqtt_servers SET username = 'device', password = ?";
        world.sql.execute(row, [reference.as_str().into()]);
        let line = gateway.wait_for_line(&format!("{reference} is refused"));
        assert!(line.contains(remedy) && line.contains("password of the MQTT server with id 1"), "{line}");
    }
    assert_eq!(gateway.stop(), Some(0));
    assert!(!gateway.stderr().contains(&secret));
}
