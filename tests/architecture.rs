//! The arrows between modules that may never be, held by reading the sources.
//!
//! A module uses another by naming it: `crate::store`, `use sea_orm::…`, `tokio::spawn`. So the
//! sources are searched for such names, comments and string literals apart. Tests inside the
//! modules count too, except for what only tests may use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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

/// All functions of SQL that the gateway calls. Before adding one, look it up for every server of the list in
/// `docs/TABLES.md`.
const SQL_FUNCTIONS: &[&str] = &[
    // In every dialect; `ROW_NUMBER` is not in MySQL before 8, where `audit` cannot run.
    "CAST",
    "COALESCE",
    "COUNT",
    "LENGTH",
    "LOWER",
    "MAX",
    "MIN",
    "NULLIF",
    "ROUND",
    "ROW_NUMBER",
    "SUM",
    // MySQL and MariaDB; `VALUES` is also the list of rows, and `DATETIME` a type.
    "DATABASE",
    "DATETIME",
    "GET_LOCK",
    "INSTR",
    "RELEASE_LOCK",
    "TIMESTAMPDIFF",
    "UTC_TIMESTAMP",
    "VALUES",
    "VERSION",
    // PostgreSQL.
    "EXTRACT",
    "POSITION",
    "concat_ws",
    "current_database",
    "current_schema",
    "current_setting",
    "format",
    "host",
    "pg_advisory_xact_lock",
    "pg_blocking_pids",
    "pg_get_serial_sequence",
    "pg_is_in_recovery",
    "pg_terminate_backend",
    "set_config",
    "statement_timestamp",
    "unnest",
    // SQLite, which is part of the binary.
    "julianday",
    "pragma_table_info",
    "printf",
    "sqlite_version",
    "strftime",
    "wal_checkpoint",
];

/// The same for session variables.
const SQL_VARIABLES: &[&str] = &[
    // MySQL and MariaDB.
    "innodb_lock_wait_timeout",
    "lock_wait_timeout",
    "sql_mode",
    "time_zone",
    "wait_timeout",
    // PostgreSQL; `plan_cache_mode` and `tcp_user_timeout` came with version 12.
    "client_min_messages",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "plan_cache_mode",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
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
    for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = fs::read_to_string(&path).unwrap();
        let module = module_of(&path);
        for name in forbidden_names(&module, &source) {
            violations.push(format!("{} uses {name}", path.display()));
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// Modules that name the types of the actors whose addresses they hold, while those actors use them.
const HOLD_ADDRESSES: [&str; 2] = ["actors::directory", "actors::inbox_signal"];

#[test]
fn modules_of_a_room_import_each_other_in_no_circle() {
    for room in ["actors", "control", "delivery", "domain", "http", "inbox", "mqtt", "observe", "store"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
        let sources: BTreeMap<String, String> = rust_files(&directory)
            .iter()
            .map(|path| (path_of_module(path), fs::read_to_string(path).unwrap()))
            .filter(|(module, _)| !HOLD_ADDRESSES.contains(&module.as_str()))
            .collect();
        assert_eq!(in_circles(&sources), [""; 0]);
    }
}

/// The modules that import themselves by way of others. A module and its children may import each other.
fn in_circles(sources: &BTreeMap<String, String>) -> Vec<&str> {
    let names: Vec<&str> = sources.keys().map(String::as_str).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = sources
        .iter()
        .map(|(module, source)| (module.as_str(), imports_of(module, source, &names)))
        .collect();
    let imports_itself = |module: &&str| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![*module]);
        while let Some(next) = ahead.pop() {
            ahead.extend(imports[next].iter().filter(|imported| seen.insert(**imported)));
        }
        seen.contains(module)
    };
    names.into_iter().filter(imports_itself).collect()
}

/// Those of `modules` that `module` names in `use`, apart from its tests.
fn imports_of<'m>(module: &str, source: &str, modules: &[&'m str]) -> BTreeSet<&'m str> {
    let is_in = |path: &str, other: &str| {
        path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let code = spread_groups(&code_of(source.split("#[cfg(test)]").next().unwrap()));
    let statements = code.split("use ").skip(1).filter_map(|rest| rest.split_once(';'));
    let paths = statements.filter_map(|(path, _)| absolute(module, path));
    let imported = paths.filter_map(|path| {
        modules.iter().copied().filter(|other| is_in(&path, other)).max_by_key(|other| other.len())
    });
    imported.filter(|other| !is_in(module, other) && !is_in(other, module)).collect()
}

/// The path from the root of the crate, unless it begins with the name of a child or a crate.
fn absolute(module: &str, path: &str) -> Option<String> {
    let (mut base, mut rest) = (module, path);
    while let Some(above) = rest.strip_prefix("super::") {
        (base, rest) = (base.rsplit_once("::").map_or("", |(base, _)| base), above);
    }
    if rest == path {
        path.strip_prefix("crate::").map(str::to_owned)
    } else {
        Some(format!("{base}::{rest}"))
    }
}

