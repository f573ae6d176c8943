//! Which names a room may use.
//!
//! A module uses another by naming it: `crate::store`, `use sea_orm::…`, `tokio::spawn`. Tests inside the modules count
//! too, except for names that only tests may use.

use std::fs;

use super::source::{code_of, is_identifier, module_of, sources, spread_groups};

/// Names that all but the given modules must do without.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["actix", "actix_rt", "actix_web", "awc"], &["actors", "delivery", "demo", "app", "bench", "http"]),
    (&["actix_tls"], &["delivery"]),
    (&["tokio_rustls"], &["delivery", "mqtt"]),
    (&["paho_mqtt"], &["mqtt"]),
    (&["rumqttd"], &["embedded"]),
    (&["indicatif"], &["bench", "cli"]),
    (&["procfs"], &["bench"]),
    (&["sea_orm", "sqlx", "mqtt_gateway_entity", "mqtt_gateway_migration"], &["store"]),
    (&["config"], &["settings"]),
    (&["askama", "plotters"], &["http"]),
    (&["utoipa"], &["control", "domain", "http"]),
    (&["clap", "clap_complete", "clap_mangen"], &["cli"]),
    (&["env_logger", "prometheus_client"], &["observe"]),
];

/// Names that a module must do without.
const NEVER_IN: &[(&str, &[&str])] = &[
    // Decisions get time, chance and data passed in.
    (
        "domain",
        &[
            "actix",
            "sea_orm",
            "sqlx",
            "paho_mqtt",
            "tokio",
            "rand",
            "config",
            "log",
            "std::fs",
            "std::net",
            "std::env",
            "std::thread",
            "std::process",
            "Instant",
            "SystemTime",
            "Utc",
            "Local",
        ],
    ),
    // Nothing but the core is known to the core.
    (
        "domain",
        &[
            "crate::actors",
            "crate::app",
            "crate::cli",
            "crate::control",
            "crate::delivery",
            "crate::demo",
            "crate::http",
            "crate::inbox",
            "crate::mqtt",
            "crate::observe",
            "crate::settings",
            "crate::store",
        ],
    ),
    // No adapter uses another one or a user of adapters.
    ("inbox", &["crate::store", "crate::mqtt", "crate::delivery", "crate::settings"]),
    ("store", &["crate::inbox", "crate::mqtt", "crate::delivery"]),
    ("mqtt", &["crate::inbox", "crate::store", "crate::delivery"]),
    ("delivery", &["crate::inbox", "crate::store", "crate::mqtt"]),
    ("inbox", ABOVE),
    ("store", ABOVE),
    ("mqtt", ABOVE),
    ("delivery", ABOVE),
    ("settings", ABOVE),
    ("settings", &["crate::store", "crate::mqtt", "crate::delivery", "crate::observe"]),
    ("observe", ABOVE),
    // Its content is passed in, so that no request can reach further.
    (
        "http",
        &[
            "crate::actors",
            "crate::app",
            "crate::bench",
            "crate::cli",
            "crate::delivery",
            "crate::demo",
            "crate::embedded",
            "crate::inbox",
            "crate::mqtt",
            "crate::settings",
            "crate::store",
        ],
    ),
    // Use cases need no running gateway, and do not know who calls them.
    (
        "control",
        &["crate::actors", "crate::app", "crate::bench", "crate::cli", "crate::demo", "crate::embedded"],
    ),
    ("observe", &["crate::store", "crate::mqtt", "crate::delivery", "crate::inbox"]),
];

/// Modules that combine the parts. No part uses them.
const ABOVE: &[&str] = &[
    "crate::actors",
    "crate::app",
    "crate::bench",
    "crate::cli",
    "crate::control",
    "crate::demo",
    "crate::embedded",
    "crate::http",
];

#[test]
fn no_module_uses_what_it_must_not_know() {
    let mut violations = Vec::new();
    for path in sources() {
        let source = fs::read_to_string(&path).unwrap();
        let module = module_of(&path);
        for name in forbidden_names(&module, &source) {
            violations.push(format!("{} uses {name}", path.display()));
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn forbidden_uses_are_found_in_code_only() {
    let found = |module: &str, source: &str| forbidden_names(module, source);
    assert_eq!(found("domain", "use tokio::sync::mpsc;"), ["tokio"]);
    assert_eq!(found("domain", "use std::{fs, net};"), ["std::fs", "std::net"]);
    assert_eq!(found("domain", "let now = std::time::Instant::now();"), ["Instant"]);
    assert_eq!(found("inbox", "use crate::{domain, store};"), ["crate::store"]);
    assert_eq!(
        found("inbox", "use crate::{\n    domain::{topic, trie},\n    mqtt::{self},\n};"),
        ["crate::mqtt"]
    );
    assert_eq!(found("store", "crate::mqtt::connect()"), ["crate::mqtt"]);
    assert_eq!(found("cli", "use sea_orm :: DbErr;"), ["sea_orm"]);
    assert_eq!(found("main", "use actix::System;"), ["actix"]);
    for harmless in [
        "// tokio::spawn would not do here",
        "/* use tokio; */ fn f() {}",
        "let text = \"use tokio::sync\";",
        "let c = '\"'; let tokio_like = 1;",
        "use crate::domain::message::Offset;",
        "let r = r#\"use tokio::x \"quoted\" \"#;",
    ] {
        assert_eq!(found("domain", harmless), [""; 0], "{harmless}");
    }
}

fn forbidden_names(module: &str, source: &str) -> Vec<&'static str> {
    let code = spread_groups(&code_of(source));
    let elsewhere = ONLY_IN.iter().filter(|(_, allowed)| !allowed.contains(&module)).map(|(names, _)| names);
    let here = NEVER_IN.iter().filter(|(name, _)| *name == module).map(|(_, names)| names);
    let mut found: Vec<&'static str> = Vec::new();
    for name in elsewhere.chain(here).flat_map(|names| names.iter()) {
        if !found.contains(name) && uses(&code, name) {
            found.push(name);
        }
    }
    found
}

/// Whether a path begins with `name`: as a crate (`name::`, `use name`, `{name`) or, for a name with
/// a capital or a path, anywhere.
fn uses(code: &str, name: &str) -> bool {
    let is_crate = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let is_word = !before.is_some_and(is_identifier) && !after.chars().next().is_some_and(is_identifier);
        let is_root = before != Some(':') && (after.starts_with("::") || code[..at].ends_with("use "));
        is_word && (!is_crate || is_root)
    })
}
