//! Bounds the work that a JSON Schema causes, before it is compiled.
//!
//! A part of a schema is checked once for each way that leads to it. Two branches of `anyOf` that both go on to the same
//! definition double the ways, and do so again at every level of definitions or of the payload. Forty levels would
//! keep a lane busy for ever. The crate remembers results only of definitions that contain themselves, and only while
//! it looks for a yes or no. Its recursion takes stack, and a process without more stack ends. Therefore:
//!
//! - [`SchemaWork::measure`] refuses a schema with too many ways, where a definition within itself counts once, and
//!   one with too deep nesting.
//! - [`SchemaWork::visits`] says how often one value of a payload is visited at most to describe an error.

use std::collections::HashMap;
use std::ptr;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Maximum visits of one value of a payload, and of the ways through a schema.
const MAX_VISITS: usize = 10_000;
/// Maximum nesting of a schema, references included. Compilation and validation recurse.
const MAX_NESTING: usize = 500;
/// Maximum nesting of schemas for the same value. A schema within itself repeats it at each level of a payload.
const MAX_SAME_NESTING: usize = 24;
/// Levels of a payload for which visits are counted.
const COUNTED_LEVELS: usize = 32;

/// Keywords whose schemas apply to the same value.
const SAME: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
/// Keywords with references to schemas for the same value.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose schemas apply to values below.
const BELOW: [&str; 10] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
];
/// Keywords that use the results of others for the same value.
const LOOK_AGAIN: [&str; 2] = ["unevaluatedProperties", "unevaluatedItems"];

/// Bounds of the work of one schema.
#[derive(Debug)]
pub(super) struct SchemaWork {
    /// Visits of one value of a payload that has as many levels as the index says. The last one counts for all further
    /// levels.
    visits: Vec<usize>,
}

impl SchemaWork {
    /// Measures `schema`. The error names the limit that it exceeds.
    pub(super) fn measure(schema: &Value) -> Result<Self, String> {
        let mut names = Names::default();
        names.collect(schema, schema);
        let mut ways = Ways { names, ..Ways::default() };
        let all = ways.through(schema, None)?.ways;
        if all > MAX_VISITS {
            return Err(format!(
                "its branches and references lead to the same definition in more than {MAX_VISITS} ways"
            ));
        }
        if !ways.has_cycle {
            return Ok(Self { visits: vec![all] });
        }
        let mut visits = Vec::new();
        for levels in 0..=COUNTED_LEVELS {
            match ways.through(schema, Some(levels)) {
                Ok(found) if found.ways <= MAX_VISITS => visits.push(found.ways),
                _ => break,
            }
        }
        visits.push(usize::MAX);
        Ok(Self { visits })
    }

    /// Maximum visits of one value of a payload with so many levels.
    pub(super) fn visits(&self, levels: usize) -> usize {
        self.visits.get(levels).or(self.visits.last()).copied().unwrap_or(usize::MAX)
    }
}

/// What references can name.
#[derive(Default)]
struct Names<'s> {
    /// The nearest `$id` or root around each object.
    resources: HashMap<*const Value, &'s Value>,
    /// Anchors and last parts of `$id`.
    named: HashMap<&'s str, Vec<&'s Value>>,
}

impl<'s> Names<'s> {
    fn collect(&mut self, value: &'s Value, resource: &'s Value) {
        match value {
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str);
                let id = text("$id").or_else(|| text("id"));
                let resource = if id.is_some() { value } else { resource };
                self.resources.insert(ptr::from_ref(value), resource);
                let anchors = [text("$anchor"), text("$dynamicAnchor"), id.map(last_part)];
                for name in anchors.into_iter().flatten() {
                    self.named.entry(name).or_default().push(value);
                }
                members.values().for_each(|member| self.collect(member, resource));
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.collect(element, resource)),
            _ => {}
        }
    }

    /// The schemas that a reference within `schema` can mean. None for the schema of a draft, or an unknown one.
    fn targets(&self, schema: &Value, reference: &str) -> Vec<&'s Value> {
        let (file, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resources: Vec<&Value> = if file.is_empty() {
            self.resources.get(&ptr::from_ref(schema)).copied().into_iter().collect()
        } else {
            self.named.get(last_part(file)).cloned().unwrap_or_default()
        };
        if fragment.is_empty() || fragment.starts_with('/') {
            let pointer = percent_decode_str(fragment).decode_utf8_lossy();
            return resources.into_iter().filter_map(|resource| resource.pointer(&pointer)).collect();
        }
        self.named.get(fragment).cloned().unwrap_or_default()
    }
}

fn last_part(id: &str) -> &str {
    let id = id.split_once('#').map_or(id, |(file, _)| file);
    id.rsplit(['/', ':']).next().unwrap_or(id)
}