#[test]
fn a_circle_of_imports_is_found_and_a_child_is_none() {
    let found = |modules: &[(&str, &str)]| {
        let sources =
            modules.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        in_circles(&sources).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (a, b, c) =
        (("r::a", "use super::b::{B, C};"), ("r::b", "use crate::r::c;"), ("r::c", "use super::a::A;"));
    assert_eq!(found(&[a, b, c]), ["r::a", "r::b", "r::c"]);
    assert_eq!(found(&[a, b, ("r::c", "// use super::a;\n#[cfg(test)]\nuse super::a::A;")]), [""; 0]);
    assert_eq!(found(&[("r::a", "use self::b::B; use b::C;"), ("r::a::b", "use super::A;")]), [""; 0]);
}

#[test]
fn sql_uses_only_what_the_supported_servers_have() {
    let (mut functions, mut variables) = (BTreeSet::new(), BTreeSet::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in [rust_files(&root.join("src/store")), rust_files(&root.join("migration/src"))].concat() {
        let source = fs::read_to_string(path).unwrap();
        for text in texts_of(source.split("#[cfg(test)]").next().unwrap()) {
            functions.extend(words_before(text, "(").map(str::to_owned));
            if text.trim_start().starts_with("SET ") {
                variables.extend(words_before(text, " = ").map(str::to_owned));
            }
        }
    }
    let listed = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(functions, listed(SQL_FUNCTIONS));
    assert_eq!(variables, listed(SQL_VARIABLES));
}

#[test]
fn functions_are_found_in_texts_alone() {
    let source = r##"// MD5(a)
        let sql = "SELECT MAX(id), lower(x) FROM t WHERE a IN (1)"; call(r#"SET a = 1"#);"##;
    let texts = texts_of(source);
    assert_eq!(texts.len(), 2);
    assert_eq!(words_before(texts[0], "(").collect::<Vec<_>>(), ["MAX", "lower"]);
    assert_eq!(words_before(texts[1], " = ").collect::<Vec<_>>(), ["a"]);
}

#[test]
fn no_authority_is_trusted_by_default() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    let lists: Vec<&str> =
        lock.split("[[package]]").filter(|package| package.contains("name = \"webpki-roots\"")).collect();
    // Ours, from a directory of this repository.
    assert!(matches!(lists[..], [list] if !list.contains("source = ")), "{lists:?}");
}

#[test]
fn main_file_is_short() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 40);
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

/// The first level under `src`: `src/store/flows.rs` and `src/store.rs` are `store`.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_string_lossy().into_owned()
}

/// `src/store/batch/lane.rs` is `store::batch::lane`.
fn path_of_module(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let names = inside.with_extension("");
    names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("::")
}

/// Words of comments that a reader has to decode. `docs/GLOSSARY.md` has the words that we use.
const UNCLEAR: [&str; 5] = ["nobody", "somebody", "whoever", "anew", "be had"];

const MAX_COMMENT_WIDTH: usize = 120;

