//! Real servers with certificates for one of their names, 127.0.0.1 and `localhost`.

use tempfile::TempDir;

use test_support::certificates::{Authority, Pair, VALID, write};
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::net::free_port;
use test_support::postgres::PostgresServer;
use test_support::sql::Sql;
use test_support::world::{Backend, SERVERS, World};

use super::{check, line};

struct Stage {
    world: World,
    authority: Authority,
    /// The file of the authority.
    ca: String,
    directory: TempDir,
    port: u16,
    _server: Server,
}

/// Kept for as long as it is to run.
enum Server {
    MariaDb { _running: MariaDbServer },
    Postgres { _running: PostgresServer },
}

impl Stage {
    /// The server has a certificate for `name`, the host in the gateway's settings. The gateway's user may log in only
    /// by TLS.
    fn new(backend: Backend, name: &str, wants_client: bool) -> Stage {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new("database authority");
        let own = authority.server(&[name], VALID);
        let ca = write(directory.path(), "ca.pem", &authority.pem()).display().to_string();
        let (world, port, server) = if backend == Backend::Postgres {
            let mut running = PostgresServer::new();
            let mut world = World::on_postgres_server(&running, Broker::shared());
            running.encrypt(&own, &authority, wants_client);
            // Root gets in without.
            world.sql = Sql::open(&format!("{}/{}", running.url(), world.name));
            (world, running.port, Server::Postgres { _running: running })
        } else {
            let (certificate, key) = own.write(directory.path(), "server");
            let options = [
                format!("--ssl-cert={}", certificate.display()),
                format!("--ssl-key={}", key.display()),
                format!("--ssl-ca={ca}"),
            ];
            let running = MariaDbServer::with(&options.each_ref().map(String::as_str));
            let world = World::on_server(&running, Broker::shared());
            let wanted = if wants_client { "X509" } else { "SSL" };
            world.sql.run(&format!("ALTER USER '{}'@'%' REQUIRE {wanted}", world.name));
            (world, running.port, Server::MariaDb { _running: running })
        };
        let mut stage = Stage { world, authority, ca, directory, port, _server: server };
        stage.reach_at(&format!("{name}:{port}"));
        stage
    }

    /// The gateway looks for its server at these hosts.
    fn reach_at(&mut self, hosts: &str) {
        if self.world.backend == Backend::MariaDb {
            self.world.set("DB_HOST", hosts);
            return;
        }
        let url = self.world.settings["DATABASE_URL"].clone();
        let (login, place) = url.rsplit_once('@').unwrap();
        let (_, name) = place.split_once('/').unwrap();
        self.world.set("DATABASE_URL", &format!("{login}@{hosts}/{name}"));
    }

    fn verified<'a>(&'a self, mode: &'a str) -> [(&'a str, &'a str); 2] {
        [("DB_SSL_MODE", mode), ("DB_SSL_CA", &self.ca)]
    }

    fn client(&self, Pair { certificate, key }: &Pair) -> [String; 2] {
        [("client.pem", certificate), ("client.key", key)]
            .map(|(name, text)| write(self.directory.path(), name, text).display().to_string())
    }
}

#[test]
fn every_mode_is_kept_and_told() {
    for backend in SERVERS {
        let mut stage = Stage::new(backend, "127.0.0.1", false);
        let told = |stage: &Stage, settings: &[(&str, &str)]| {
            let text = check(&stage.world, settings);
            line(&text, "ok   database connection is ").to_owned()
        };
        for (settings, expected) in [
            (&[][..], "encrypted, the server is not verified (DB_SSL_MODE=prefer)"),
            (&[("DB_SSL_MODE", "require")], "encrypted, the server is not verified (DB_SSL_MODE=require)"),
            (
                &stage.verified("verify-full"),
                "encrypted, the server's certificate and name are verified (DB_SSL_MODE=verify-full)",
            ),
        ] {
            assert!(told(&stage, settings).ends_with(&format!(" is {expected}")), "{backend:?}: {expected}");
        }
        // The user gets in by TLS alone.
        let plain = check(&stage.world, &[("DB_SSL_MODE", "disable")]);
        assert!(plain.contains("FAIL database: cannot connect to "), "{plain}");

        stage.reach_at(&format!("localhost:{}", stage.port));
        let expected = "the server's certificate is verified, its name is not (DB_SSL_MODE=verify-ca)";
        assert!(told(&stage, &stage.verified("verify-ca")).ends_with(expected), "{backend:?}");
    }
}

