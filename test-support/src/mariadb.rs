//! A MariaDB server of a test's own, to be stopped, killed and started again on the same data and port.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::mosquitto::path_with_sbin;
use super::sql::Sql;
use super::{eventually, net, process};

pub struct MariaDbServer {
    pub port: u16,
    directory: TempDir,
    /// Options beside the common ones, for creating the tables and for each run.
    options: Vec<String>,
    child: Option<Child>,
}

impl MariaDbServer {
    pub fn new() -> MariaDbServer {
        MariaDbServer::with(&[])
    }

    /// With options of the server besides, `--name=value`.
    pub fn with(options: &[&str]) -> MariaDbServer {
        MariaDbServer::in_directory(&std::env::temp_dir(), options)
    }

    /// The same, with all its files below `place`.
    pub fn in_directory(place: &Path, options: &[&str]) -> MariaDbServer {
        let directory = TempDir::new_in(place).unwrap();
        let mut server =
            MariaDbServer { port: net::free_port(), directory, options: Vec::new(), child: None };
        server.set_options(options);
        let init =
            "CREATE USER IF NOT EXISTS root@127.0.0.1; GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION;";
        std::fs::write(server.directory.path().join("init.sql"), init).unwrap();
        let output = server
            .program("mariadb-install-db")
            .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--force"])
            .output()
            .expect("mariadb-server-core has to be installed; scripts/test does that");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.start();
        server
    }

    /// In place of the former ones, from the next start on.
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().copied().map(str::to_owned).collect();
    }

    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        let directory = self.directory.path().display().to_string();
        let child = self
            .program("mariadbd")
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-buffer-pool-size=32M"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--socket={directory}/s"))
            .arg(format!("--pid-file={directory}/pid"))
            .arg(format!("--init-file={directory}/init.sql"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        // The port opens long before. A server that is stopped before it is ready may never end.
        eventually("mariadbd's greeting", || net::greets(address).then_some(()));
    }

    /// `kill -9`: only committed data is there after the next start.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        process::signal(child.id(), "TERM");
        eventually("mariadbd's end", || child.try_wait().unwrap());
    }

    /// Stops it where it is: it keeps its connections and locks, and says nothing.
    pub fn freeze(&self) {
        process::signal(self.child.as_ref().unwrap().id(), "STOP");
    }

    pub fn thaw(&self) {
        process::signal(self.child.as_ref().unwrap().id(), "CONT");
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env("PATH", path_with_sbin())
            .arg("--no-defaults")
            .arg(format!("--datadir={}/data", self.directory.path().display()))
            // A starting server deletes the files of others in the same directory.
            .arg(format!("--tmpdir={}", self.directory.path().display()))
            .arg(format!("--user={}", user_name()))
            .args(&self.options);
        command
    }
}

impl Drop for MariaDbServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A primary and a replica that follows it asynchronously and is read-only.
pub struct ReplicatedPair {
    pub primary: MariaDbServer,
    pub replica: MariaDbServer,
}

impl ReplicatedPair {
    pub fn start() -> ReplicatedPair {
        let primary = MariaDbServer::with(&["--server-id=1", "--log-bin=primary"]);
        let replica = MariaDbServer::with(&["--server-id=2", "--log-bin=replica"]);
        let pair = ReplicatedPair { primary, replica };
        pair.run_on_replica(&format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = 'root', \
             MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1",
            pair.primary.port
        ));
        pair.run_on_replica("SET GLOBAL read_only = 1");
        pair.run_on_replica("START SLAVE");
        pair
    }

    /// Waits until the replica has everything that the primary has committed.
    pub fn wait_until_caught_up(&self) {
        let position = Sql::open(&self.primary.url()).rows("SELECT @@gtid_binlog_pos", []);
        let position: String = position[0].try_get_by_index(0).unwrap();
        let replica = Sql::open(&self.replica.url());
        let waited = format!("SELECT MASTER_GTID_WAIT('{position}', 60)");
        assert_eq!(replica.count(&waited, []), 0, "the replica does not catch up");
    }

    /// The replica falls behind from now on. A promotion loses the changes that it received meanwhile.
    pub fn hold_replica(&self) {
        self.run_on_replica("STOP SLAVE SQL_THREAD");
    }

    /// Promotes the replica with the data it has.
    pub fn promote_replica(&self) {
        for statement in ["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"] {
            self.run_on_replica(statement);
        }
    }

    fn run_on_replica(&self, statement: &str) {
        Sql::open(&self.replica.url()).run(statement);
    }
}

/// The server runs as root only when root is named.
fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
