//! TLS to the database.

use super::*;

/// Creates a self-signed certificate and its key as PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["db".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn tls_settings_apply_to_the_database() {
    let (cert, key) = certificate();
    let files = [("ca", cert.as_str()), ("cert", &cert), ("key", &key)];
    let named = [("DB_SSL_CA", "ca"), ("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "key")];
    let loaded = load_with(&[&named[..], &[("DB_SSL_MODE", "Verify-Full")]].concat(), &files).unwrap();
    let tls = loaded.settings.database.tls().unwrap();
    assert_eq!(tls.mode(), TlsMode::VerifyFull);
    assert_eq!(tls.ca.as_deref(), Some(Path::new("ca")));
    assert_eq!(tls.cert.as_deref(), Some(Path::new("cert")));
    assert_eq!(tls.key.as_deref(), Some(Path::new("key")));
    assert_eq!(shown(&loaded, "DB_SSL_MODE"), (Some("verify-full".to_owned()), "environment".to_owned()));

    let url = ("DATABASE_URL", "postgres://me:p@db/g?sslmode=verify-ca");
    let loaded = load_from(&[&named[..], &[url]].concat(), &files).unwrap();
    let tls = loaded.settings.database.tls().unwrap();
    assert_eq!((tls.mode(), tls.ca.as_deref()), (TlsMode::VerifyCa, Some(Path::new("ca"))));
    assert_eq!(shown(&loaded, "DB_SSL_MODE"), (Some("verify-ca".to_owned()), "DATABASE_URL".to_owned()));

    let file = [("DATABASE_URL", "sqlite:g.db"), ("DB_SSL_MODE", "require")];
    let loaded = load_from(&file, &[]).unwrap();
    assert!(shown(&loaded, "DB_SSL_MODE").1.contains("not used: the database is a file"));
}

#[test]
fn rows_may_not_refer_to_tls_files() {
    let (cert, key) = certificate();
    let url = "postgres://me:p@db/g?sslmode=verify-ca&sslrootcert=ca&sslcert=cert&sslkey=key";
    let files = [("ca", cert.as_str()), ("cert", &cert), ("key", &key), ("run/url", url)];
    let named =
        [("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "ca"), ("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "key")];
    for loaded in [
        load_with(&named, &files),
        load_from(&[("DATABASE_URL", url)], &files),
        load_from(&[("DATABASE_URL_FILE", "run/url")], &files),
    ] {
        let Settings { mqtt, http_route, .. } = loaded.unwrap().settings;
        assert_eq!(mqtt.credentials, http_route.credentials);
        let refused = |file: &str| mqtt.credentials.files_of_settings.contains(&PathBuf::from(file));
        assert!(refused("cert") && refused("key") && !refused("ca"));
    }
}

#[test]
fn system_authorities_are_selectable() {
    let file =
        std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_else(|_| certificate().0);
    let environment = [("DB_SSL_MODE", "verify-full"), ("DB_SSL_CA", "system")];
    assert!(load_with(&environment, &[("system", &file)]).is_ok());
}

#[test]
fn conflicting_tls_settings_are_named() {
    let (cert, key) = certificate();
    let (_, other_key) = certificate();
    let files =
        [("ca", cert.as_str()), ("cert", &cert), ("key", &key), ("other", &other_key), ("text", "PEM?")];
    for (environment, name, expected) in [
        (
            &[("DB_SSL_MODE", "verify")][..],
            "DB_SSL_MODE",
            "disable or prefer or require or verify-ca or verify-full",
        ),
        (&[("DB_SSL_MODE", "verify-full")], "DB_SSL_CA", "because the mode is verify-full"),
        (&[("DB_SSL_CA", "ca")], "DB_SSL_CA", "the mode prefer verifies no certificate"),
        (&[("DB_SSL_MODE", "require"), ("DB_SSL_CA", "ca")], "DB_SSL_CA", "the mode require verifies no"),
        (
            &[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "none")],
            "DB_SSL_CA",
            "(none: there is no such file)",
        ),
        (&[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "locked/ca")], "DB_SSL_CA", "permission denied"),
        (
            &[("DB_SSL_MODE", "verify-ca"), ("DB_SSL_CA", "text")],
            "DB_SSL_CA",
            "(text: it holds no certificate",
        ),
        (&[("DB_SSL_CERT", "cert")], "DB_SSL_KEY", "because there is a certificate"),
        (&[("DB_SSL_KEY", "key")], "DB_SSL_CERT", "because there is a key"),
        (&[("DB_SSL_CERT", "key"), ("DB_SSL_KEY", "key")], "DB_SSL_CERT", "(key: it holds no certificate"),
        (&[("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "cert")], "DB_SSL_KEY", "(cert: it holds no key"),
        (&[("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "other")], "DB_SSL_KEY", "(other: "),
        (
            &[("DB_SSL_MODE", "disable"), ("DB_SSL_CERT", "cert"), ("DB_SSL_KEY", "key")],
            "DB_SSL_CERT",
            "because the mode is disable",
        ),
    ] {
        let error = error_of(load_with(environment, &files));
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.name, name, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn tls_option_error_hides_the_url() {
    let (cert, _) = certificate();
    for (options, more, name, expected) in [
        ("sslmode=verify-full", None, "DATABASE_URL", "in its option `sslrootcert` (or in DB_SSL_CA) a file"),
        ("sslmode=verify-ca&sslrootcert=none", None, "DATABASE_URL", "(none: there is no such file)"),
        ("sslmode=on", None, "DATABASE_URL", "expected `sslmode` to be disable, prefer"),
        ("sslmode=require", Some(("DB_SSL_MODE", "require")), "DB_SSL_MODE", "DATABASE_URL has `sslmode`"),
        (
            "sslmode=require",
            Some(("DB_SSL_CA", "ca")),
            "DB_SSL_CA",
            "the mode require verifies no certificate",
        ),
    ] {
        let url = format!("mysql://me:hush@db/g?{options}");
        let environment: Vec<_> = [("DATABASE_URL", url.as_str())].into_iter().chain(more).collect();
        let error = error_of(load_from(&environment, &[("ca", &cert)]));
        let [problem] = error.problems() else { panic!("{error}") };
        assert_eq!(problem.name, name, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
