//! Parser for `DATABASE_URL`, as written for `SQLAlchemy` and sqlx.
//!
//! A standard URL parser would stop at a `#` or `/` in the password. Like `SQLAlchemy`, this parser splits at the
//! separators and decodes percent signs in each part.

use std::borrow::Cow;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::host_list::{self, HostListError};
use super::secret_source::SecretSource;
use super::tls::{DatabaseTls, TlsMode};
use super::{DatabaseSettings, Servers};

const DEFAULT_MYSQL_PORT: u16 = 3306;
const DEFAULT_POSTGRES_PORT: u16 = 5432;

/// Reason why a URL is invalid. Never quotes the URL, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error(
        "`mysql://user:password@host:3306/name`, `postgres://user:password@host:5432/name` or `sqlite:path`"
    )]
    UnknownScheme,
    #[error("a user, a host and a database behind the scheme: `://user:password@host/name`")]
    Incomplete,
    #[error("a port from 1 to 65535 behind the host")]
    Port,
    #[error(
        "no other options behind the `?` than `sslmode`, `sslrootcert`, `sslcert` and `sslkey` (or `ssl-mode`, `ssl-ca`, \
         `ssl-cert` and `ssl-key`), `charset` for MySQL and `mode=rwc` for SQLite. None of them twice"
    )]
    Option,
    #[error("`sslmode` to be disable, prefer, require, verify-ca or verify-full")]
    TlsMode,
    #[error("UTF-8 text behind its percent signs")]
    NotUtf8,
    #[error("the path of a file: `sqlite:path`")]
    NoPath,
    #[error("the path of a file: a database in memory would be lost with the process")]
    InMemory,
    #[cfg(feature = "tools")]
    #[error("`mqtt://host:1883` or `mqtt://user:password@host:1883`")]
    NoBroker,
}

/// Parses a database URL.
pub(super) fn parse(url: &str) -> Result<DatabaseSettings, UrlError> {
    let (scheme, rest) = url.split_once(':').ok_or(UrlError::UnknownScheme)?;
    let scheme = scheme.to_ascii_lowercase();
    // In `mysql+pymysql`, the suffix selects a Python driver and is ignored.
    match scheme.split('+').next().unwrap_or_default() {
        "mysql" | "mariadb" => mysql(rest.strip_prefix("//").ok_or(UrlError::Incomplete)?),
        "sqlite" => sqlite(rest),
        "postgres" | "postgresql" => postgres(rest.strip_prefix("//").ok_or(UrlError::Incomplete)?),
        _ => Err(UrlError::UnknownScheme),
    }
}

fn mysql(rest: &str) -> Result<DatabaseSettings, UrlError> {
    let Server { servers, name, user, password, tls } =
        server(rest, DEFAULT_MYSQL_PORT, |option| option.starts_with("charset="))?;
    Ok(DatabaseSettings::MySql { servers, name, user, password, source: SecretSource::Fixed, tls })
}

fn postgres(rest: &str) -> Result<DatabaseSettings, UrlError> {
    let Server { servers, name, user, password, tls } = server(rest, DEFAULT_POSTGRES_PORT, |_| false)?;
    Ok(DatabaseSettings::Postgres { servers, name, user, password, source: SecretSource::Fixed, tls })
}

/// A database on a server, with the login.
struct Server {
    servers: Servers,
    name: String,
    user: String,
    password: SecretString,
    tls: DatabaseTls,
}

/// Parses `user:password@host:port/name`, with one or several `host:port`. TLS options and harmless ones may follow.
fn server(rest: &str, default_port: u16, is_harmless: fn(&str) -> bool) -> Result<Server, UrlError> {
    let (login, place) = rest.rsplit_once('@').ok_or(UrlError::Incomplete)?;
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (server, name) = place.split_once('/').ok_or(UrlError::Incomplete)?;
    let (name, options) = name.split_once('?').unwrap_or((name, ""));
    let tls = tls_options(options, is_harmless)?;
    let servers = host_list::parse(server, default_port).map_err(|error| match error {
        HostListError::NoHost => UrlError::Incomplete,
        HostListError::Port => UrlError::Port,
    })?;
    if user.is_empty() || name.is_empty() {
        return Err(UrlError::Incomplete);
    }
    Ok(Server { servers, name: decode(name)?, user: decode(user)?, password: decode(password)?.into(), tls })
}

/// Parses TLS options in the spellings of libpq (`sslmode`), of `MySQL` (`ssl-mode`) and of its option files
/// (`ssl_mode`).
fn tls_options(options: &str, is_harmless: fn(&str) -> bool) -> Result<DatabaseTls, UrlError> {
    let mut tls = DatabaseTls::default();
    for option in options.split('&').filter(|option| !option.is_empty() && !is_harmless(option)) {
        let (name, value) = option.split_once('=').ok_or(UrlError::Option)?;
        let value = decode(value)?;
        let is_new = match name.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
            "sslmode" => tls.mode.replace(TlsMode::parse(&value).ok_or(UrlError::TlsMode)?).is_none(),
            "sslrootcert" | "sslca" => tls.ca.replace(PathBuf::from(value)).is_none(),
            "sslcert" => tls.cert.replace(PathBuf::from(value)).is_none(),
            "sslkey" => tls.key.replace(PathBuf::from(value)).is_none(),
            _ => false,
        };
        if !is_new {
            return Err(UrlError::Option);
        }
    }
    Ok(tls)
}

