//! Reads a document of a running gateway over its API.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use awc::Client;
use serde_json::Value;
use tokio::task::LocalSet;
use url::Url;

use super::event_client::{FollowError, not_sent, refusal};

/// Maximum time of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum bytes of a document.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The document at `path` of the gateway at `url`.
pub(crate) async fn read_document(url: &Url, token: &str, path: &str) -> Result<Value, FollowError> {
    // The client spawns tasks on its own thread.
    LocalSet::new().run_until(read(url, token, path)).await
}

async fn read(url: &Url, token: &str, path: &str) -> Result<Value, FollowError> {
    let client = Client::builder().timeout(TIMEOUT).disable_redirects().finish();
    let place = format!("{}/api/v1{path}", url.as_str().trim_end_matches('/'));
    let request = client.get(place).insert_header((AUTHORIZATION, format!("Bearer {token}")));
    let mut response = request.send().await.map_err(|error| not_sent(&error))?;
    let status = response.status();
    let body = response.body().limit(MAX_BYTES).await;
    if status != StatusCode::OK {
        return Err(refusal(status, &body.unwrap_or_default()));
    }
    let body = body.map_err(|error| FollowError::Lost(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| FollowError::Refused(error.to_string()))
}
