//! The commands that change brokers.

use clap::Args;
use serde_json::json;

use crate::cli::input::{confirm, secret_argument};
use crate::cli::output::{CommandReport, document, problem_lines, visible};
use crate::control::view::EditedServerView;
use crate::control::{Control, ControlError, EditedServer, ServerFields};
use crate::domain::credential::Credential;

/// When an edit counts.
const NOTICED: &str = "Running gateways notice it within two seconds.";

/// Text below the options in `--help` of `add` and `edit`.
pub(super) const HELP: &str = "\
Examples:
  mqtt-gateway servers add --host broker.example --tls true --username gateway --password file:/run/secrets/mqtt
  mqtt-gateway servers edit 1 --password - < password.txt
An empty text ('') clears a column that may be empty.
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// The columns of a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct ServerOptions {
    /// Name or address of the broker.
    #[arg(long)]
    host: Option<String>,
    /// Port [default: 1883, with TLS 8883].
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=65_535))]
    port: Option<i64>,
    /// User name, or a reference to it.
    #[arg(long)]
    username: Option<String>,
    /// A reference to the password (`file:/PATH` or `env:NAME`), or - to read the password from standard input.
    #[arg(long, value_name = "REFERENCE|-")]
    password: Option<String>,
    /// Encrypt the connection, and verify the broker's certificate.
    #[arg(long, value_name = "true|false")]
    tls: Option<bool>,
    /// PEM file with the authorities that sign the broker's certificate [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// PEM file with the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    client_cert_file: Option<String>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE")]
    client_key_file: Option<String>,
    /// Use only this version of MQTT: 5 or 3.1.1.
    #[arg(long, value_name = "VERSION")]
    protocol_version: Option<String>,
    /// Try this broker before those that are no default.
    #[arg(long, value_name = "true|false")]
    default: Option<bool>,
    /// Leave the broker disabled.
    #[arg(long)]
    disabled: bool,
}

impl ServerOptions {
    fn fields(self) -> Result<ServerFields, ControlError> {
        let credential = |text: String| Some(text).filter(|text| !text.is_empty()).map(Credential::new);
        let password = self.password.map(|text| secret_argument("--password", &text)).transpose()?;
        Ok(ServerFields {
            host: self.host,
            port: self.port.map(Some),
            username: self.username.map(credential),
            password: password.map(credential),
            enabled: self.disabled.then_some(false),
            is_default: self.default,
            tls: self.tls,
            ca_file: self.ca_file,
            client_cert_file: self.client_cert_file,
            client_key_file: self.client_key_file,
            protocol_version: self.protocol_version,
        })
    }
}

pub(super) async fn add(control: &Control, fields: ServerOptions) -> Result<CommandReport, ControlError> {
    let added = control.add_server(&fields.fields()?).await?;
    Ok(report("Added", &added))
}

pub(super) async fn edit(
    control: &Control,
    id: i64,
    fields: ServerOptions,
) -> Result<CommandReport, ControlError> {
    let edited = control.edit_server(id, &fields.fields()?).await?;
    Ok(report("Changed", &edited))
}

pub(super) async fn set_enabled(
    control: &Control,
    id: i64,
    enabled: bool,
) -> Result<CommandReport, ControlError> {
    let fields = ServerFields { enabled: Some(enabled), ..ServerFields::default() };
    let edited = control.edit_server(id, &fields).await?;
    Ok(report(if enabled { "Enabled" } else { "Disabled" }, &edited))
}

pub(super) async fn remove(control: &Control, id: i64, yes: bool) -> Result<CommandReport, ControlError> {
    let server = control.server(id).await?;
    let host = visible(&server.definition.host);
    if !yes {
        confirm(&format!("Remove the MQTT server {id}, {host}?"))?;
    }
    control.remove_server(&server).await?;
    let text = format!("Removed MQTT server {id}, {host}. {NOTICED}\n");
    Ok(CommandReport::new(text, json!({"removed": {"id": id}})))
}

fn report(done: &str, edited: &EditedServer) -> CommandReport {
    let EditedServer { server, changed, warnings } = edited;
    let (id, host) = (server.id, visible(&server.definition.host));
    let line = if *changed {
        format!("{done} MQTT server {id}, {host}. {NOTICED}\n")
    } else {
        format!("MQTT server {id} is unchanged: it has these values already.\n")
    };
    CommandReport::new(format!("{line}{}", problem_lines(warnings)), document(&EditedServerView::new(edited)))
}
