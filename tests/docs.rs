//! Compares the documents with code, tables and tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use mqtt_gateway::domain::dead_letter::DeadLetterReason;
use mqtt_gateway::domain::flow_options::FlowOptions;
use mqtt_gateway::observe::health::UnreadyReason;
use mqtt_gateway_entity::{
    api_tokens, data, database_identity, dead_letters, edit_history, flow_fields, flow_revision, flows,
    gateway_members, gateway_starts, inbox_lagging, inbox_offsets, message_keys, mqtt_servers, outbox,
    outbox_owners, outbox_pauses,
};
use sea_orm::{EntityName, EntityTrait, IdenStatic, Iterable};

const TABLES: &str = include_str!("../docs/TABLES.md");

type Columns = BTreeMap<String, BTreeSet<String>>;

#[test]
fn tables_page_lists_every_column() {
    let mut columns = Columns::new();
    add::<data::Entity>(&mut columns);
    add::<flows::Entity>(&mut columns);
    add::<flow_fields::Entity>(&mut columns);
    add::<flow_revision::Entity>(&mut columns);
    add::<edit_history::Entity>(&mut columns);
    add::<mqtt_servers::Entity>(&mut columns);
    add::<inbox_offsets::Entity>(&mut columns);
    add::<inbox_lagging::Entity>(&mut columns);
    add::<outbox::Entity>(&mut columns);
    add::<outbox_owners::Entity>(&mut columns);
    add::<outbox_pauses::Entity>(&mut columns);
    add::<dead_letters::Entity>(&mut columns);
    add::<message_keys::Entity>(&mut columns);
    add::<gateway_members::Entity>(&mut columns);
    add::<gateway_starts::Entity>(&mut columns);
    add::<database_identity::Entity>(&mut columns);
    add::<api_tokens::Entity>(&mut columns);
    let modules = fs::read_dir(root().join("entity/src")).unwrap().count();
    assert_eq!(columns.len(), modules - 1, "a table is missing above");

    assert_eq!(documented_columns(), columns);
}

#[test]
fn tables_page_names_existing_columns() {
    let columns = documented_columns();
    for word in quoted(TABLES) {
        let Some((table, column)) = word.split_once('.') else { continue };
        if let Some(columns) = columns.get(table) {
            assert!(columns.contains(column), "{word}");
        }
    }
}

#[test]
fn tables_page_lists_every_reason() {
    let documented = sections(TABLES).into_iter().find(|(heading, _)| heading == "### Reasons").unwrap().1;
    let reasons = DeadLetterReason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(documented, reasons);
}

#[test]
fn posting_page_lists_every_option() {
    let schema = FlowOptions::schema();
    let options = schema.pointer("/$defs/DeliveryOptions/properties").unwrap().as_object().unwrap();
    let page = read("docs/POSTING.md");
    let section = page.split("## Options of a flow").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = rows.collect();
    assert_eq!(documented, options.keys().map(String::as_str).collect());
}

