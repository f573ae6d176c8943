//! Types and ranges of single settings.

use super::*;

#[test]
fn numbers_have_ranges() {
    for spec in catalogue::ALL {
        let wrong: &[&str] = match spec.kind {
            catalogue::SettingKind::Integer(0, _) => &["-1", "1.5", "x", "99999999999999999999"],
            catalogue::SettingKind::Integer(..) => &["0", "-1", "1.5", "x", "99999999999999999999"],
            catalogue::SettingKind::IntegerRaisedToOne(_) => &["99999999999", "1.5", "x"],
            catalogue::SettingKind::Seconds(_) => &["0", "-1", "nan", "inf", "1e9", "x"],
            catalogue::SettingKind::Word(_)
            | catalogue::SettingKind::Flag
            | catalogue::SettingKind::Qos
            | catalogue::SettingKind::Listener => &["-1", "perhaps"],
            catalogue::SettingKind::Networks => &["private", "10.0.0.0/33", "10.0.0.0/8,"],
            catalogue::SettingKind::LogLevels => &["info,sqlx=debgu", "info/["],
            catalogue::SettingKind::ShareGroup => &["a/b", "+"],
            catalogue::SettingKind::Ordinal => &["-1", "gateway", "4294967296"],
            catalogue::SettingKind::Text
            | catalogue::SettingKind::Path
            | catalogue::SettingKind::Secret
            | catalogue::SettingKind::Proxy => &[],
        };
        for value in wrong {
            let error = error_of(load_with(&[(spec.name, value)], &[]));
            let names: Vec<_> = error.problems().iter().map(|problem| problem.name.as_str()).collect();
            assert_eq!(names, [spec.name], "{value}");
            assert!(error.to_string().contains(&format!("{} = {value:?}", spec.name)), "{error}");
        }
    }
}

#[test]
fn numbers_parse_as_in_python() {
    let settings = settings(&[
        ("DB_PORT", " 3_307 "),
        ("MQTT_KEEPALIVE", "+45"),
        ("FLOWS_RELOAD_INTERVAL_SECONDS", "-3"),
        ("HTTP_TIMEOUT_SECONDS", "2.5"),
    ]);
    assert_eq!(settings.database.servers().unwrap().to_string(), "db:3307");
    assert_eq!(settings.mqtt.keepalive, Duration::from_secs(45));
    assert_eq!(settings.flows_reload_interval, Duration::from_secs(1));
    assert_eq!(settings.http_timeout, Duration::from_millis(2500));
}

#[test]
fn lines_for_messages_are_a_log_level() {
    let filter = |environment: &[(&str, &str)]| settings(environment).log_filter;
    assert_eq!(filter(&[]), "info");
    assert_eq!(filter(&[("LOG_MESSAGES", "true")]), "messages=debug,info");
    let both = [("LOG_MESSAGES", "true"), ("RUST_LOG", "warn,messages=off")];
    assert_eq!(filter(&both), "messages=debug,warn,messages=off", "the last level of a target counts");
}

#[test]
fn words_and_flags_are_case_insensitive() {
    let settings = settings(&[
        ("INBOX_FSYNC", "Always"),
        ("VALUE_STYLE", "JSON"),
        ("LOG_FORMAT", "Human"),
        ("MQTT_SKIP_REPEATED_RETAINED", "Yes"),
        ("MQTT_QOS", "0"),
    ]);
    assert_eq!(settings.inbox.fsync, FsyncPolicy::Always);
    assert_eq!(settings.value_style, ValueStyle::Json);
    assert_eq!(settings.log_format, LogFormat::Human);
    assert!(settings.mqtt.skip_repeated_retained);
    assert_eq!(settings.mqtt.qos, 0);
}

#[test]
fn listener_is_an_address_or_off() {
    let admin = |value: &str| settings(&[("ADMIN_BIND", value)]).admin;
    let asked_for =
        |address: &str| Some(AdminSettings { address: address.parse().unwrap(), is_default: false });
    assert_eq!(admin("0.0.0.0:9000"), asked_for("0.0.0.0:9000"));
    assert_eq!(admin("[::]:0"), asked_for("[::]:0"));
    assert_eq!(admin("127.0.0.1:8080"), asked_for("127.0.0.1:8080"));
    assert_eq!(admin("Off"), None);
    assert_eq!(admin("").map(|admin| admin.is_default), Some(true));
    assert_eq!(settings(&[]).admin.map(|admin| admin.is_default), Some(true));
}

#[test]
fn hosts_of_the_api_are_names() {
    assert_eq!(settings(&[]).api.hosts, [""; 0]);
    assert_eq!(settings(&[("ADMIN_HOSTS", "Gateway.example, gw")]).api.hosts, ["gateway.example", "gw"]);
    for wrong in ["http://gw", "gw:8080", "*.example"] {
        let error = error_of(load_with(&[("ADMIN_HOSTS", wrong)], &[])).to_string();
        assert!(error.contains("ADMIN_HOSTS") && error.contains("names without scheme"), "{error}");
    }
}

#[test]
fn token_files_hold_long_tokens() {
    let load = |text: &str| load_with(&[("ADMIN_TOKEN_FILE", "run/token")], &[("run/token", text)]);
    let token = "t".repeat(32);
    assert_eq!(load(&format!("{token}\n")).unwrap().settings.api.token_file, Some("run/token".into()));
    for (text, reason) in [("hush", "too short"), (&format!("{token} hush"), "other characters")] {
        let error = error_of(load(text)).to_string();
        assert!(error.contains("ADMIN_TOKEN_FILE") && error.contains(reason), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
    let missing = error_of(load_with(&[("ADMIN_TOKEN_FILE", "run/none")], &[])).to_string();
    assert!(missing.contains("there is no such file"), "{missing}");
}

#[test]
fn a_small_inbox_has_small_segments() {
    assert_eq!(settings(&[("INBOX_MAX_BYTES", "2000000")]).inbox.segment_bytes, 500_000);
}

#[test]
fn log_dir_limit_has_a_minimum() {
    assert_eq!(settings(&[("LOG_DIR_MAX_BYTES", "1048576")]).log_dir_max_bytes, Some(1_048_576));
    assert_eq!(settings(&[("LOG_DIR_MAX_BYTES", "")]).log_dir_max_bytes, None);
    let error = error_of(load_from(&[("LOG_DIR_MAX_BYTES", "1048575")], &[])).to_string();
    assert!(
        error.contains("LOG_DIR_MAX_BYTES = \"1048575\" (environment): expected a whole number from"),
        "{error}"
    );
}
