//! All options: rows for people, made from their JSON Schema.

use serde_json::Value;

use super::FlowOptions;

/// An option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionHelp {
    /// The names that lead to it, separated by dots.
    pub path: String,
    /// Its type, or the values to choose from.
    pub values: String,
    /// What it means.
    pub meaning: String,
}

impl FlowOptions {
    /// All options, those of an object after it.
    #[must_use]
    pub fn help() -> Vec<OptionHelp> {
        let schema = Self::schema();
        let root = schema.as_value();
        let mut help = Vec::new();
        add_members(root, root, "", &mut help);
        help
    }
}

fn add_members(root: &Value, object: &Value, prefix: &str, help: &mut Vec<OptionHelp>) {
    for (name, member) in object["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let node = resolved(root, member);
        let meaning = member["description"].as_str().or_else(|| node["description"].as_str());
        help.push(OptionHelp {
            values: values_of(root, node),
            meaning: meaning.unwrap_or_default().replace('`', ""),
            path: path.clone(),
        });
        add_members(root, node, &format!("{path}."), help);
        for variant in node["oneOf"].as_array().into_iter().flatten() {
            add_variant(root, variant, &path, help);
        }
    }
}

/// A form that an object may have, told from the others by its member `type`.
fn add_variant(root: &Value, variant: &Value, path: &str, help: &mut Vec<OptionHelp>) {
    let Some(kind) = variant["properties"]["type"]["const"].as_str() else { return };
    let mut members = Vec::new();
    add_members(root, variant, &format!("{path}."), &mut members);
    let kind_path = format!("{path}.type");
    members.retain(|member| member.path != kind_path);
    for member in &mut members {
        member.values = format!("{} (type {kind})", member.values);
    }
    help.extend(members);
}

/// The node behind a reference. An option that may be missing is a reference or null.
fn resolved<'v>(root: &'v Value, node: &'v Value) -> &'v Value {
    let choices = node["anyOf"].as_array().into_iter().flatten();
    let reference = choices.chain([node]).find_map(|choice| choice["$ref"].as_str());
    reference.and_then(|reference| root.pointer(reference.trim_start_matches('#'))).unwrap_or(node)
}

fn values_of(root: &Value, node: &Value) -> String {
    let choices: Vec<&Value> = node["oneOf"].as_array().into_iter().flatten().collect();
    let constants: Vec<String> =
        choices.iter().filter_map(|choice| choice["const"].as_str()).map(str::to_owned).collect();
    if !constants.is_empty() {
        return constants.join(" or ");
    }
    let kinds: Vec<&str> =
        choices.iter().filter_map(|choice| choice["properties"]["type"]["const"].as_str()).collect();
    if !kinds.is_empty() {
        return format!("object with type {}", kinds.join(" or "));
    }
    if let Some(items) = node.get("items") {
        return format!("list of {}", values_of(root, resolved(root, items)));
    }
    if let Some(choices) = node["anyOf"].as_array() {
        return choices.iter().map(|choice| values_of(root, choice)).collect::<Vec<_>>().join(" or ");
    }
    let kind = match &node["type"] {
        Value::Array(kinds) => kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")),
        kind => kind.as_str(),
    };
    let kind = match kind.unwrap_or_default() {
        "string" => "text",
        "boolean" => "true or false",
        kind => kind,
    };
    match (&node["minimum"], &node["maximum"]) {
        (Value::Number(min), Value::Number(max)) => format!("{kind} from {min} to {max}"),
        _ => kind.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn help(path: &str) -> Vec<OptionHelp> {
        FlowOptions::help().into_iter().filter(|help| help.path == path).collect()
    }

    #[test]
    fn every_option_has_help() {
        let all = FlowOptions::help();
        for path in ["also_post", "delivery", "delivery.headers", "delivery.batch.max_messages"] {
            assert!(all.iter().any(|help| help.path == path), "{path}");
        }
        for help in all {
            assert!(!help.values.is_empty() && !help.meaning.is_empty(), "{help:?}");
        }
    }

    #[test]
    fn values_are_in_words() {
        let values = |path: &str| help(path).iter().map(|help| help.values.clone()).collect::<Vec<_>>();
        assert_eq!(values("also_post"), ["true or false"]);
        assert_eq!(values("delivery.method"), ["POST or PUT or PATCH"]);
        assert_eq!(values("delivery.timeout_seconds"), ["number from 0.001 to 86400"]);
        assert_eq!(values("delivery.auth"), ["object with type bearer or basic or oauth2"]);
        assert_eq!(values("delivery.auth.token"), ["text (type bearer)"]);
        assert_eq!(values("delivery.success"), ["list of integer from 100 to 999 or text"]);
    }
}
