//! The operations of the API by path and method, as the OpenAPI description has them.

use std::collections::{BTreeMap, BTreeSet};

use actix_web::dev::ResourceDef;
use serde_json::Value;

use crate::domain::api_token::TokenScope;

/// Methods of HTTP, as the description writes them.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// An operation.
#[derive(Debug)]
pub(super) struct Operation {
    /// The scope that a token must have.
    pub(super) scope: TokenScope,
    /// Names of the parameters in the query.
    pub(super) query: Vec<String>,
}

/// The operation of a path and a method.
#[derive(Debug)]
pub(super) enum FoundOperation<'o> {
    Found(&'o Operation),
    /// The methods of the path.
    OtherMethods(String),
    Unknown,
}

/// All operations.
pub(super) struct Operations(Vec<(ResourceDef, BTreeMap<String, Operation>)>);

impl Operations {
    /// Reads the operations of a description whose paths begin after `prefix`.
    pub(super) fn new(description: &Value, prefix: &str) -> Self {
        let paths = description["paths"].as_object().into_iter().flatten();
        let operations = paths.map(|(path, item)| {
            let described = METHODS.iter().filter_map(|method| Some((method, item.get(method)?)));
            let operations =
                described.map(|(method, described)| (method.to_uppercase(), Operation::new(described)));
            (ResourceDef::new(format!("{prefix}{path}")), operations.collect())
        });
        Self(operations.collect())
    }

    pub(super) fn find(&self, path: &str, method: &str) -> FoundOperation<'_> {
        let mut methods = BTreeSet::new();
        let matching: Vec<_> = self.0.iter().filter(|(resource, _)| resource.is_match(path)).collect();
        // A fixed path goes before one with a name in it.
        let is_fixed =
            |resource: &ResourceDef| resource.pattern().is_some_and(|pattern| !pattern.contains('{'));
        let has_fixed = matching.iter().any(|(resource, _)| is_fixed(resource));
        for (_, operations) in matching.into_iter().filter(|(resource, _)| !has_fixed || is_fixed(resource)) {
            if let Some(operation) = operations.get(method) {
                return FoundOperation::Found(operation);
            }
            methods.extend(operations.keys().map(String::as_str));
        }
        if methods.is_empty() {
            return FoundOperation::Unknown;
        }
        FoundOperation::OtherMethods(methods.into_iter().collect::<Vec<_>>().join(", "))
    }
}

impl Operation {
    fn new(described: &Value) -> Self {
        let scope = described["security"][0]["token"][0].as_str().and_then(TokenScope::from_name);
        let parameters = described["parameters"].as_array().into_iter().flatten();
        let query = parameters.filter(|parameter| parameter["in"] == "query");
        Self {
            // Only administrators may use an operation without a scope.
            scope: scope.unwrap_or(TokenScope::Admin),
            query: query.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned())).collect(),
        }
    }
}
