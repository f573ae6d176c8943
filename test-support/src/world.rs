//! A world of its own for a test: database, broker, settings and directories, with a gateway to be started in it.
//!
//! Tests run in parallel on one pair of servers: each has a database, a client id and a topic prefix to itself.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;
use url::Url;

use super::flows::NewFlow;
use super::mariadb::MariaDbServer;
use super::mosquitto::{Broker, LogMark, required};
use super::postgres::PostgresServer;
use super::process::{Gateway, Settings, binary};
use super::proxy::Proxy;
use super::publisher::{Message, Publisher};
use super::sql::Sql;
use super::sqlalchemy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    MariaDb,
    Postgres,
    Sqlite,
}

/// The databases in which rows are locked one by one.
pub const SERVERS: [Backend; 2] = [Backend::MariaDb, Backend::Postgres];

/// A password may hold any character; every test on a server lives with this one.
pub const PASSWORD: &str = r#"p@ss:w/o%r#d ${HOME}"'\&?"#;

pub struct World {
    pub backend: Backend,
    pub sql: Sql,
    pub broker: Broker,
    pub settings: Settings,
    /// The first level of this test's topics, also its client id.
    pub name: String,
    directory: TempDir,
    publisher: RefCell<Option<Publisher>>,
    _database: Option<PostgresDatabase>,
}

/// A database that goes with its world: each takes 8 MB on the disk.
struct PostgresDatabase {
    maintenance: String,
    name: String,
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        // A failed test keeps it for inspection.
        if !std::thread::panicking() {
            let admin = Sql::open(&self.maintenance);
            let _ = admin.try_run(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
            let _ = admin.try_run(&format!("DROP USER {}", self.name));
        }
    }
}

impl World {
    /// On the shared servers.
    pub fn on(backend: Backend) -> World {
        World::with_broker(backend, Broker::shared())
    }

    pub fn with_broker(backend: Backend, broker: Broker) -> World {
        let world = World::without_broker(backend, broker);
        world.add_broker();
        world
    }

    /// With an empty `mqtt_servers`.
    pub fn without_broker(backend: Backend, broker: Broker) -> World {
        match backend {
            Backend::MariaDb => World::on_mariadb(&required("TEST_MYSQL_URL"), broker),
            Backend::Postgres => World::on_postgres(&required("TEST_POSTGRES_URL"), broker),
            Backend::Sqlite => World::on_sqlite(broker),
        }
    }

    /// On a server of the test's own.
    pub fn on_server(server: &MariaDbServer, broker: Broker) -> World {
        let world = World::on_mariadb(&server.url(), broker);
        world.add_broker();
        world
    }

    /// The same on `PostgreSQL`.
    pub fn on_postgres_server(server: &PostgresServer, broker: Broker) -> World {
        let world = World::on_postgres(&server.url(), broker);
        world.add_broker();
        world
    }

