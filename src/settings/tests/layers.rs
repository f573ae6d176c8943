//! Order and syntax of the layers.

use super::*;

#[test]
fn later_layers_take_precedence() {
    let files = [
        ("config/10-base.toml", "DB_PORT = 1\nmqtt_keepalive = 11\nLANES = 3\nMAX_DEPTH = 10\n"),
        ("config/20-site.toml", "mqtt_keepalive = 22\nLANES = 4\nMAX_DEPTH = 20\n"),
        (".env", "LANES=5\nMAX_DEPTH=30\n"),
    ];
    let loaded = load_with(&[("MAX_DEPTH", "40")], &files).unwrap();
    let origins = ["DB_PORT", "MQTT_KEEPALIVE", "LANES", "MAX_DEPTH", "MAX_ATTRIBUTES"]
        .map(|name| shown(&loaded, name));
    let expected = [
        ("1", "config/10-base.toml"),
        ("22", "config/20-site.toml"),
        ("5", ".env"),
        ("40", "environment"),
        ("32768", "default"),
    ];
    assert_eq!(origins, expected.map(|(value, origin)| (Some(value.to_owned()), origin.to_owned())));
}

#[test]
fn toml_directory_is_configurable() {
    let files = [("etc/a.toml", "LANES = 7"), ("config/b.toml", "LANES = 8")];
    assert_eq!(load_with(&[("CONFIG_DIR", "etc")], &files).unwrap().settings.lanes, 7);
    let error = error_of(load_with(&[("CONFIG_DIR", "none")], &files));
    assert!(error.to_string().contains("CONFIG_DIR = \"none\""), "{error}");
}

#[test]
fn empty_value_restores_the_default() {
    let loaded =
        load_with(&[("LANES", ""), ("LOG_DIR", ""), ("MAX_DEPTH", "")], &[(".env", "LANES=9\nMAX_DEPTH=9")])
            .unwrap();
    assert_eq!(loaded.settings.lanes, 2);
    assert_eq!(loaded.settings.limits.max_depth, 1000);
    assert_eq!(loaded.settings.log_dir, PathBuf::from("./log"));
}

#[test]
fn unknown_toml_key_hides_its_value() {
    let error =
        error_of(load_with(&[], &[("config/site.toml", "DB_PASWORD = \"s3cret\"\n[db]\nhost = 1\n")]));
    let text = error.to_string();
    assert!(
        text.contains("DB_PASWORD (config/site.toml, not shown): expected one of the settings"),
        "{text}"
    );
    assert!(text.contains("db (config/site.toml, not shown)"), "{text}");
    assert!(!text.contains("s3cret"));
}

#[test]
fn removed_setting_is_a_warning() {
    let expected = |origin| format!("NICENESS ({origin}) is no longer a setting and is ignored: remove it");
    for (environment, files, origin) in [
        (&[][..], &[("config/site.toml", "NICENESS = 3\n")][..], "config/site.toml"),
        (&[], &[(".env", "NICENESS=3\n")], ".env"),
        (&[("NICENESS", "3")], &[], "environment"),
    ] {
        assert_eq!(load_with(environment, files).unwrap().warnings, [expected(origin)]);
    }
}

#[test]
fn broken_toml_error_names_only_position() {
    let text =
        error_of(load_with(&[], &[("config/a.toml", "LANES = 2\nDB_PASSWORD = \"s3cret\n")])).to_string();
    assert!(text.contains("config/a.toml (TOML parse error at line 2, column"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn toml_texts_need_quotes() {
    for (toml, expected) in [
        ("DB_PASSWORD = 1.10", "DB_PASSWORD (config/a.toml, not shown): expected a text in quotes"),
        ("LANES = [1]", "LANES (config/a.toml, not shown): expected a single value"),
        ("LOG_DIR = \"a\\u0000b\"", "LOG_DIR (config/a.toml, not shown): expected a text without NUL"),
        ("lanes = 1\nLANES = 1", "lanes (config/a.toml, not shown): expected to be set only once in a file"),
    ] {
        let without_password = &REQUIRED[..3];
        let text = error_of(load_from(without_password, &[("config/a.toml", toml)])).to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn non_utf8_sources_hide_their_content() {
    let environment = [("DB_HOST", &b"\xff\xfe"[..]), ("OTHER", &b"\xff"[..])]
        .map(|(name, value)| (name.to_owned(), OsString::from_vec(value.to_vec())));
    let files = FakeFiles([(PathBuf::from(".env"), b"DB_NAME=\xff".to_vec())].into());
    let error = error_of(load_settings_for(
        Purpose::Running,
        &Sources { environment: environment.into(), files: &files },
    ));
    let text = error.to_string();
    assert!(text.contains(".env (not UTF-8, not shown): expected UTF-8 text"), "{text}");
    assert!(text.contains("DB_HOST (environment, not shown): expected UTF-8 text"), "{text}");
    assert!(!text.contains("OTHER"), "{text}");
}

#[test]
fn dotenv_can_be_disabled() {
    let dotenv = [(".env", "LANES=5\nwhat is this\n")];
    let loaded = load_with(&[], &dotenv).unwrap();
    assert_eq!(loaded.settings.lanes, 5);
    assert_eq!(loaded.warnings, [".env line 2 is no NAME=value and was left out"]);
    let without = load_with(&[("PYTHON_DOTENV_DISABLED", "True")], &dotenv).unwrap();
    assert_eq!(without.settings.lanes, 2);
}
