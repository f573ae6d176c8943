//! Trees from JSON, and JSON from trees. The order of members is kept, because an error names the first field.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::place::Place;
use super::tree::{NodeMember, NodeValue, YamlNode};

impl YamlNode {
    /// Parses JSON.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The text of the node as JSON.
    #[must_use]
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The node as a value, without the order of its members.
    #[must_use]
    pub(super) fn to_value(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.clone()),
            NodeValue::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            NodeValue::Map(members) => {
                let member = |member: &NodeMember| (member.name.clone(), member.value.to_value());
                Value::Object(members.iter().map(member).collect())
            }
        }
    }
}

impl From<NodeValue> for YamlNode {
    fn from(value: NodeValue) -> Self {
        Self { value, at: Place::default() }
    }
}

impl Serialize for YamlNode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            NodeValue::Null => serializer.serialize_unit(),
            NodeValue::Bool(value) => serializer.serialize_bool(*value),
            NodeValue::Number(number) => number.serialize(serializer),
            NodeValue::Text(text) => serializer.serialize_str(text),
            NodeValue::List(items) => serializer.collect_seq(items),
            NodeValue::Map(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for NodeMember { name, value, .. } in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for YamlNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = YamlNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<YamlNode, E> {
        Ok(NodeValue::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<YamlNode, E> {
        Ok(NodeValue::Bool(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<YamlNode, E> {
        Ok(NodeValue::Number(value.into()).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<YamlNode, E> {
        Ok(NodeValue::Number(value.into()).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<YamlNode, E> {
        Ok(serde_json::Number::from_f64(value).map_or(NodeValue::Null, NodeValue::Number).into())
    }

    fn visit_str<E>(self, text: &str) -> Result<YamlNode, E> {
        Ok(NodeValue::Text(text.to_owned()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<YamlNode, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(NodeValue::List(items).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlNode, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            members.push(NodeMember { name, at: Place::default(), value });
        }
        Ok(NodeValue::Map(members).into())
    }
}
