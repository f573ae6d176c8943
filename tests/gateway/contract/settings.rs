//! The environment and the `.env` file. All their errors are reported at once.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use test_support::process::Settings;
use test_support::world::{Backend, World, command, text_of};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn one_error_names_all_wrong_variables() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = settings(&[
        ("DB_PORT", "many"),
        ("DB_USER", "gateway"),
        ("DB_PASSWORD", "never-to-be-seen"),
        ("HTTP_TIMEOUT_SECONDS", "soon"),
        ("MQTT_KEEPALIVE", "-3"),
        ("FLOWS_RELOAD_INTERVAL_SECONDS", "often"),
    ]);
    for arguments in [&[][..], &["run"][..]] {
        let output = command(arguments, &wrong, directory.path());
        assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
        let text = text_of(&output);
        for word in
            ["DB_HOST", "DB_NAME", "DB_PORT", "many", "HTTP_TIMEOUT_SECONDS", "soon", "MQTT_KEEPALIVE", "-3"]
        {
            assert!(text.contains(word), "{word} is missing in: {text}");
        }
        assert!(text.contains("FLOWS_RELOAD_INTERVAL_SECONDS") && text.contains("often"), "{text}");
        assert!(!text.contains("never-to-be-seen"), "{text}");
        assert!(!text.contains("DB_USER") && !text.contains("DB_PASSWORD"), "those are right: {text}");
    }
}

/// A FIFO without a writer.
fn fifo(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    path
}

#[test]
fn irregular_or_huge_secret_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let huge = directory.path().join("huge");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let device = PathBuf::from("/dev/zero");
    for setting in ["DB_PASSWORD_FILE", "DATABASE_URL_FILE"] {
        for (path, problem) in [
            (&fifo(directory.path(), setting), "it is not a regular file"),
            (&device, "it is not a regular file"),
            (&huge, "it is larger than 1048576 bytes"),
        ] {
            let path = path.to_str().unwrap();
            let given = settings(&[("DB_HOST", "h"), ("DB_NAME", "n"), ("DB_USER", "u"), (setting, path)]);
            let output = command(&[], &given, directory.path());
            let text = text_of(&output);
            assert_eq!(output.status.code(), Some(2), "{text}");
            assert!(text.contains(setting) && text.contains(path) && text.contains(problem), "{text}");
        }
    }
}

#[test]
fn fifo_as_settings_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = fifo(directory.path(), ".env");
    let output = command(&[], &settings(&[]), directory.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text_of(&output).contains("it is not a regular file"), "{}", text_of(&output));
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(directory.path().join("config")).unwrap();
    fifo(directory.path(), "config/site.toml");
    let output = command(&[], &settings(&[]), directory.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(text_of(&output).contains("site.toml"), "{}", text_of(&output));
}

fn environment_overrides_dot_env(mut world: World) {
    world.flow("any", "t").insert(&world.sql);
    // Unquoted values with spaces at the end, quotes, a comment, export; a `$` that is no `${…}` stays as it is.
    let mut file =
        String::from("# settings\n\nexport MQTT_KEEPALIVE = 30   # seconds\nMQTT_CLIENT_ID=overridden\n");
    for (key, value) in std::mem::take(&mut world.settings) {
        if key == "MQTT_CLIENT_ID" {
            world.set(&key, &value);
        } else {
            let escaped = value.replace('\\', r"\\").replace('\'', r"\'");
            // Interpolation happens in every kind of quotes, as python-dotenv has it.
            let escaped = escaped.replace("${HOME}", "${OPEN:-$}{HOME}");
            writeln!(file, "{key}='{escaped}'").unwrap();
        }
    }
    std::fs::write(world.directory().join(".env"), file).unwrap();
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
}

fn check_reports_present_and_missing_parts(mut world: World) {
    let good = world.command(&["check"]);
    assert_eq!(good.status.code(), Some(0), "{}", text_of(&good));
    assert!(!text_of(&good).contains("p@ss:w/o"), "{}", text_of(&good));
    world.sql.run("UPDATE mqtt_servers SET port = 1");
    let no_broker = world.command(&["check"]);
    assert_eq!(no_broker.status.code(), Some(1), "{}", text_of(&no_broker));
    world.set("DATABASE_URL", "mysql://nobody:hidden-word@127.0.0.1:1/nothing");
    let no_database = world.command(&["check"]);
    assert_eq!(no_database.status.code(), Some(1), "{}", text_of(&no_database));
    assert!(!text_of(&no_database).contains("hidden-word"), "{}", text_of(&no_database));
}

#[test]
fn check_creates_no_database_file() {
    let mut world = World::on(Backend::Sqlite);
    let mistyped = world.directory().join("mistyped.db");
    world.set("DATABASE_URL", &format!("sqlite:{}", mistyped.display()));
    let checked = world.command(&["check"]);
    assert_eq!(checked.status.code(), Some(1), "it has no broker yet");
    assert!(text_of(&checked).contains("mistyped.db will be created"), "{}", text_of(&checked));
    assert!(!mistyped.exists());
    world.set("DATABASE_URL", &format!("sqlite:{}/none/gateway.db", world.directory().display()));
    let checked = text_of(&world.command(&["check"]));
    assert!(checked.contains("FAIL database") && checked.contains("none/gateway.db"), "{checked}");
}

on_each_database!(environment_overrides_dot_env, check_reports_present_and_missing_parts,);
