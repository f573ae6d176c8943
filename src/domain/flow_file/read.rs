//! Reads files. Every problem has a place.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::items::{FlowItem, SECTIONS, ServerItem, TestItem};
use super::place::{FileProblem, Place};
use super::tree::{NodeValue, YamlNode, parse};
use super::{ExpectedOutcome, FileEntry, FlowFile, FlowTest};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::masking::{MaskedFlow, MaskedServer};

/// Longest file in bytes.
const MAX_BYTES: usize = 64 << 20;

pub(super) fn read(text: &str) -> Result<FlowFile, Vec<FileProblem>> {
    if text.len() > MAX_BYTES {
        let problem = format!("the file has more than {} MiB", MAX_BYTES >> 20);
        return Err(vec![FileProblem::syntax(Place::START, problem)]);
    }
    let root = parse(text)?;
    let mut problems = Vec::new();
    let file = FlowFile {
        flows: section(&root, "flows", &mut problems, flow),
        servers: section(&root, "servers", &mut problems, server),
        tests: section(&root, "tests", &mut problems, test).unwrap_or_default(),
    };
    check_names(&root, &mut problems);
    if problems.is_empty() { Ok(file) } else { Err(problems) }
}

fn check_names(root: &YamlNode, problems: &mut Vec<FileProblem>) {
    let NodeValue::Map(members) = &root.value else {
        let problem = "expected a mapping with flows, servers or tests".to_owned();
        problems.push(FileProblem::syntax(root.at, problem));
        return;
    };
    for member in members.iter().filter(|member| !SECTIONS.contains(&member.name.as_str())) {
        let problem = format!("unknown name {:?}, expected one of {}", member.name, SECTIONS.join(", "));
        problems.push(FileProblem::syntax(member.at, problem));
    }
}

/// Reads the items of a list. Each wrong item is one problem.
fn section<T>(
    root: &YamlNode,
    name: &str,
    problems: &mut Vec<FileProblem>,
    read: impl Fn(&YamlNode, &mut Vec<FileProblem>) -> Option<T>,
) -> Option<Vec<T>> {
    let node = root.get(name)?;
    let NodeValue::List(items) = &node.value else {
        problems.push(FileProblem::syntax(node.at, format!("{name}: expected a list")));
        return None;
    };
    Some(items.iter().filter_map(|item| read(item, problems)).collect())
}

fn flow(node: &YamlNode, problems: &mut Vec<FileProblem>) -> Option<FileEntry<MaskedFlow>> {
    let item: FlowItem = typed(node, "flow", "code", problems)?;
    // The texts come from the tree, where the members have their order.
    let json = |given: bool, name: &str| node.get(name).filter(|_| given).map(YamlNode::to_json);
    Some(entry(
        node,
        MaskedFlow {
            code: item.code,
            description: item.description,
            topic: item.topic,
            action: item.action,
            payload_schema: json(item.payload_schema.is_some(), "payload_schema")
                .or_else(|| Some("{}".to_owned())),
            endpoint_url: item.endpoint_url,
            options: json(item.options.is_some(), "options"),
            message_key: item.message_key,
            enabled: Some(item.enabled),
        },
    ))
}

fn server(node: &YamlNode, problems: &mut Vec<FileProblem>) -> Option<FileEntry<MaskedServer>> {
    let item: ServerItem = typed(node, "server", "host", problems)?;
    Some(entry(
        node,
        MaskedServer {
            host: item.host,
            port: item.port.map(i64::from),
            username: item.username,
            password: item.password,
            enabled: Some(item.enabled),
            is_default: Some(item.is_default),
            tls: Some(item.tls),
            ca_file: item.ca_file,
            client_cert_file: item.client_cert_file,
            client_key_file: item.client_key_file,
            protocol_version: item.protocol_version,
        },
    ))
}

fn test(node: &YamlNode, problems: &mut Vec<FileProblem>) -> Option<FileEntry<FlowTest>> {
    let item: TestItem = typed(node, "test", "name", problems)?;
    let expected = match (item.rows, item.request, item.reason) {
        (Some(rows), None, None) => ExpectedOutcome::Rows(rows),
        (None, Some(request), None) => ExpectedOutcome::Request(request),
        (None, None, Some(name)) => {
            let Some(reason) = DeadLetterReason::from_name(&name) else {
                let problem = format!(
                    "test {:?}: unknown reason {name:?}: docs/TABLES.md lists the reasons",
                    item.name
                );
                problems.push(FileProblem::syntax(node.place_of(["reason"]), problem));
                return None;
            };
            ExpectedOutcome::Reason(reason)
        }
        _ => {
            let problem = format!("test {:?}: expected exactly one of rows, request and reason", item.name);
            problems.push(FileProblem::syntax(node.at, problem));
            return None;
        }
    };
    let payload = match (&item.payload, node.get("payload")) {
        (Value::String(text), _) => text.clone(),
        (_, Some(payload)) => payload.to_json(),
        (_, None) => String::new(),
    };
    let test = FlowTest {
        name: item.name,
        flow: item.flow,
        topic: item.topic,
        payload: payload.into_bytes(),
        expected,
    };
    Some(entry(node, test))
}

fn entry<T>(node: &YamlNode, value: T) -> FileEntry<T> {
    let fields = match &node.value {
        NodeValue::Map(members) => members.iter().map(|member| (member.name.clone(), member.at)).collect(),
        _ => Vec::new(),
    };
    FileEntry { value, at: node.at, fields }
}

/// The item as its type. A problem names the item by `key`.
fn typed<T: DeserializeOwned>(
    node: &YamlNode,
    kind: &str,
    key: &str,
    problems: &mut Vec<FileProblem>,
) -> Option<T> {
    let error = match serde_path_to_error::deserialize(node.to_value()) {
        Ok(item) => return Some(item),
        Err(error) => error,
    };
    let path = error.path().to_string();
    let segments = path.split(['.', '[', ']']).filter(|name| !name.is_empty());
    let at = node.place_of(segments);
    let name = match node.get(key).map(|name| &name.value) {
        Some(NodeValue::Text(name)) => format!("{kind} {name}"),
        _ => kind.to_owned(),
    };
    let subject = if path == "." { name } else { format!("{name}: {path}") };
    let problem = format!("{subject}: {}", without_values(&error.inner().to_string()));
    problems.push(FileProblem::syntax(at, problem));
    None
}

/// Removes the value that serde quotes behind its type: it may be a secret.
fn without_values(problem: &str) -> String {
    let Some(rest) =
        ["invalid type: ", "invalid value: "].iter().find_map(|start| problem.strip_prefix(start))
    else {
        return problem.to_owned();
    };
    let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
    let found = rest.split(['`', '"', ',']).next().unwrap_or_default().trim();
    format!("expected {expected}, found {found}")
}
