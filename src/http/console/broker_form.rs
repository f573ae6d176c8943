//! The form of a broker: adds and edits it.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;

use super::brokers::{PART, after_edit};
use super::conflict::Conflict;
use super::fields::{Fields, link};
use super::inputs::{CHECKED, FormError, FormInput, InputDescription, form_errors, form_inputs};
use super::links::broker_link;
use super::page::{ConsoleError, Page, PageFrame, Reply};
use super::visitor::{Submission, Visitor};
use crate::control::view::ServerView;
use crate::control::{Control, ControlError, ExpectedVersion, ServerFields};
use crate::domain::api_token::TokenScope;
use crate::domain::credential::Credential;
use crate::domain::problem::Problem;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

/// The fields of the form.
const INPUTS: [InputDescription; 10] = [
    InputDescription::line("host", "Host", "Name or address: broker.example, 192.0.2.7."),
    InputDescription::line("port", "Port", "Empty for 1883, with TLS 8883."),
    InputDescription::line(
        "username",
        "User name",
        "Empty for a broker without login. May be env:NAME or file:/PATH.",
    ),
    InputDescription::line(
        "password",
        "Password",
        "Best a reference to it: file:/PATH or env:NAME. *** stands for the password that stays as it is.",
    ),
    InputDescription::check(
        "tls",
        "TLS",
        "Encrypts the connection, and verifies the certificate of the broker.",
    ),
    InputDescription::line(
        "ca_file",
        "Certificate authorities",
        "A PEM file. Empty for the authorities of the system.",
    ),
    InputDescription::line(
        "client_cert_file",
        "Client certificate",
        "A PEM file, for a broker that asks for one.",
    ),
    InputDescription::line("client_key_file", "Key of the client certificate", "A PEM file."),
    InputDescription::choice(
        "protocol_version",
        "MQTT version",
        "Any: 5, and 3.1.1 if the broker knows no 5.",
        &["", "5", "3.1.1"],
    ),
    InputDescription::check(
        "is_default",
        "Preferred",
        "Gateways try preferred brokers first, and then the others in the order of their ids.",
    ),
];

#[derive(Template)]
#[template(path = "broker_form.html", config = "src/http/console/askama.toml")]
struct BrokerFormPage {
    frame: PageFrame,
    /// Id of the broker; empty for a new one.
    id: String,
    /// Version of the broker that the form was made for.
    version: String,
    inputs: Vec<FormInput>,
    /// Whether a new broker is to be enabled.
    enabled: bool,
    errors: Vec<FormError>,
    /// Warnings that belong to no field of the form.
    problems: Vec<Problem>,
    conflict: Option<Conflict>,
    command: String,
}

impl BrokerFormPage {
    fn new(
        frame: PageFrame,
        (id, version): (&str, &str),
        value: impl Fn(&str) -> String,
        problems: &[Problem],
    ) -> Self {
        let (errors, warnings) = form_errors(problems, &INPUTS.map(|input| input.label()));
        Self {
            frame,
            id: id.to_owned(),
            version: version.to_owned(),
            enabled: value("enabled") == CHECKED,
            inputs: form_inputs(&INPUTS, value, problems),
            errors,
            problems: warnings,
            conflict: None,
            command: if id.is_empty() {
                "mqtt-gateway servers add --help".to_owned()
            } else {
                format!("mqtt-gateway servers edit {id} --help")
            },
        }
    }

    fn broker_link(&self) -> String {
        broker_link(&self.id)
    }
}

/// The value of a field for a broker. Secrets are masked.
fn shown(server: &ServerView, name: &str) -> String {
    let flag = |flag: Option<bool>| if flag == Some(true) { CHECKED.to_owned() } else { String::new() };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match name {
        "host" => server.host.clone(),
        "port" => server.port.map(|port| port.to_string()).unwrap_or_default(),
        "username" => text(&server.username),
        "password" => text(&server.password),
        "tls" => flag(server.tls),
        "ca_file" => text(&server.ca_file),
        "client_cert_file" => text(&server.client_cert_file),
        "client_key_file" => text(&server.client_key_file),
        "protocol_version" => text(&server.protocol_version),
        "is_default" => flag(server.is_default),
        _ => String::new(),
    }
}

