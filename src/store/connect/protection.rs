//! The protection of the connection to the server in use.

use sea_orm::sqlx::{self, ConnectOptions, Connection};

use super::{CONNECT_TIMEOUT, mysql, postgres};
use crate::settings::{DatabaseSettings, DatabaseTls, TlsMode};

/// Whether the connection is encrypted and the server verified, as the end of a sentence that begins with "The
/// connection is"; none for a file.
pub(crate) async fn protection(settings: &DatabaseSettings) -> Option<String> {
    let mode = settings.tls()?.mode();
    let words = match mode {
        TlsMode::Disable => "not encrypted",
        TlsMode::Prefer => match offers_tls(settings).await {
            Some(true) => "encrypted, the server is not verified",
            Some(false) => "not encrypted, because the server offers no TLS",
            None => "encrypted if the server offers TLS, the server is not verified",
        },
        TlsMode::Require => "encrypted, the server is not verified",
        TlsMode::VerifyCa => "encrypted, the server's certificate is verified, its name is not",
        TlsMode::VerifyFull => "encrypted, the server's certificate and name are verified",
    };
    Some(format!("{words} (DB_SSL_MODE={})", mode.as_str()))
}

/// Whether the server in use accepts a connection that is certainly encrypted. The driver does not report an optional
/// encryption, and behind a proxy the server knows only the last part of the path.
async fn offers_tls(settings: &DatabaseSettings) -> Option<bool> {
    let required = settings.tls().map(|tls: &DatabaseTls| tls.with_mode(TlsMode::Require))?;
    let settings = settings.clone().with_tls(required);
    match tokio::time::timeout(CONNECT_TIMEOUT, connect(&settings)).await {
        Ok(Ok(())) => Some(true),
        Ok(Err(sqlx::Error::Tls(_))) => Some(false),
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn connect(settings: &DatabaseSettings) -> Result<(), sqlx::Error> {
    let Some(servers) = settings.servers() else { return Ok(()) };
    let address = servers.address(servers.in_use());
    if matches!(settings, DatabaseSettings::Postgres { .. }) {
        postgres::options(settings, address).connect().await?.close().await
    } else {
        mysql::options(settings, address).connect().await?.close().await
    }
}
