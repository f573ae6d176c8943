//! Asks a running gateway for its state.

use url::Url;

use super::gateway_url::own_url;
use crate::control::status::GatewayStatus;
use crate::control::{Control, ControlError};
use crate::domain::redaction::shown_url;
use crate::http::read_document;

/// The state of the gateway at `url`, by default that at `ADMIN_BIND`, or why it does not answer. The request has a
/// token of its own, which is deleted afterwards.
pub(super) async fn ask_gateway(
    control: &Control,
    url: Option<&Url>,
) -> Result<Result<GatewayStatus, String>, ControlError> {
    let url = match url.cloned().map_or_else(|| own_url(&control.settings), Ok) {
        Ok(url) => url,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let token = control.make_live_token().await?;
    let answer = read_document(&url, token.text(), "/status").await;
    control.delete_live_token(&token).await?;
    let status = answer.map_err(|error| error.to_string()).and_then(|mut status| {
        serde_json::from_value(status["gateway"].take())
            .map_err(|error| format!("its answer is unusable: {error}"))
    });
    Ok(status.map_err(|problem| format!("{}: {problem}", shown_url(url.as_str()))))
}
