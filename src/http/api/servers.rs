//! Brokers.

use actix_web::web::{Data, Path, ReqData, ServiceConfig};
use actix_web::{HttpRequest, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::ApiAnswer;
use super::body::{ApiBody, ApiText, Given, Whole, not_null};
use super::page::{PageQuery, PageRequest, page_of};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use super::versions::expected_version;
use crate::control::view::{EditedServerView, ServerTestView, ServerView};
use crate::control::{Caller, ServerFields};
use crate::domain::credential::Credential;
use crate::domain::server_definition::ServerRecord;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(list_servers)
        .service(show_server)
        .service(add_server)
        .service(edit_server)
        .service(remove_server)
        .service(enable_server)
        .service(disable_server)
        .service(test_server);
}

/// A page of brokers, in the order in which the gateway tries them.
#[derive(Debug, Serialize, ToSchema)]
struct ServersPage {
    servers: Vec<ServerView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// The columns of a broker. `***` as the password stands for the present one; null clears a column that may be empty.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ServerBody {
    /// Name or address.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    host: Option<ApiText>,
    /// Port; 1883, with TLS 8883, if it is not given.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 65535)]
    port: Given<Whole>,
    /// User name, or a reference to it.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    username: Given<ApiText>,
    /// Password, or better a reference to it: `file:/PATH` or `env:NAME`.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    password: Given<ApiText>,
    /// Whether the gateway uses it.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
    /// Whether it comes before those that are no default.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    is_default: Option<bool>,
    /// Whether the connection is encrypted.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    tls: Option<bool>,
    /// PEM file with the authorities that sign its certificate.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    ca_file: Given<ApiText>,
    /// PEM file with the gateway's certificate.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    client_cert_file: Given<ApiText>,
    /// PEM file with its key.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    client_key_file: Given<ApiText>,
    /// The only version of MQTT to use: 5 or 3.1.1.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    protocol_version: Given<ApiText>,
}

impl ServerBody {
    fn fields(self) -> ServerFields {
        // An empty text clears a column.
        let text = |given: Given<ApiText>| given.or_cleared(String::new(), |text| text.0);
        let credential = |given: Given<ApiText>| {
            given.or_cleared(None, |text| Some(text.0).filter(|text| !text.is_empty()).map(Credential::new))
        };
        ServerFields {
            host: self.host.map(|host| host.0),
            port: self.port.or_cleared(None, |port| Some(port.0)),
            username: credential(self.username),
            password: credential(self.password),
            enabled: self.enabled,
            is_default: self.is_default,
            tls: self.tls,
            ca_file: text(self.ca_file),
            client_cert_file: text(self.client_cert_file),
            client_key_file: text(self.client_key_file),
            protocol_version: text(self.protocol_version),
        }
    }
}

/// A broker that was removed.
#[derive(Debug, Serialize, ToSchema)]
struct RemovedServer {
    /// Key of the row.
    id: i64,
}

/// Lists the brokers.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["read"])),
    params(PageQuery),
    responses((status = 200, body = ServersPage)),
)]
#[get("/servers")]
pub(super) async fn list_servers(
    thread: Data<ApiThread>,
    page: PageRequest,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let servers = control.servers().await?;
            let place = |server: &ServerRecord| {
                let (is_disabled, is_no_default, id) = server.order_key();
                format!("{}{}{id:020}", u8::from(is_disabled), u8::from(is_no_default))
            };
            let (servers, last) = page_of(servers, place, page.after()?.as_ref(), page.limit);
            let servers = servers.iter().map(ServerView::new).collect();
            Ok(ApiAnswer::new(&ServersPage { servers, next: page.next(last) }))
        })
        .await
}

/// Shows a broker. The header `ETag` has its version.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["read"])),
    params(("id" = i64, Path, description = "Id of the broker.")),
    responses((status = 200, body = ServerView, headers(("ETag" = String, description = "Its version.")))),
)]
#[get("/servers/{id}")]
pub(super) async fn show_server(thread: Data<ApiThread>, id: Path<i64>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let server = control.server(*id).await?;
            let version = control.server_version(&server).await?;
            Ok(ApiAnswer::new(&ServerView::new(&server)).with_version(&version))
        })
        .await
}

