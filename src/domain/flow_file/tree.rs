//! YAML as a tree whose nodes know their places. Bounded, because aliases can make much of a small file.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::place::{FileProblem, Place};

/// Deepest nesting. Payloads and schemas are not deeper either.
const MAX_DEPTH: usize = 128;

/// Most values of a file, those of expanded aliases included.
const MAX_NODES: usize = 2_000_000;

/// A value with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct YamlNode {
    /// The value.
    pub(super) value: NodeValue,
    /// Where it begins.
    pub(super) at: Place,
}

/// A value as JSON knows it. The order of members is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeValue {
    /// `null`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as a number of JSON.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<YamlNode>),
    /// A mapping.
    Map(Vec<NodeMember>),
}

/// A member of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeMember {
    /// Its name.
    pub(super) name: String,
    /// Where the name stands.
    pub(super) at: Place,
    /// Its value.
    pub(super) value: YamlNode,
}

impl YamlNode {
    /// The member with this name.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<&YamlNode> {
        self.member(name).map(|member| &member.value)
    }

    fn member(&self, name: &str) -> Option<&NodeMember> {
        let NodeValue::Map(members) = &self.value else { return None };
        members.iter().find(|member| member.name == name)
    }

    /// The place of the node below these names, or of the last one on the way that exists. The names of list items are
    /// their numbers.
    pub(super) fn place_of<'n>(&self, path: impl IntoIterator<Item = &'n str>) -> Place {
        let (mut node, mut at) = (self, self.at);
        for name in path {
            let next = match &node.value {
                NodeValue::List(items) => {
                    name.parse::<usize>().ok().and_then(|place| items.get(place)).map(|item| (item, item.at))
                }
                _ => node.member(name).map(|member| (&member.value, member.at)),
            };
            let Some((child, place)) = next else { break };
            (node, at) = (child, place);
        }
        at
    }
}

/// Parses a file with one document.
pub(super) fn parse(text: &str) -> Result<YamlNode, Vec<FileProblem>> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            vec![FileProblem::syntax(place(*error.marker()), format!("is no YAML: {}", error.info()))]
        })?;
        builder.take(event, span).map_err(|problem| vec![problem])?;
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    Ok(builder.root.unwrap_or(YamlNode { value: NodeValue::Null, at: Place::START }))
}

fn place(marker: Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

/// A list or mapping whose end has not been read.
struct OpenNode {
    at: Place,
    anchor: usize,
    content: NodeContent,
    /// Values in it, itself included.
    nodes: usize,
}

enum NodeContent {
    List(Vec<YamlNode>),
    Map { members: Vec<NodeMember>, names: HashSet<String>, name: Option<(String, Place)> },
}

#[derive(Default)]
struct Builder {
    open: Vec<OpenNode>,
    /// Nodes with names, and the number of values in each.
    anchors: HashMap<usize, (YamlNode, usize)>,
    nodes: usize,
    root: Option<YamlNode>,
    problems: Vec<FileProblem>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), FileProblem> {
        let at = place(span.start);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(FileProblem::syntax(at, "only one document is read from a file".to_owned()))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())
                    .map_err(|problem| FileProblem::syntax(at, problem))?;
                // A plain scalar in the place of a name is a text, whatever it looks like.
                if self.takes_name(&text, style, at)? {
                    return Ok(());
                }
                self.add(YamlNode { value, at }, anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                self.begin(NodeContent::List(Vec::new()), anchor, tag.as_deref(), at)
            }
            Event::MappingStart(anchor, tag) => {
                let content = NodeContent::Map { members: Vec::new(), names: HashSet::new(), name: None };
                self.begin(content, anchor, tag.as_deref(), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
        }
    }

    fn begin(
        &mut self,
        content: NodeContent,
        anchor: usize,
        tag: Option<&Tag>,
        at: Place,
    ) -> Result<(), FileProblem> {
        if let Some(tag) = tag {
            return Err(FileProblem::syntax(at, unknown_tag(tag)));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(FileProblem::syntax(at, format!("is nested deeper than {MAX_DEPTH} levels")));
        }
        if let Some(OpenNode { content: NodeContent::Map { name: None, .. }, .. }) = self.open.last() {
            return Err(FileProblem::syntax(at, "a name must be a text".to_owned()));
        }
        self.open.push(OpenNode { at, anchor, content, nodes: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), FileProblem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.content {
            NodeContent::List(items) => NodeValue::List(items),
            NodeContent::Map { members, .. } => NodeValue::Map(members),
        };
        self.add(YamlNode { value, at: open.at }, open.anchor, open.nodes)
    }

    fn alias(&mut self, anchor: usize, at: Place) -> Result<(), FileProblem> {
        let Some((node, nodes)) = self.anchors.get(&anchor) else {
            return Err(FileProblem::syntax(at, "the alias stands for a value that contains it".to_owned()));
        };
        if let Some(OpenNode { content: NodeContent::Map { name: None, .. }, .. }) = self.open.last() {
            return Err(FileProblem::syntax(at, "a name must be a text".to_owned()));
        }
        if self.nodes + nodes > MAX_NODES {
            return Err(too_many(at));
        }
        let (node, nodes) = (node.clone(), *nodes);
        self.nodes += nodes - 1;
        self.add(node, 0, nodes)
    }

    /// Takes the name of a member, if one is due.
    fn takes_name(&mut self, text: &str, style: ScalarStyle, at: Place) -> Result<bool, FileProblem> {
        let Some(OpenNode { content: NodeContent::Map { names, name: name @ None, .. }, .. }) =
            self.open.last_mut()
        else {
            return Ok(false);
        };
        if text == "<<" && style == ScalarStyle::Plain {
            let problem = "merging by << is not part of YAML 1.2: repeat the members".to_owned();
            return Err(FileProblem::syntax(at, problem));
        }
        if !names.insert(text.to_owned()) {
            self.problems.push(FileProblem::syntax(at, format!("the name {text:?} is given twice")));
        }
        *name = Some((text.to_owned(), at));
        Ok(true)
    }

    fn add(&mut self, node: YamlNode, anchor: usize, nodes: usize) -> Result<(), FileProblem> {
        // What is kept for aliases takes memory, too.
        self.nodes += if anchor > 0 { 1 + nodes } else { 1 };
        if self.nodes > MAX_NODES {
            return Err(too_many(node.at));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), nodes));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.nodes += nodes;
        match &mut open.content {
            NodeContent::List(items) => items.push(node),
            NodeContent::Map { members, name, .. } => {
                let (name, at) = name.take().unwrap_or_default();
                members.push(NodeMember { name, at, value: node });
            }
        }
        Ok(())
    }
}