#[test]
fn every_reason_for_being_unready_is_documented() {
    let page = read("docs/METRICS.md");
    let (_, table) = page.split_once("\n| reason | meaning |\n| --- | --- |\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: Vec<&str> = rows.map(|(reason, _)| reason).collect();
    assert_eq!(documented, UnreadyReason::ALL.map(UnreadyReason::as_str));
}

#[test]
fn the_documents_name_only_commands_that_there_are() {
    let commands = commands(&[]);
    assert!(commands.iter().any(|command| command == "run"), "{commands:?}");
    for (name, text) in documents() {
        for word in quoted(&text).iter().filter_map(|code| code.strip_prefix("mqtt-gateway ")) {
            let command = word.split_whitespace().next().unwrap();
            assert!(commands.iter().any(|known| known == command), "{name}: mqtt-gateway {word}");
        }
    }
}

#[test]
fn the_page_of_commands_lists_every_command() {
    let page = read("docs/COMMANDS.md");
    let listed = |command: &str| page.contains(&format!("\n| `mqtt-gateway {command}` |"));
    for command in commands(&[]).iter().filter(|command| *command != "help") {
        let below: Vec<String> =
            commands(&[command.as_str()]).into_iter().filter(|below| below != "help").collect();
        for below in &below {
            assert!(listed(&format!("{command} {below}")), "{command} {below}");
        }
        assert!(!below.is_empty() || listed(command), "{command}");
    }
}

#[test]
fn the_documents_name_only_settings_that_there_are() {
    // Words in capitals that are no settings.
    const OTHERS: [&str; 8] = [
        "MQTT_GATEWAY_TOKEN",
        "STORE_DB",
        "POST_ENDPOINT",
        "PROPTEST_CASES",
        "REPLICAS_MESSAGES",
        "RUST_BACKTRACE",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ];
    let documents = documents();
    let settings = &documents["docs/SETTINGS.md"];
    for (name, text) in documents.iter().filter(|(name, _)| *name != "docs/SETTINGS.md") {
        for code in quoted(text) {
            let word = code.split(['=', '/']).next().unwrap();
            let looks_like_one = word.contains('_')
                && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                && !word.ends_with('_');
            if looks_like_one && !OTHERS.contains(&word) {
                assert!(settings.contains(&format!("| `{word}` |")), "{name}: {word}");
            }
        }
    }
}

/// Beside the row that the first start enters, which is the default one.
#[test]
fn the_brokers_of_the_howto_are_the_ones_that_are_used() {
    let page = read("docs/howto/brokers.md");
    let commands = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let (directory, binary) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_BIN_EXE_mqtt-gateway")));
    let run = |script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(directory.path()).env_clear();
        shell.env("PATH", format!("{}:/usr/bin:/bin", binary.parent().unwrap().display()));
        let output = shell.env("DATABASE_URL", "sqlite://gateway.db").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("mqtt-gateway migrate");
    run(commands);
    let list: serde_json::Value = serde_json::from_str(&run("mqtt-gateway servers list --json")).unwrap();
    let servers = list["servers"].as_array().unwrap().iter();
    let usable: Vec<_> = servers.map(|server| (server["host"].as_str(), server["port"].as_i64())).collect();
    assert_eq!(usable, [(Some("mqtt-a.example"), Some(8883)), (Some("mqtt-b.example"), None)]);
    assert!(list["servers"].as_array().unwrap().iter().all(|server| server["tls"] == true));
}

#[test]
fn reliability_page_lists_every_fault_case() {
    let document = read("docs/RELIABILITY.md");
    let (page, _) = document.split_once("\n## Mutations\n").unwrap();
    let listed: BTreeSet<String> =
        page.lines().filter_map(|line| line.strip_prefix("| `")).map(str::to_owned).collect();
    for case in ["gateway", "broker", "database", "delivery", "disk", "flows", "clock", "input", "accidents"]
        .iter()
        .flat_map(cases_of)
    {
        assert!(listed.contains(&case), "missing or changed: | `{case}");
    }
    let sources: Vec<String> =
        ["src", "tests"].iter().flat_map(|place| sources_below(&root().join(place))).collect();
    for name in quoted(page).into_iter().filter(|word| is_the_name_of_a_test(word)) {
        let function = format!("fn {name}(");
        assert!(sources.iter().any(|source| source.contains(&function)), "there is no test {name}");
    }
}

#[test]
fn links_between_documents_work() {
    for (name, text) in documents() {
        let directory = root().join(&name).parent().unwrap().to_owned();
        for link in links(&text).filter(|link| !link.contains("://")) {
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { root().join(&name) } else { directory.join(path) };
            assert!(target.exists(), "{name}: {link}");
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(&target).unwrap();
                assert!(
                    text.lines().any(|line| anchor_of(line).as_deref() == Some(anchor)),
                    "{name}: {link}"
                );
            }
        }
    }
}

#[test]
fn architecture_page_names_existing_items() {
    let page = read("docs/ARCHITECTURE.md");
    assert!(page.lines().count() <= 150, "{} lines", page.lines().count());
    let mut items = 0;
    for (item, rest) in page.split("[`").skip(1).filter_map(|part| part.split_once("`](../")) {
        let source = read(rest.split_once(')').unwrap().0);
        let declarations = [format!("fn {item}("), format!("fn {item}<"), format!("struct {item}")];
        assert!(declarations.iter().any(|declaration| source.contains(declaration)), "{item}");
        items += 1;
    }
    assert!(items >= 15, "{items}");
    let (_, invariants) = page.split_once("## Invariants").unwrap();
    let sources = sources_below(&root().join("src")).into_iter().chain(sources_below(&root().join("tests")));
    let sources: Vec<String> = sources.collect();
    let tests: Vec<&str> = invariants
        .lines()
        .filter_map(|line| line.strip_suffix("` |")?.rsplit_once('`').map(|(_, test)| test))
        .collect();
    assert_eq!(tests.len(), 12);
    for test in tests {
        assert!(sources.iter().any(|source| source.contains(&format!("fn {test}("))), "{test}");
    }
}