/// Adds a broker.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["admin"])),
    request_body = ServerBody,
    responses((status = 201, body = EditedServerView)),
)]
#[post("/servers")]
pub(super) async fn add_server(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(&caller, async move |control| {
            let added = control.add_server(&body.parse::<ServerBody>()?.fields()).await?;
            let location = format!("/api/v1/servers/{}", added.server.id);
            Ok(ApiAnswer::created(location, &EditedServerView::new(&added)))
        })
        .await
}

/// Changes columns of a broker. Refused if it could not be used afterwards, or has another version than `If-Match`.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["admin"])),
    params(
        ("id" = i64, Path, description = "Id of the broker."),
        ("If-Match" = Option<String>, Header, description = "Versions that it may have, from `ETag`."),
    ),
    request_body = ServerBody,
    responses((status = 200, body = EditedServerView, headers(("ETag" = String, description = "Its new version.")))),
)]
#[patch("/servers/{id}")]
pub(super) async fn edit_server(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    request: HttpRequest,
    id: Path<i64>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    let expected = expected_version(request.headers());
    thread
        .run_as(&caller, async move |control| {
            let fields = body.parse::<ServerBody>()?.fields();
            let edited = control.edit_server_version(*id, &fields, &expected).await?;
            let version = control.server_version(&edited.server).await?;
            Ok(ApiAnswer::new(&EditedServerView::new(&edited)).with_version(&version))
        })
        .await
}

/// Removes a broker.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["admin"])),
    params(
        ("id" = i64, Path, description = "Id of the broker."),
        ("If-Match" = Option<String>, Header, description = "Versions that it may have, from `ETag`."),
    ),
    responses((status = 200, body = RemovedServer)),
)]
#[delete("/servers/{id}")]
pub(super) async fn remove_server(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    request: HttpRequest,
    id: Path<i64>,
) -> Result<ApiAnswer, ApiProblem> {
    let expected = expected_version(request.headers());
    thread
        .run_as(&caller, async move |control| {
            let server = control.server(*id).await?;
            control.check_server_version(&server, &expected).await?;
            control.remove_server(&server).await?;
            Ok(ApiAnswer::new(&RemovedServer { id: server.id }))
        })
        .await
}

/// Enables a broker. Refused if it cannot be used.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["operate"])),
    params(("id" = i64, Path, description = "Id of the broker.")),
    responses((status = 200, body = EditedServerView)),
)]
#[post("/servers/{id}/enable")]
pub(super) async fn enable_server(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    id: Path<i64>,
) -> Result<ApiAnswer, ApiProblem> {
    set_enabled(&thread, &caller, *id, true).await
}

/// Disables a broker. A gateway that uses it connects to the next one.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["operate"])),
    params(("id" = i64, Path, description = "Id of the broker.")),
    responses((status = 200, body = EditedServerView)),
)]
#[post("/servers/{id}/disable")]
pub(super) async fn disable_server(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    id: Path<i64>,
) -> Result<ApiAnswer, ApiProblem> {
    set_enabled(&thread, &caller, *id, false).await
}

async fn set_enabled(
    thread: &ApiThread,
    caller: &Caller,
    id: i64,
    enabled: bool,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(caller, async move |control| {
            let fields = ServerFields { enabled: Some(enabled), ..ServerFields::default() };
            Ok(ApiAnswer::new(&EditedServerView::new(&control.edit_server(id, &fields).await?)))
        })
        .await
}

/// Connects to a broker as the gateway does. A broker that cannot be used is no failure of the request.
#[utoipa::path(
    tag = "servers",
    security(("token" = ["operate"])),
    params(("id" = i64, Path, description = "Id of the broker.")),
    responses((status = 200, body = ServerTestView)),
)]
#[post("/servers/{id}/test")]
pub(super) async fn test_server(thread: Data<ApiThread>, id: Path<i64>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_long(async move |control| {
            let server = control.server(*id).await?;
            Ok(ApiAnswer::new(&ServerTestView::new(server.id, control.test_server(&server).await)))
        })
        .await
}
