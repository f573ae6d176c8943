//! The database and its secrets.

use super::*;

#[test]
fn password_may_be_empty() {
    let password = |environment: &[(&str, &str)]| match settings(environment).database {
        DatabaseSettings::MySql { password, .. } => password.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(password(&[("DB_PASSWORD", "")]), "");
    assert_eq!(password(&[("DB_PASSWORD", " a#$'\"\\ ")]), " a#$'\"\\ ");
    let without = &REQUIRED[..3];
    assert!(error_of(load_from(without, &[])).to_string().contains("DB_PASSWORD is not set"));
}

#[test]
fn secret_file_is_read() {
    let password = |text: &str| {
        let environment = [&REQUIRED[..3], &[("DB_PASSWORD_FILE", "run/pw")]].concat();
        match load_from(&environment, &[("run/pw", text)]).unwrap().settings.database {
            DatabaseSettings::MySql { password, .. } => password.expose_secret().to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(password("pass\n"), "pass");
    assert_eq!(password("pass\r\n"), "pass");
    assert_eq!(password(" pass \n\n"), " pass \n");
    assert_eq!(password(""), "");
}

#[test]
fn database_hosts_keep_their_order() {
    let servers =
        |environment: &[(&str, &str)]| settings(environment).database.servers().unwrap().to_string();
    assert_eq!(servers(&[("DB_HOST", "a:3307, b,[::1]")]), "a:3307,b:3306,[::1]:3306");
    assert_eq!(servers(&[("DB_HOST", "a,b:1"), ("DB_PORT", "3308")]), "a:3308,b:1");
    let error = error_of(load_with(&[("DB_HOST", "a,,b")], &[])).to_string();
    assert!(error.contains("DB_HOST = \"a,,b\" (environment): expected a host, or several"), "{error}");
}

#[test]
fn secret_source_is_kept() {
    let source = |environment: &[(&str, &str)], files: &[(&str, &str)]| match load_from(environment, files)
        .unwrap()
        .settings
        .database
    {
        DatabaseSettings::MySql { source, .. } | DatabaseSettings::Postgres { source, .. } => source,
        DatabaseSettings::Sqlite { path } => panic!("{path:?}"),
    };
    let with_file = [&REQUIRED[..3], &[("DB_PASSWORD_FILE", "run/pw")]].concat();
    assert_eq!(source(&with_file, &[("run/pw", "x")]), SecretSource::PasswordFile("run/pw".into()));
    let url = ("run/url", "mysql://me:pw@db/g");
    assert_eq!(source(&[("DATABASE_URL_FILE", "run/url")], &[url]), SecretSource::UrlFile("run/url".into()));
    assert_eq!(source(&[("DATABASE_URL", url.1)], &[]), SecretSource::Fixed);
    let allowed = load_from(&with_file, &[("run/pw", "x")]).unwrap().settings.mqtt.credentials;
    assert_eq!(allowed.files_of_settings, [PathBuf::from("run/pw")]);
}

#[test]
fn rows_may_not_refer_to_files_of_settings() {
    let environment = [("DATABASE_URL", "sqlite:g.db"), ("REQUESTS_CA_BUNDLE", "b"), ("LOG_DIR", "l")];
    let allowed = load_from(&environment, &[]).unwrap().settings.mqtt.credentials;
    assert_eq!(allowed.files_of_settings, [PathBuf::from("g.db")]);
}

#[test]
fn unusable_secret_file_is_a_problem() {
    let with_file = |path: &str| {
        error_of(load_from(&[&REQUIRED[..3], &[("DB_PASSWORD_FILE", path)]].concat(), &[])).to_string()
    };
    assert!(
        with_file("run/none").contains("DB_PASSWORD_FILE = \"run/none\" (environment): expected a text file")
    );
    assert!(with_file("locked/pw").contains("permission denied"));
    let both = error_of(load_with(&[("DB_PASSWORD_FILE", "run/pw")], &[("run/pw", "x")])).to_string();
    assert!(both.contains("DB_PASSWORD_FILE = \"run/pw\" (environment): expected to be unset"), "{both}");
    assert!(!both.contains("s3cret"));
}

#[test]
fn database_url_replaces_db_settings() {
    let loaded =
        load_from(&[("DATABASE_URL", "sqlite:gateway.db"), ("DB_HOST", "old"), ("DB_PORT", "x")], &[])
            .unwrap();
    assert!(
        matches!(&loaded.settings.database, DatabaseSettings::Sqlite { path } if path == Path::new("gateway.db"))
    );
    assert_eq!(loaded.settings.lanes, 1, "SQLite has one writer");
    assert_eq!(
        shown(&loaded, "DB_HOST"),
        (Some("old".to_owned()), "environment, not used: DATABASE_URL is set".to_owned())
    );
    let from_file = load_from(&[("DATABASE_URL_FILE", "run/url")], &[("run/url", "sqlite:/a.db\n")]);
    assert!(matches!(from_file.unwrap().settings.database, DatabaseSettings::Sqlite { .. }));
}

#[test]
fn malformed_database_url_is_hidden() {
    for url in ["mysql://me:s3cret@db:x/g", "postgres://me:s3cret@db:x/g", "s3cret"] {
        let error = error_of(load_from(&[("DATABASE_URL", url)], &[]));
        assert!(error.to_string().contains("DATABASE_URL (environment, not shown): expected"), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn no_secret_can_be_printed() {
    let loaded = load_with(&[], &[]).unwrap();
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.effective).contains("s3cret"));
    assert_eq!(shown(&loaded, "DB_PASSWORD"), (Some("********".to_owned()), "environment".to_owned()));
}