#[test]
fn comments_are_clear_and_fit_the_screen() {
    let mut faults = Vec::new();
    for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = fs::read_to_string(&path).unwrap();
        for (number, line) in (1..).zip(source.lines()) {
            faults.extend(faults_of(line).map(|fault| format!("{}:{number}: {fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Faults of a line, if it is a comment.
fn faults_of(line: &str) -> impl Iterator<Item = String> {
    let comment = line.trim_start().strip_prefix("//").unwrap_or_default();
    // Tables and links cannot be wrapped.
    let is_wide = line.chars().count() > MAX_COMMENT_WIDTH && !comment.contains(['|', '`']);
    let width = (is_wide && !comment.is_empty()).then(|| "too wide".to_owned());
    let text = format!(" {} ", comment.replace(|c: char| !c.is_alphanumeric(), " "));
    let words = UNCLEAR.into_iter().filter(move |word| text.contains(&format!(" {word} ")));
    words.map(str::to_owned).chain(width)
}

#[test]
fn comment_faults_are_found_in_comments_only() {
    let faults = |line: &str| faults_of(line).collect::<Vec<_>>();
    assert_eq!(faults("    /// Nothing anew, whoever asks."), ["whoever", "anew"]);
    assert_eq!(faults(&format!("// {}", "x".repeat(118))), ["too wide"]);
    assert!(faults("let anew = 1;").is_empty() && faults("// A renewal").is_empty());
}

#[test]
fn type_names_are_unique() {
    let mut places: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "tests.rs"))) {
            continue;
        }
        for name in type_names(&fs::read_to_string(&path).unwrap()) {
            places.entry(name.to_owned()).or_default().push(path.clone());
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "rename all but one, by what they are: {places:#?}");
}

/// The types that a source defines outside its tests.
fn type_names(source: &str) -> Vec<&str> {
    let (mut names, mut lines) = (Vec::new(), source.lines());
    while let Some(line) = lines.next() {
        if line != "#[cfg(test)]" {
            names.extend(defined_type(line));
        } else if lines.find(|line| !line.starts_with('#')).is_some_and(|item| item.ends_with('{')) {
            lines.find(|line| *line == "}");
        }
    }
    names
}

/// The type that a line begins to define. An indented `type` is an associated one and defines none, and a `$` begins
/// the parameter of a macro.
fn defined_type(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let mut words = code.split(|c| !is_identifier(c)).filter(|word| !word.is_empty());
    let keyword = words.find(|word| !["pub", "crate", "super", "self", "in", "unsafe"].contains(word))?;
    let is_definition = match keyword {
        "struct" | "enum" | "trait" | "union" => code.starts_with(is_identifier) && !code.contains('$'),
        "type" => line.starts_with(is_identifier),
        _ => false,
    };
    words.next().filter(|_| is_definition)
}

#[test]
fn defined_types_are_found_and_uses_are_none() {
    let source = "pub(in super::super) type A = u8;\nimpl B for C {\n    type D = u8;\n}\n    struct E;\n\
                  /// struct F\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    struct G;\n}\npub struct H<'a> {\n\
                  #[cfg(test)]\nmod tests;\nunsafe trait I {}\nlet j = \"enum J\";\npub enum $name {\n";
    assert_eq!(type_names(source), ["A", "E", "H", "I"]);
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
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

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code without comments and literals, and with no space around `::`.
fn code_of(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped > 0 {
            rest = &rest[skipped..];
            code.push(' ');
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    let words: Vec<&str> = code.split_whitespace().collect();
    words.join(" ").replace(" ::", "::").replace(":: ", "::")
}

/// Bytes of the comment or literal that `rest` begins with, 0 if with none.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    let end_of = |needle: &str, from: usize| {
        rest[from..].find(needle).map_or(rest.len(), |at| from + at + needle.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return end_of("*/", 2);
    }
    if rest.starts_with('r') && !before.is_some_and(is_identifier) {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        if rest[1 + hashes..].starts_with('"') {
            return end_of(&format!("\"{}", "#".repeat(hashes)), 2 + hashes);
        }
    }
    if rest.starts_with('"') {
        let mut escaped = false;
        for (at, c) in rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return at + 1,
                _ => {}
            }
        }
        return rest.len();
    }
    // Only character literals that look like the start of a text.
    ["'\"'", "'\\\"'", "'\\\\'", "'\\''"].iter().find(|c| rest.starts_with(**c)).map_or(0, |c| c.len())
}

/// The literals of a source that are texts.
fn texts_of(source: &str) -> Vec<&str> {
    let (mut texts, mut rest, mut before) = (Vec::new(), source, None);
    while let Some(c) = rest.chars().next() {
        let skipped = literal_or_comment(rest, before);
        if skipped > 0 && (c == '"' || c == 'r') {
            texts.push(rest[..skipped].trim_matches(['r', '#', '"']));
        }
        before = Some(c);
        rest = &rest[skipped.max(c.len_utf8())..];
    }
    texts
}

/// The words that are followed by this.
fn words_before<'a>(text: &'a str, sign: &'a str) -> impl Iterator<Item = &'a str> {
    text.match_indices(sign).filter_map(|(at, _)| {
        let word = text[..at].rsplit(|c| !is_identifier(c)).next()?;
        word.starts_with(|c: char| c.is_alphabetic()).then_some(word)
    })
}

/// `use a::{b, c::{d, e}};` as `use a::b; use a::c::d; use a::c::e;`, the other code unchanged.
fn spread_groups(code: &str) -> String {
    let mut spread = String::new();
    for statement in code.split_inclusive(';') {
        match statement.find("use ") {
            Some(at) if statement[at..].contains("::{") => {
                spread.push_str(&statement[..at]);
                let tree = statement[at + 4..].trim_end_matches(';');
                for path in leaves(tree) {
                    spread.extend(["use ", &path, "; "]);
                }
            }
            _ => spread.push_str(statement),
        }
    }
    spread
}

/// The paths of a use tree.
fn leaves(tree: &str) -> Vec<String> {
    let Some((root, group)) = tree.split_once('{') else {
        return vec![tree.trim().to_owned()];
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let mut depth = 0_u32;
    let branches = group.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    branches
        .map(str::trim)
        .filter(|branch| !branch.is_empty())
        .flat_map(|branch| leaves(&format!("{}{branch}", root.trim())))
        .collect()
}