#[test]
fn wrong_name_and_authority_are_refused() {
    for backend in SERVERS {
        let mut stage = Stage::new(backend, "127.0.0.1", false);
        let other = write(stage.directory.path(), "other.pem", &Authority::new("another authority").pem());
        for mode in ["verify-ca", "verify-full"] {
            let settings = [("DB_SSL_MODE", mode), ("DB_SSL_CA", other.to_str().unwrap())];
            let text = check(&stage.world, &settings);
            let said = line(&text, "FAIL database: ");
            assert!(said.contains("invalid peer certificate: UnknownIssuer"), "{said}");
            assert!(said.contains("DB_SSL_CA"), "{said}");
        }
        stage.reach_at(&format!("localhost:{}", stage.port));
        let text = check(&stage.world, &stage.verified("verify-full"));
        let said = line(&text, "FAIL database: ");
        assert!(said.contains("certificate not valid for name \"localhost\""), "{said}");
        assert!(said.contains("127.0.0.1"), "{said}");
    }
}

#[test]
fn client_certificate_is_presented() {
    for backend in SERVERS {
        let stage = Stage::new(backend, "localhost", true);
        let [cert, key] = stage.client(&stage.authority.client("gateway", VALID));
        let with_client =
            [&stage.verified("verify-full")[..], &[("DB_SSL_CERT", &*cert), ("DB_SSL_KEY", &*key)]];
        let text = check(&stage.world, &with_client.concat());
        line(&text, "ok   database connection is encrypted, the server's certificate and name are verified");
        let text = check(&stage.world, &stage.verified("verify-full"));
        line(&text, "FAIL database: cannot connect to ");
    }
}

/// The files are read for each connection, so a new one is taken without a restart.
#[test]
fn verified_connection_survives_failover_and_rotation() {
    for backend in SERVERS {
        let mut stage = Stage::new(backend, "127.0.0.1", true);
        // The first of the list is not there.
        stage.reach_at(&format!("127.0.0.1:{},127.0.0.1:{}", free_port(), stage.port));
        let [cert, key] = stage.client(&stage.authority.client("gateway", VALID));
        let ca = stage.ca.clone();
        let settings = [
            ("DB_SSL_MODE", "verify-full"),
            ("DB_SSL_CA", &ca),
            ("DB_SSL_CERT", &cert),
            ("DB_SSL_KEY", &key),
        ];
        for (name, value) in settings {
            stage.world.set(name, value);
        }
        stage.world.flow("any", "t").insert(&stage.world.sql);
        let mut gateway = stage.world.start_subscribed();
        gateway.wait_for_line(
            "Database: the connection is encrypted, the server's certificate and name are verified",
        );
        stage.world.publish("t", r#"{"a": 1}"#);
        stage.world.wait_for_stored("any", 1);

        // A new connection uses the present content of the files.
        stage.client(&Authority::new("another authority").client("gateway", VALID));
        end_sessions(&stage.world);
        stage.world.publish("t", r#"{"a": 2}"#);
        gateway.wait_for_line_that("the refusal", &|line| line.contains("received fatal alert"));
        stage.client(&stage.authority.client("gateway", VALID));
        stage.world.wait_for_stored("any", 2);
        assert_eq!(gateway.stop(), Some(0));
        let log = gateway.stderr();
        assert_eq!(log.lines().find(|line| line.contains("https://docs.rs")), None, "a link of a library");
    }
}

/// Ends all sessions of the gateway.
fn end_sessions(world: &World) {
    let (find, end) = if world.backend == Backend::Postgres {
        (
            "SELECT CAST(pid AS BIGINT) FROM pg_stat_activity WHERE usename = ?",
            "SELECT pg_terminate_backend(ID)",
        )
    } else {
        ("SELECT id FROM information_schema.processlist WHERE user = ?", "KILL ID")
    };
    let rows = world.sql.rows(find, [world.name.as_str().into()]);
    assert!(!rows.is_empty());
    for row in rows {
        let id: i64 = row.try_get_by_index(0).unwrap();
        // It may have ended by itself.
        let _ = world.sql.try_run(&end.replace("ID", &id.to_string()));
    }
}

#[test]
fn required_tls_refuses_plain_server() {
    for backend in SERVERS {
        let world = World::on(backend);
        let text = check(&world, &[]);
        let said = line(&text, "ok   database connection is ");
        assert!(
            said.ends_with("not encrypted, because the server offers no TLS (DB_SSL_MODE=prefer)"),
            "{said}"
        );
        let text = check(&world, &[("DB_SSL_MODE", "disable")]);
        assert!(line(&text, "ok   database connection is ").ends_with("not encrypted (DB_SSL_MODE=disable)"));
        let text = check(&world, &[("DB_SSL_MODE", "require")]);
        assert!(line(&text, "FAIL database: ").contains("server does not support TLS"), "{text}");
    }
}
