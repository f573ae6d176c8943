//! The password of the database is changed while the gateway runs.

use std::path::Path;

use test_support::eventually;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::world::{Backend, PASSWORD, World};

use super::{ApiClient, sql_text};

const NEW_PASSWORD: &str = r"new'er: p@ss/w#rd\";

fn set_password(world: &World, password: &str) {
    let user = &world.name;
    if world.backend == Backend::Postgres {
        let password = password.replace('\'', "''");
        world.sql.run(&format!("ALTER USER {user} PASSWORD '{password}'"));
    } else {
        world.sql.run(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY {}", sql_text(password)));
    }
}

/// As an orchestrator does it: another file in the place of the old one.
fn replace(file: &Path, secret: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, format!("{secret}\n")).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

fn secret_with(world: &World, file: &Path, password: &str) -> String {
    if world.backend == Backend::MariaDb {
        return password.to_owned();
    }
    let mut url = url::Url::parse(std::fs::read_to_string(file).unwrap().trim()).unwrap();
    url.set_password(Some(password)).unwrap();
    url.to_string()
}

fn end_sessions(world: &World) {
    if world.backend == Backend::Postgres {
        let user = world.name.as_str().into();
        world.sql.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ? AND pid <> pg_backend_pid()",
            [user],
        );
    } else {
        super::end_sessions(world);
    }
}

fn publish(world: &World, load: &mut Load) {
    let messages = load.next(world, 300);
    world.publish_all(messages);
}

fn finish(world: &mut World, load: &Load, mut gateway: Gateway) {
    load.wait_until_stored(world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
    let said = gateway.stderr();
    assert!(!said.contains("p@ss"), "{said}");
}

/// The server has the new password before the file does, and all sessions end in between.
fn is_rotated(backend: Backend) {
    let mut world = World::on(backend);
    let file = world.keep_secret_in_file();
    let new_secret = secret_with(&world, &file, NEW_PASSWORD);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    let mut load = Load::over(&world, 4);
    let gateway = world.start_subscribed();
    let api = ApiClient::new(&world, &gateway);
    assert_eq!(api.status(), 200);
    publish(&world, &mut load);
    set_password(&world, NEW_PASSWORD);
    // Old connections go on.
    publish(&world, &mut load);
    load.wait_until_stored(&world);
    end_sessions(&world);
    publish(&world, &mut load);
    gateway.wait_for_line_that("the refusal", &|line| {
        line.contains("Access denied") || line.contains("password authentication failed")
    });
    replace(&file, &new_secret);
    gateway.wait_for_line("its credentials were read again");
    eventually("the API with the new password", || (api.status() == 200).then_some(()));
    publish(&world, &mut load);
    finish(&mut world, &load, gateway);
}

#[test]
fn a_rotated_password_takes_effect_without_a_restart() {
    is_rotated(Backend::MariaDb);
}

#[test]
fn a_rotated_url_takes_effect_without_a_restart() {
    is_rotated(Backend::Postgres);
}

#[test]
fn reverted_password_is_read_again() {
    let mut world = World::on(Backend::MariaDb);
    let file = world.keep_secret_in_file();
    let mut load = Load::over(&world, 4);
    let gateway = world.start_subscribed();
    for password in [NEW_PASSWORD, PASSWORD] {
        replace(&file, password);
        set_password(&world, password);
        end_sessions(&world);
        publish(&world, &mut load);
        load.wait_until_stored(&world);
    }
    finish(&mut world, &load, gateway);
}