/// The edit of a form: the fields that differ from the shown ones.
fn edit_of(fields: &Fields, shown: impl Fn(&str) -> String) -> Result<ServerFields, ControlError> {
    let new = |name: &str| Some(fields.get(name).trim().to_owned()).filter(|text| *text != shown(name));
    let flag = |name: &str| new(name).map(|value| value == CHECKED);
    let credential =
        |name: &str| new(name).map(|text| Some(text).filter(|text| !text.is_empty()).map(Credential::new));
    let port = match new("port").as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(text.parse().map_err(|_| {
            ControlError::invalid("port", format!("{text:?} is no number"), "give a port from 1 to 65535")
        })?)),
    };
    Ok(ServerFields {
        host: new("host"),
        port,
        username: credential("username"),
        password: credential("password"),
        enabled: None,
        is_default: flag("is_default"),
        tls: flag("tls"),
        ca_file: new("ca_file"),
        client_cert_file: new("client_cert_file"),
        client_key_file: new("client_key_file"),
        protocol_version: new("protocol_version"),
    })
}

/// Shows the form of a broker.
pub(super) async fn show_edit(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let id = visitor.query.number("id")?;
    let frame = visitor.frame(PART, format!("Edit broker {id}"));
    let page = thread.run(async move |control| {
        let server = control.server(id).await?;
        let (view, version) = (ServerView::new(&server), control.server_version(&server).await?);
        let value = |name: &str| shown(&view, name);
        Page::new(&BrokerFormPage::new(frame, (&id.to_string(), &version), value, &[]))
    });
    Ok(page.await?)
}

/// Saves the form of a broker.
pub(super) async fn edit(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let id = fields.number("id")?;
    let frame = visitor.frame(PART, format!("Edit broker {id}"));
    let reply = thread.run_as(&visitor.caller, async move |control| -> Result<Reply, ApiProblem> {
        let server = match control.server(id).await {
            Err(ControlError::NotFound { .. }) => return removed(frame, &fields),
            server => server?,
        };
        let view = ServerView::new(&server);
        let edited = match edit_of(&fields, |name| shown(&view, name)) {
            Ok(edit) => {
                let expected = ExpectedVersion::OneOf(vec![fields.get("version").to_owned()]);
                control.edit_server_version(id, &edit, &expected).await
            }
            Err(error) => Err(error),
        };
        let form = |version: &str, problems: &[Problem]| {
            let value = |name: &str| fields.get(name).to_owned();
            BrokerFormPage::new(frame, (&id.to_string(), version), value, problems)
        };
        let (status, form) = match edited {
            Ok(edited) => return Ok(Reply::See(after_edit(&edited, "saved"))),
            Err(ControlError::Invalid { problems }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, form(fields.get("version"), &problems))
            }
            Err(ControlError::Outdated { .. } | ControlError::Conflict { .. }) => {
                let conflict = conflict(control, id, &fields).await?;
                let form = form(&conflict.version, &[]);
                (StatusCode::CONFLICT, BrokerFormPage { conflict: Some(conflict), ..form })
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Reply::Show(Page::with_status(status, &form)?))
    });
    Ok(reply.await?)
}

/// What differs between the entries and the broker, which was changed after the form was made.
async fn conflict(control: &Control, id: i64, fields: &Fields) -> Result<Conflict, ControlError> {
    let server = control.server(id).await?;
    let (view, version) = (ServerView::new(&server), control.server_version(&server).await?);
    let now = INPUTS.each_ref().map(|input| shown(&view, input.name));
    let values = INPUTS.iter().zip(&now).map(|(input, now)| {
        let (name, label) = input.label();
        (label, now.as_str(), fields.get(name).trim())
    });
    Ok(Conflict::changed("broker", link("/broker/edit", [("id", id.to_string().as_str())]), version, values))
}