/// Counts ways through a schema.
#[derive(Default)]
struct Ways<'s> {
    names: Names<'s>,
    known: HashMap<SchemaPlace, Reach>,
    /// The schemas on the way, with the number of steps below the value at which it began.
    open: HashMap<SchemaPlace, usize>,
    steps_below: usize,
    has_cycle: bool,
}

/// A schema, and the levels of the payload that are left. Without levels, a definition within itself counts once.
type SchemaPlace = (*const Value, Option<usize>);

/// What a schema leads to.
#[derive(Debug, Clone, Copy, Default)]
struct Reach {
    /// Most ways to one value.
    ways: usize,
    /// Nested schemas for the same value.
    nesting: usize,
}

impl Reach {
    const ONE: Self = Self { ways: 1, nesting: 1 };

    /// Both are followed for the same value.
    fn and(self, other: Self) -> Self {
        Self { ways: self.ways.saturating_add(other.ways), nesting: self.nesting.max(other.nesting) }
    }
}

impl<'s> Ways<'s> {
    /// What `schema` leads to. A schema that is reached again within itself ends the way, or takes a level of `levels`.
    fn through(&mut self, schema: &'s Value, levels: Option<usize>) -> Result<Reach, String> {
        let Value::Object(members) = schema else { return Ok(Reach::ONE) };
        let place = (ptr::from_ref(schema), levels);
        if let Some(reach) = self.known.get(&place) {
            return Ok(*reach);
        }
        if let Some(steps_below) = self.open.get(&place) {
            if *steps_below == self.steps_below {
                return Err("a reference leads back to its own definition for the same value".to_owned());
            }
            self.has_cycle = true;
            return Ok(Reach::ONE);
        }
        if self.open.len() >= MAX_NESTING {
            return Err(format!("its definitions are nested more than {MAX_NESTING} levels deep"));
        }
        self.open.insert(place, self.steps_below);
        let (same, below) =
            (self.through_same(schema, members, levels)?, self.through_below(members, levels)?);
        self.open.remove(&place);
        if same.nesting >= MAX_SAME_NESTING {
            return Err(format!(
                "more than {MAX_SAME_NESTING} definitions for the same value are nested in each other"
            ));
        }
        let ways = same.ways.saturating_add(1).max(same.ways.saturating_add(below));
        let reach = Reach { ways, nesting: same.nesting + 1 };
        self.known.insert(place, reach);
        Ok(reach)
    }

    fn through_same(
        &mut self,
        schema: &'s Value,
        members: &'s Map<String, Value>,
        levels: Option<usize>,
    ) -> Result<Reach, String> {
        let mut schemas: Vec<&Value> = Vec::new();
        for reference in REFERENCES.iter().filter_map(|keyword| members.get(*keyword)?.as_str()) {
            schemas.extend(self.names.targets(schema, reference));
        }
        for keyword in SAME {
            match (keyword, members.get(keyword)) {
                (_, Some(Value::Array(branches))) => schemas.extend(branches),
                ("dependentSchemas" | "dependencies", Some(Value::Object(by_name))) => {
                    schemas.extend(by_name.values());
                }
                (_, Some(branch)) => schemas.push(branch),
                (_, None) => {}
            }
        }
        let mut reach = Reach::default();
        for schema in schemas {
            reach = reach.and(self.through(schema, levels)?);
        }
        // These visit the values of the others again.
        let again = LOOK_AGAIN.iter().any(|keyword| members.contains_key(*keyword));
        Ok(if again { reach.and(reach) } else { reach })
    }

    /// The ways to one value below.
    fn through_below(
        &mut self,
        members: &'s Map<String, Value>,
        levels: Option<usize>,
    ) -> Result<usize, String> {
        let below = match levels {
            Some(0) => return Ok(0),
            levels => levels.map(|levels| levels - 1),
        };
        self.steps_below += 1;
        let mut ways = 0_usize;
        for keyword in BELOW {
            let mut schemas = Vec::new();
            match (keyword, members.get(keyword)) {
                ("properties" | "patternProperties", Some(Value::Object(by_name))) => {
                    schemas.extend(by_name.values());
                }
                (_, Some(Value::Array(by_position))) => schemas.extend(by_position),
                (_, Some(schema)) => schemas.push(schema),
                (_, None) => {}
            }
            let mut of_keyword = 0_usize;
            for schema in schemas {
                let ways = self.through(schema, below)?.ways;
                // A value has one name and one position, but can match several patterns.
                let adds_up = keyword == "patternProperties";
                of_keyword = if adds_up { of_keyword.saturating_add(ways) } else { of_keyword.max(ways) };
            }
            ways = ways.saturating_add(of_keyword);
        }
        self.steps_below -= 1;
        Ok(ways)
    }
}