#[test]
fn fail_points_are_documented() {
    let page = read("docs/internals/testing.md");
    let macros = ["crash_point!(\"", "fail_point!(\"", "time_point!(\""];
    let sources = sources_below(&root().join("src"));
    let used: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| macros.iter().flat_map(|name| source.split(name).skip(1)))
        .filter_map(|rest| rest.split_once('"').map(|(name, _)| name))
        .collect();
    assert!(used.len() > 20, "{used:?}");
    let documented: BTreeSet<String> = quoted(&page).into_iter().collect();
    let missing: Vec<_> = used.iter().filter(|name| !documented.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The commands that `--help` lists below a command.
fn commands(of: &[&str]) -> Vec<String> {
    let help = Command::new(env!("CARGO_BIN_EXE_mqtt-gateway")).args(of).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The targets of all links of a page.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link)
}

/// The anchor of a heading: lower case, without punctuation, spaces as hyphens.
fn anchor_of(line: &str) -> Option<String> {
    let heading = line.strip_prefix('#')?.trim_start_matches('#').trim();
    let kept = heading.to_lowercase().replace(' ', "-");
    Some(kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect())
}

/// Claims are sentences, so they have many words.
fn is_the_name_of_a_test(word: &str) -> bool {
    word.matches('_').count() >= 4
        && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit())
}

/// The rows that the document has to have for one part of the matrix, without their beginning.
fn cases_of(part: &&str) -> Vec<String> {
    let mut cases = Vec::new();
    for entry in fs::read_dir(root().join("tests/faults").join(part)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy();
        for test in fs::read_to_string(&path).unwrap().split("#[test]\n").skip(1) {
            let (attributes, rest) = test.split_once("fn ").unwrap();
            let (name, _) = rest.split_once('(').unwrap();
            let slow = if attributes.contains("#[ignore") { "slow" } else { "" };
            cases.push(format!("{file}` | `{name}` | {slow} |"));
        }
    }
    assert!(!cases.is_empty(), "{part}");
    cases
}

fn sources_below(directory: &Path) -> Vec<String> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(&path).unwrap());
        }
    }
    sources
}

/// Headings of the form "## `table`", and the first cells below them.
fn documented_columns() -> Columns {
    let table = |heading: &str| Some(heading.strip_prefix("## `")?.trim_end_matches('`').to_owned());
    let sections = sections(TABLES).into_iter();
    sections.filter_map(|(heading, cells)| Some((table(&heading)?, cells))).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn add<E: EntityTrait + Default + EntityName>(columns: &mut Columns) {
    let names = E::Column::iter().map(|column| column.as_str().to_owned()).collect();
    columns.insert(E::default().table_name().to_owned(), names);
}

/// The README, the pages of `deploy` and everything in `docs`, by path.
fn documents() -> BTreeMap<String, String> {
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "deploy/docker/README.md",
        "deploy/kubernetes/README.md",
    ];
    let mut documents = BTreeMap::from(pages.map(|page| (page.to_owned(), read(page))));
    for directory in ["docs", "docs/howto", "docs/internals"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = format!("{directory}/{}", path.file_name().unwrap().to_string_lossy());
                documents.insert(name.clone(), read(&name));
            }
        }
    }
    documents
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Each heading, and the first cells of the tables below it.
fn sections(document: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut sections: Vec<(String, BTreeSet<String>)> = Vec::new();
    for line in document.lines() {
        if line.starts_with('#') {
            sections.push((line.to_owned(), BTreeSet::new()));
        } else if let Some((cell, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"))
            && let Some((_, cells)) = sections.last_mut()
        {
            assert!(cells.insert(cell.to_owned()), "{cell} twice");
        }
    }
    sections
}

/// Everything between backticks on a line.
fn quoted(document: &str) -> Vec<String> {
    document.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}
