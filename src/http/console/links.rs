//! Links to pages that several parts name.

use super::fields::link;

/// The page of a flow.
pub(super) fn flow_link(code: &str) -> String {
    link("/flow", [("code", code)])
}

/// The page of a broker.
pub(super) fn broker_link(id: &str) -> String {
    link("/broker", [("id", id)])
}