/// The form of a broker that was removed meanwhile: it keeps its entries, and adds a broker.
fn removed(frame: PageFrame, fields: &Fields) -> Result<Reply, ApiProblem> {
    let value = |name: &str| match name {
        "enabled" => CHECKED.to_owned(),
        name => fields.get(name).to_owned(),
    };
    let conflict = Some(Conflict::removed("broker"));
    let form = BrokerFormPage { conflict, ..BrokerFormPage::new(frame, ("", ""), value, &[]) };
    Ok(Reply::Show(Page::with_status(StatusCode::CONFLICT, &form)?))
}

/// Shows the form of a new broker.
pub(super) async fn show_new(visitor: Visitor) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a broker");
    let value = |name: &str| if name == "enabled" { CHECKED.to_owned() } else { String::new() };
    Ok(Page::new(&BrokerFormPage::new(frame, ("", ""), value, &[]))?)
}

/// Adds a broker.
pub(super) async fn add(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a broker");
    let reply = thread.run_as(&visitor.caller, async move |control| -> Result<Reply, ApiProblem> {
        let added = match edit_of(&fields, |_| String::new()) {
            Ok(edit) => {
                let enabled = Some(fields.get("enabled") == CHECKED);
                control.add_server(&ServerFields { enabled, ..edit }).await
            }
            Err(error) => Err(error),
        };
        match added {
            Ok(added) => Ok(Reply::See(after_edit(&added, "added"))),
            Err(ControlError::Invalid { problems }) => {
                let value = |name: &str| fields.get(name).to_owned();
                let form = BrokerFormPage::new(frame, ("", ""), value, &problems);
                Ok(Reply::Show(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &form)?))
            }
            Err(error) => Err(error.into()),
        }
    });
    Ok(reply.await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::server_definition::{ServerDefinition, ServerRecord};

    fn view() -> ServerView {
        let definition = ServerDefinition {
            host: "h".to_owned(),
            port: Some(1884),
            password: Some(Credential::new("s3cret")),
            tls: Some(true),
            client_key_file: Some("-----BEGIN s3cret".to_owned()),
            ..ServerDefinition::default()
        };
        ServerView::new(&ServerRecord { id: 1, definition })
    }

    fn edit(changes: &[(&str, &str)]) -> Result<ServerFields, ControlError> {
        let view = view();
        let mut pairs = Vec::new();
        for InputDescription { name, .. } in &INPUTS {
            let entered =
                changes.iter().find(|(known, _)| known == name).map(|(_, value)| (*value).to_owned());
            pairs.push(((*name).to_owned(), entered.unwrap_or_else(|| shown(&view, name))));
        }
        let sent = super::super::fields::link_with("", &pairs);
        edit_of(&Fields::parse(sent.trim_start_matches('?').as_bytes()), |name| shown(&view, name))
    }

    #[test]
    fn form_that_was_not_touched_is_no_edit() {
        for name in ["password", "client_key_file"] {
            assert_eq!(shown(&view(), name), "***");
        }
        assert_eq!(edit(&[]).unwrap(), ServerFields::default());
    }

    #[test]
    fn changed_fields_are_edited() {
        let cleared = edit(&[("port", ""), ("tls", ""), ("password", "")]).unwrap();
        let expected = ServerFields {
            port: Some(None),
            tls: Some(false),
            password: Some(None),
            ..ServerFields::default()
        };
        assert_eq!(cleared, expected);
        assert_eq!(edit(&[("port", "8883")]).unwrap().port, Some(Some(8883)));
        assert_eq!(edit(&[("port", "x")]).unwrap_err().kind(), "invalid");
    }
}