/// Parses `sqlite:path`, `sqlite://relative` or `sqlite:///absolute`.
fn sqlite(rest: &str) -> Result<DatabaseSettings, UrlError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let (path, options) = path.split_once('?').unwrap_or((path, ""));
    // An unsupported option is an error, because ignoring it could change the behaviour.
    if !options.split('&').all(|option| option.is_empty() || option == "mode=rwc") {
        return Err(UrlError::Option);
    }
    let path = decode(path)?;
    if path.is_empty() || path.ends_with('/') {
        return Err(UrlError::NoPath);
    }
    if path.contains(":memory:") {
        return Err(UrlError::InMemory);
    }
    Ok(DatabaseSettings::Sqlite { path: PathBuf::from(path) })
}

/// Decodes `%XX`. A percent sign without two hexadecimal digits is kept, as in Python.
pub(super) fn decode(text: &str) -> Result<String, UrlError> {
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| UrlError::NotUtf8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use proptest::prelude::*;

    fn mysql_parts(url: &str) -> (String, u16, String, String, String) {
        match parse(url).unwrap() {
            DatabaseSettings::MySql { servers, name, user, password, .. } => {
                let [server] = servers.addresses() else { panic!("{servers}") };
                (server.host.clone(), server.port, name, user, password.expose_secret().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    fn parts(
        host: &str,
        port: u16,
        name: &str,
        user: &str,
        password: &str,
    ) -> (String, u16, String, String, String) {
        (host.into(), port, name.into(), user.into(), password.into())
    }

    #[test]
    fn mysql_urls_parse_as_in_sqlalchemy() {
        let plain = parts("db", 3307, "gateway", "me", "secret");
        assert_eq!(mysql_parts("mysql://me:secret@db:3307/gateway"), plain);
        assert_eq!(mysql_parts("mariadb://me:secret@db:3307/gateway"), plain);
        assert_eq!(mysql_parts("mysql+pymysql://me:secret@db:3307/gateway?charset=utf8mb4"), plain);
        assert_eq!(mysql_parts("MySQL://me@db/gateway"), parts("db", 3306, "gateway", "me", ""));
        assert_eq!(mysql_parts("mysql://me:@[::1]:3307/g"), parts("::1", 3307, "g", "me", ""));
        assert_eq!(mysql_parts("mysql://me:@[::1]/g"), parts("::1", 3306, "g", "me", ""));
    }

    #[test]
    fn postgres_urls_parse_as_in_libpq() {
        for (url, expected) in [
            ("postgres://me:secret@db:5433/gateway", ("db", 5433, "gateway", "me", "secret")),
            ("postgresql://me:secret@db/gateway", ("db", 5432, "gateway", "me", "secret")),
            ("postgresql+psycopg://m%40e:p%2Fs@db/g?sslmode=prefer", ("db", 5432, "g", "m@e", "p/s")),
            ("postgres://me@[::1]:5433/g", ("::1", 5433, "g", "me", "")),
        ] {
            let DatabaseSettings::Postgres { servers, name, user, password, .. } = parse(url).unwrap() else {
                panic!("{url}")
            };
            let [server] = servers.addresses() else { panic!("{url}") };
            let found = (&*server.host, server.port, &*name, &*user, password.expose_secret());
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_url_may_name_several_servers() {
        for (url, expected) in [
            ("mysql://me:p,w@a:3307,b,[::1]:7/g", "a:3307,b:3306,[::1]:7"),
            ("postgres://me:pw@a,b:5433/g?sslmode=prefer", "a:5432,b:5433"),
        ] {
            let settings = parse(url).unwrap();
            assert_eq!(settings.servers().unwrap().to_string(), expected, "{url}");
        }
        assert_eq!(parse("mysql://me:pw@a:3306,/g").err(), Some(UrlError::Incomplete));
        assert_eq!(parse("mysql://me:pw@a:3306,b:0/g").err(), Some(UrlError::Port));
    }

    #[test]
    fn password_may_contain_any_character() {
        assert_eq!(
            mysql_parts("mysql://m%40e:p%40s%2Fs%25%C3%A9@db/g"),
            parts("db", 3306, "g", "m@e", "p@s/s%é")
        );
        assert_eq!(mysql_parts("mysql://me:p#s?s:a@b/c@db/g"), parts("db", 3306, "g", "me", "p#s?s:a@b/c"));
        assert_eq!(mysql_parts("mysql://me:100%+1%zz@db/g"), parts("db", 3306, "g", "me", "100%+1%zz"));
    }

    #[test]
    fn tls_options_accept_all_spellings() {
        let files = |mode| DatabaseTls {
            mode: Some(mode),
            ca: Some(PathBuf::from("/c a.pem")),
            cert: Some(PathBuf::from("/c.pem")),
            key: Some(PathBuf::from("/k.pem")),
        };
        for (url, mode) in [
            (
                "postgres://me:p@a,b/g?sslmode=verify-full&sslrootcert=/c%20a.pem&sslcert=/c.pem&sslkey=/k.pem",
                TlsMode::VerifyFull,
            ),
            (
                "mysql://me:p@db/g?charset=utf8mb4&ssl-mode=VERIFY_CA&ssl-ca=/c a.pem&ssl-cert=/c.pem&ssl-key=/k.pem",
                TlsMode::VerifyCa,
            ),
            (
                "mysql+pymysql://me:p@db/g?ssl_mode=VERIFY_IDENTITY&ssl_ca=/c a.pem&ssl_cert=/c.pem&ssl_key=/k.pem",
                TlsMode::VerifyFull,
            ),
        ] {
            assert_eq!(parse(url).unwrap().tls(), Some(&files(mode)), "{url}");
        }
        for (word, mode) in [
            ("disable", TlsMode::Disable),
            ("DISABLED", TlsMode::Disable),
            ("PREFERRED", TlsMode::Prefer),
            ("require", TlsMode::Require),
            ("REQUIRED", TlsMode::Require),
        ] {
            let url = format!("mysql://me:p@db/g?ssl-mode={word}");
            assert_eq!(parse(&url).unwrap().tls().map(DatabaseTls::mode), Some(mode), "{word}");
        }
    }

    #[test]
    fn sqlite_urls_name_a_file() {
        for (url, expected) in [
            ("sqlite:gateway.db", "gateway.db"),
            ("sqlite://data/gateway.db", "data/gateway.db"),
            ("sqlite:///var/lib/gateway.db", "/var/lib/gateway.db"),
            ("sqlite:/var/lib/gateway.db?mode=rwc", "/var/lib/gateway.db"),
            ("sqlite:a%20b.db", "a b.db"),
        ] {
            let DatabaseSettings::Sqlite { path } = parse(url).unwrap() else { panic!("{url}") };
            assert_eq!(path, PathBuf::from(expected));
        }
    }

    #[test]
    fn invalid_urls_are_rejected_with_reason() {
        for (url, expected) in [
            ("gateway", UrlError::UnknownScheme),
            ("oracle://me:p@db/g", UrlError::UnknownScheme),
            ("postgres://db/g", UrlError::Incomplete),
            ("postgres:me:p@db/g", UrlError::Incomplete),
            ("postgres://me:p@db:x/g", UrlError::Port),
            ("postgres://me:p@db/g?sslmode=allow", UrlError::TlsMode),
            ("postgres://me:p@db/g?sslmode=require&ssl-mode=require", UrlError::Option),
            ("postgres://me:p@db/g?sslcrl=/crl.pem", UrlError::Option),
            ("postgres://me:p@db/g?sslmode", UrlError::Option),
            ("sqlite:a.db?sslmode=require", UrlError::Option),
            ("postgres://me:p@db/g?host=/run/postgresql", UrlError::Option),
            ("mysql://db/g", UrlError::Incomplete),
            ("mysql:me:p@db/g", UrlError::Incomplete),
            ("mysql://me:p@db", UrlError::Incomplete),
            ("mysql://me:p@/g", UrlError::Incomplete),
            ("mysql://me:p@db/", UrlError::Incomplete),
            ("mysql://me:p@db:0/g", UrlError::Port),
            ("mysql://me:p@db:65536/g", UrlError::Port),
            ("mysql://me:p@db/g?unix_socket=/run/db", UrlError::Option),
            ("mysql://me:%ff@db/g", UrlError::NotUtf8),
            ("sqlite:", UrlError::NoPath),
            ("sqlite://", UrlError::NoPath),
            ("sqlite::memory:", UrlError::InMemory),
            ("sqlite://:memory:", UrlError::InMemory),
            ("sqlite:a.db?mode=memory", UrlError::Option),
        ] {
            assert_eq!(parse(url).err(), Some(expected), "{url}");
        }
    }

    proptest! {
        #[test]
        fn every_encoded_password_is_read_back(password in any::<String>()) {
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap();
            let encoded: String = password.bytes().flat_map(|byte| ['%', digit(byte >> 4), digit(byte & 15)]).collect();
            let url = format!("mysql://me:{encoded}@db/g");
            prop_assert_eq!(mysql_parts(&url), parts("db", 3306, "g", "me", &password));
        }

        #[test]
        fn parser_never_panics(url in "(mysql:|postgres:|sqlite:|)[ -~é]{0,40}") {
            let _ = parse(&url);
        }
    }
}
