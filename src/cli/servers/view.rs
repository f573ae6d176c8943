//! Tables and texts of brokers.

use crate::cli::output::{fields, table};
use crate::control::view::ServerView;

/// The port, also where the table has none.
fn port(server: &ServerView) -> String {
    match server.port {
        Some(port) => port.to_string(),
        None if server.tls == Some(true) => "8883".to_owned(),
        None => "1883".to_owned(),
    }
}

fn shown_flag(flag: Option<bool>) -> String {
    if flag == Some(true) { "yes" } else { "no" }.to_owned()
}

/// One line for each broker.
pub(super) fn list_table(servers: &[ServerView]) -> String {
    let row = |server: &ServerView| {
        vec![
            server.id.to_string(),
            shown_flag(server.enabled),
            shown_flag(server.is_default),
            server.host.clone(),
            port(server),
            shown_flag(server.tls),
            server.username.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = servers.iter().map(row).collect();
    table(&["ID", "ENABLED", "DEFAULT", "HOST", "PORT", "TLS", "USERNAME"], &rows)
}

/// One line for each column.
pub(super) fn show_fields(server: &ServerView) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    fields(&[
        ("id", server.id.to_string()),
        ("host", server.host.clone()),
        ("port", port(server)),
        ("username", text(&server.username)),
        ("password", text(&server.password)),
        ("enabled", shown_flag(server.enabled)),
        ("is_default", shown_flag(server.is_default)),
        ("tls", shown_flag(server.tls)),
        ("ca_file", text(&server.ca_file)),
        ("client_cert_file", text(&server.client_cert_file)),
        ("client_key_file", text(&server.client_key_file)),
        ("protocol_version", text(&server.protocol_version)),
    ])
}