    fn on_mariadb(server_url: &str, broker: Broker) -> World {
        let name = unique_name();
        let server = Url::parse(server_url).unwrap();
        let admin = Sql::open(server.as_str());
        admin.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
        let password = PASSWORD.replace('\\', r"\\").replace('\'', "''");
        admin.run(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{password}'"));
        admin.run(&format!("GRANT ALL ON {name}.* TO '{name}'@'%'"));
        let mut database = server.clone();
        database.set_path(&name);
        let sql = Sql::open(database.as_str());
        sql.run(sqlalchemy::MARIADB);
        let settings = Settings::from(
            [
                ("DB_HOST", server.host_str().unwrap()),
                ("DB_PORT", &server.port().unwrap_or(3306).to_string()),
                ("DB_NAME", &name),
                ("DB_USER", &name),
                ("DB_PASSWORD", PASSWORD),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        World::assemble(Backend::MariaDb, name, sql, broker, settings, TempDir::new().unwrap())
    }

    fn on_postgres(server_url: &str, broker: Broker) -> World {
        let name = unique_name();
        let server = Url::parse(server_url).unwrap();
        let mut maintenance = server.clone();
        maintenance.set_path("postgres");
        let admin = Sql::open(maintenance.as_str());
        let password = PASSWORD.replace('\'', "''");
        admin.run(&format!("CREATE USER {name} PASSWORD '{password}'"));
        admin.run(&format!("CREATE DATABASE {name} OWNER {name}"));
        let mut database = server;
        database.set_path(&name);
        database.set_username(&name).unwrap();
        database.set_password(Some(PASSWORD)).unwrap();
        let sql = Sql::open(database.as_str());
        sql.run(sqlalchemy::POSTGRES);
        let settings = Settings::from([("DATABASE_URL".to_owned(), database.into())]);
        let database = PostgresDatabase { maintenance: maintenance.into(), name: name.clone() };
        let world = World::assemble(Backend::Postgres, name, sql, broker, settings, TempDir::new().unwrap());
        World { _database: Some(database), ..world }
    }

    fn on_sqlite(broker: Broker) -> World {
        World::on_sqlite_below(&std::env::temp_dir(), broker)
    }

    /// With the database and all that the gateway keeps below `place`.
    pub fn on_sqlite_below(place: &Path, broker: Broker) -> World {
        let directory = TempDir::new_in(place).unwrap();
        let url = format!("sqlite://{}/gateway.sqlite", directory.path().display());
        let sql = Sql::open(&format!("{url}?mode=rwc"));
        sql.run(sqlalchemy::SQLITE);
        let settings = Settings::from([("DATABASE_URL".to_owned(), url)]);
        World::assemble(Backend::Sqlite, unique_name(), sql, broker, settings, directory)
    }

    fn assemble(
        backend: Backend,
        name: String,
        sql: Sql,
        broker: Broker,
        settings: Settings,
        directory: TempDir,
    ) -> World {
        let mut world = World {
            backend,
            sql,
            broker,
            settings,
            name,
            directory,
            publisher: RefCell::new(None),
            _database: None,
        };
        let client_id = world.name.clone();
        let (inbox, log) = (world.inbox_directory(), world.log_directory());
        world
            .set("MQTT_CLIENT_ID", &client_id)
            .set("INBOX_DIR", inbox.to_str().unwrap())
            .set("LOG_DIR", log.to_str().unwrap())
            .set("FLOWS_RELOAD_INTERVAL_SECONDS", "1")
            .set("MAILBOX_REPORT_SECONDS", "1")
            .set("LOG_FORMAT", "json")
            // Most tests do not use it. The others set any free port.
            .set("ADMIN_BIND", "off");
        world
    }

    /// A session like any other client's, with rights on this test's database alone.
    pub fn another_session(&self) -> Sql {
        Sql::open(self.database_url().as_str())
    }

    fn database_url(&self) -> Url {
        if let Some(url) = self.settings.get("DATABASE_URL") {
            return Url::parse(url).unwrap();
        }
        let address = format!("{}:{}", self.settings["DB_HOST"], self.settings["DB_PORT"]);
        let mut url = Url::parse(&format!("mysql://{address}/{}", self.name)).unwrap();
        url.set_username(&self.name).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url
    }

    /// Makes the world's broker the default one.
    pub fn add_broker(&self) {
        let address = self.broker.address;
        self.add_server(&address.ip().to_string(), Some(address.port()), Some(true), Some(true));
    }

    pub fn add_server(&self, host: &str, port: Option<u16>, enabled: Option<bool>, is_default: Option<bool>) {
        self.sql.execute(
            "INSERT INTO mqtt_servers (host, port, enabled, is_default) VALUES (?, ?, ?, ?)",
            [host.into(), port.map(i32::from).into(), enabled.into(), is_default.into()],
        );
    }

    /// Directs the gateway to its default broker at this address, say a proxy. Publishers connect directly.
    pub fn reach_broker_at(&self, address: SocketAddr) {
        self.sql.execute(
            "UPDATE mqtt_servers SET host = ?, port = ? WHERE is_default = TRUE",
            [address.ip().to_string().into(), i32::from(address.port()).into()],
        );
    }

    /// Directs the gateway to its server at this address, say a proxy. The test's own statements go directly.
    pub fn reach_database_at(&mut self, address: SocketAddr) {
        if self.backend == Backend::MariaDb {
            self.set("DB_HOST", &address.ip().to_string()).set("DB_PORT", &address.port().to_string());
            return;
        }
        let mut url = self.database_url();
        url.set_ip_host(address.ip()).unwrap();
        url.set_port(Some(address.port())).unwrap();
        self.set("DATABASE_URL", url.as_str());
    }

    /// Has the gateway choose among servers at these ports of this host.
    pub fn reach_database_at_one_of(&mut self, ports: &[u16]) {
        let servers: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let servers = servers.join(",");
        if self.backend == Backend::MariaDb {
            self.set("DB_HOST", &servers);
            return;
        }
        let url = self.settings["DATABASE_URL"].clone();
        let (login, place) = url.rsplit_once('@').unwrap();
        let (_, name) = place.split_once('/').unwrap();
        self.set("DATABASE_URL", &format!("{login}@{servers}/{name}"));
    }

    /// From now on the test's own statements go to another server, `mysql://user@host:port`.
    pub fn look_at_mariadb(&mut self, server_url: &str) {
        let mut database = Url::parse(server_url).unwrap();
        database.set_path(&self.name);
        self.sql = Sql::open(database.as_str());
    }

    /// Has the gateway read the password, or the URL with the password, from a file; returns the file.
    pub fn keep_secret_in_file(&mut self) -> PathBuf {
        let (setting, file_setting) = match self.backend {
            Backend::MariaDb => ("DB_PASSWORD", "DB_PASSWORD_FILE"),
            Backend::Postgres | Backend::Sqlite => ("DATABASE_URL", "DATABASE_URL_FILE"),
        };
        let path = self.directory().join("secret");
        std::fs::write(&path, self.settings.remove(setting).unwrap() + "\n").unwrap();
        self.set(file_setting, path.to_str().unwrap());
        path
    }

    /// Directs the gateway to its server through a proxy that parses the protocol.
    pub fn reach_database_by_proxy(&mut self) -> Proxy {
        let to = if self.backend == Backend::Postgres { Proxy::to_postgres } else { Proxy::to_mysql };
        let proxy = to(self.database_address());
        self.reach_database_at(proxy.address());
        proxy
    }

    /// Whether a session of the gateway asks for the row of a lane, to take it over or to lock it, and has no answer
    /// yet.
    pub fn waits_for_a_lane(&self) -> bool {
        let sql = if self.backend == Backend::Postgres {
            "SELECT pid FROM pg_stat_activity \
             WHERE usename = ? AND state = 'active' AND query LIKE '%inbox_offsets%' AND pid <> pg_backend_pid()"
        } else {
            "SELECT id FROM information_schema.processlist \
             WHERE user = ? AND info LIKE '%inbox_offsets%'"
        };
        !self.sql.rows(sql, [self.name.as_str().into()]).is_empty()
    }

    /// Where the server is, by the settings.
    pub fn database_address(&self) -> SocketAddr {
        let url = self.database_url();
        format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap()
    }

    pub fn set(&mut self, variable: &str, value: &str) -> &mut World {
        self.settings.insert(variable.to_owned(), value.to_owned());
        self
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn inbox_directory(&self) -> PathBuf {
        self.directory.path().join("inbox")
    }

    pub fn log_directory(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The content of all error files.
    pub fn error_log(&self) -> String {
        let files = std::fs::read_dir(self.log_directory()).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// A topic or filter of this test.
    pub fn topic(&self, rest: &str) -> String {
        format!("{}/{rest}", self.name)
    }

    /// A flow of this test, to be completed and inserted.
    pub fn flow(&self, code: &str, rest_of_topic: &str) -> NewFlow {
        NewFlow::new(code, &self.topic(rest_of_topic))
    }

    pub fn start(&self) -> Gateway {
        Gateway::start(&[], &self.settings, self.directory())
    }

    /// Starts the gateway and returns when the broker has the subscriptions of all enabled flows.
    pub fn start_subscribed(&self) -> Gateway {
        let mark = self.broker.mark();
        let gateway = self.start();
        self.wait_for_flows(mark);
        gateway
    }

    /// Waits until the topics of all enabled flows have been subscribed since `mark`.
    pub fn wait_for_flows(&self, mark: LogMark) {
        let rows = self.sql.rows("SELECT topic FROM flows WHERE enabled = TRUE", []);
        let topics: Vec<String> = rows.iter().map(|row| row.try_get("", "topic").unwrap()).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        self.wait_for_filters(mark, &topics);
    }

    pub fn wait_for_filters(&self, mark: LogMark, filters: &[&str]) {
        self.broker.wait_for_subscriptions(mark, &self.settings["MQTT_CLIENT_ID"], filters);
    }

    /// Publishes below this test's prefix and waits for the broker's acknowledgement.
    pub fn publish(&self, rest_of_topic: &str, payload: impl AsRef<[u8]>) {
        self.publish_all([Message::new(&self.topic(rest_of_topic), payload)]);
    }

    pub fn publish_all(&self, messages: impl IntoIterator<Item = Message>) {
        let mut publisher = self.publisher.borrow_mut();
        publisher.get_or_insert_with(|| Publisher::connect(self.broker.address)).publish_all(messages);
    }

    /// A subcommand that runs on, with pipes for both outputs.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.directory()).env_clear().envs(&self.settings);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A subcommand, run to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        command(arguments, &self.settings, self.directory())
    }
}

/// Runs the program to its end with these settings alone.
pub fn command(arguments: &[&str], settings: &Settings, directory: &Path) -> Output {
    Command::new(binary()).args(arguments).current_dir(directory).env_clear().envs(settings).output().unwrap()
}

/// Standard output and standard error together.
pub fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("gw_{:x}_{}", now.as_nanos() & 0xFFFF_FFFF_FFFF, NEXT.fetch_add(1, Ordering::Relaxed))
}