fn too_many(at: Place) -> FileProblem {
    FileProblem::syntax(at, format!("the file has more than {MAX_NODES} values, those of aliases included"))
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag {tag} is not supported")
}

/// A scalar by the core schema of YAML 1.2.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<NodeValue, String> {
    match tag {
        None if style == ScalarStyle::Plain => plain(text),
        None => Ok(NodeValue::Text(text.to_owned())),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(NodeValue::Text(text.to_owned())),
        Some(tag) => Err(unknown_tag(tag)),
    }
}

/// A scalar without quotes.
pub(super) fn plain(text: &str) -> Result<NodeValue, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => NodeValue::Null,
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        text => match number(text)? {
            Some(number) => NodeValue::Number(number),
            None => NodeValue::Text(text.to_owned()),
        },
    })
}

fn number(text: &str) -> Result<Option<serde_json::Number>, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} is no number of JSON"));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            let number =
                u64::from_str_radix(digits, radix).map_err(|_| format!("the number {text} is too large"))?;
            return Ok(Some(number.into()));
        }
    }
    if !is_decimal(unsigned) {
        return Ok(None);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if let Ok(number) = text.parse::<u64>() {
        return Ok(Some(number.into()));
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Some(number.into()));
    }
    let number = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
    number.map(Some).ok_or_else(|| format!("the number {text} is too large"))
}

/// Digits with a fraction and an exponent, each of which may be missing.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    are_digits(whole)
        && are_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && are_digits(exponent))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn value(text: &str) -> NodeValue {
        parse(text).unwrap().value
    }

    fn problem(text: &str) -> String {
        parse(text).unwrap_err().iter().map(|problem| problem.line("f")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let text = |text: &str| NodeValue::Text(text.to_owned());
        let number = |number: f64| NodeValue::Number(serde_json::Number::from_f64(number).unwrap());
        assert_eq!(value("yes"), text("yes"));
        assert_eq!(value("\"1\""), text("1"));
        assert_eq!(value("!!str 1"), text("1"));
        assert_eq!((value("~"), value("true")), (NodeValue::Null, NodeValue::Bool(true)));
        assert_eq!(
            (value("0x1F"), value("-7"), value("+7")),
            (NodeValue::Number(31.into()), NodeValue::Number((-7).into()), NodeValue::Number(7.into()))
        );
        assert_eq!((value("1.5"), value("-.5e-1")), (number(1.5), number(-0.05)));
        for no_number in ["1_000", "1.2.3", "0x", "e5", ".", "12:30", "2026-11-30"] {
            assert_eq!(value(no_number), text(no_number));
        }
        assert!(problem(".inf").contains("is no number of JSON"));
    }

    #[test]
    fn problems_name_line_and_column() {
        assert!(problem("a: 1\nb: [\n").starts_with("f:3:1: error: "), "{}", problem("a: 1\nb: [\n"));
        assert_eq!(problem("a: 1\nb: 2\na: 3\n"), "f:3:1: error: the name \"a\" is given twice");
        assert!(problem("a: 1\n---\nb: 2\n").contains("only one document"));
        assert!(problem("a: !x 1").contains("1:4: error: the tag !x is not supported"));
        assert!(problem("[a]: 1").contains("a name must be a text"));
        assert!(problem("a: &x {b: *x}").starts_with("f:1:11: error: "), "{}", problem("a: &x {b: *x}"));
        assert!(problem("a: &x {b: 1}\nc: {<<: *x}").contains("<<"));
    }

    #[test]
    fn aliases_are_expanded_within_a_bound() {
        let json = |text: &str| parse(text).unwrap().to_json();
        assert_eq!(json("a: &x [1]\nb: *x"), json("a: [1]\nb: [1]"));
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let items = vec![before; 10].join(", ");
            let _ = writeln!(bomb, "a{level}: &a{level} [{items}]");
        }
        assert!(problem(&bomb).contains("more than 2000000 values"));
        assert!(problem(&"[".repeat(100_000)).starts_with("f:1:"));
        assert!(problem(&format!("{}1", "- ".repeat(200))).contains("nested deeper than 128 levels"));
    }
}
