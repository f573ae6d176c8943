//! Files of the gateway: their permissions, and links that are refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use test_support::world::{Backend, World, command, text_of};

fn all_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(
            |path| if path.is_dir() { [vec![path.clone()], all_below(&path)].concat() } else { vec![path] },
        )
        .collect()
}

#[test]
fn whatever_is_made_is_for_our_user_alone() {
    let mut world = World::on(Backend::Sqlite);
    let place = world.directory().join("made");
    fs::create_dir(&place).unwrap();
    for (setting, name) in [("INBOX_DIR", "inbox"), ("LOG_DIR", "log/errors")] {
        world.set(setting, place.join(name).to_str().unwrap());
    }
    world.set("DATABASE_URL", &format!("sqlite:{}", place.join("new.sqlite").display()));
    world.set("MQTT_SKIP_REPEATED_RETAINED", "true");
    let migrated = world.command(&["migrate"]);
    assert!(migrated.status.success(), "{}", text_of(&migrated));
    // Its broker is not there, so there is something for the error file.
    let sql = test_support::sql::Sql::open(&format!("sqlite:{}", place.join("new.sqlite").display()));
    sql.run("UPDATE mqtt_servers SET port = 1");
    let mut gateway = world.start();
    gateway.wait_for_line("MQTT connection failed");
    test_support::eventually("an error file", || all_below(&place.join("log/errors")).into_iter().next());
    let made = all_below(&place);
    for path in &made {
        let bits = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(bits & 0o077, 0, "{} {bits:o}", path.display());
    }
    for name in ["new.sqlite", "new.sqlite-wal", "new.sqlite-shm", "inbox/meta", "inbox/lock"] {
        assert!(made.contains(&place.join(name)), "{name} is not in {made:?}");
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn symlinks_in_own_directories_are_refused() {
    let world = World::on(Backend::Sqlite);
    let (target, inbox, log) =
        (world.directory().join("target"), world.inbox_directory(), world.log_directory());
    fs::write(&target, "kept").unwrap();
    let today = format!("{}.log", chrono::Local::now().format("%Y-%m-%d"));
    for directory in [&inbox, &log] {
        fs::create_dir(directory).unwrap();
    }
    for link in [inbox.join("meta.new"), inbox.join("lock"), log.join(today)] {
        // One of before may be there.
        let _ = fs::remove_file(&link);
        symlink(&target, &link).unwrap();
        let output = command(&[], &world.settings, world.directory());
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("it is a symbolic link, which is not followed here; remove it"), "{text}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn loose_permissions_are_warned_about() {
    let world = World::on(Backend::Sqlite);
    fs::create_dir(world.inbox_directory()).unwrap();
    fs::set_permissions(world.inbox_directory(), fs::Permissions::from_mode(0o777)).unwrap();
    let database = world.directory().join("gateway.sqlite");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o644)).unwrap();
    let mut gateway = world.start();
    gateway.wait_for_line("may write to the inbox directory");
    gateway.wait_for_line("may read the database");
    assert_eq!(gateway.stop(), Some(0));
}
