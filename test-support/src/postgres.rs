//! A `PostgreSQL` server of a test's own, to be stopped, killed and started again on the same data and port.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::certificates::{Authority, Pair, write};
use super::{eventually, net, process};

pub struct PostgresServer {
    pub port: u16,
    directory: TempDir,
    child: Option<Child>,
}

impl PostgresServer {
    pub fn new() -> PostgresServer {
        let directory = TempDir::new().unwrap();
        if let Some(user) = user_for_root() {
            let chown = Command::new("chown").arg(user).arg(directory.path()).status().unwrap();
            assert!(chown.success());
        }
        let mut server = PostgresServer { port: net::free_port(), directory, child: None };
        let output = server
            .program("initdb")
            .args(["--username=root", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--no-sync"])
            .output()
            .expect("postgresql has to be installed; scripts/test does that");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.start();
        server
    }

    /// Starts it again so that users other than root get in by TLS alone, with a client certificate of `authority`
    /// where `wants_client`.
    pub fn encrypt(&mut self, own: &Pair, authority: &Authority, wants_client: bool) {
        let data = self.directory.path().join("data");
        self.stop();
        let (certificate, key) = own.write(&data, "server");
        let ca = write(&data, "ca.pem", &authority.pem());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = user_for_root() {
            let chown = Command::new("chown").arg(user).args([&certificate, &key, &ca]).status().unwrap();
            assert!(chown.success());
        }
        let client = if wants_client { " clientcert=verify-ca" } else { "" };
        let hba =
            format!("host all root 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256{client}\n");
        std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
        let mut settings = OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        let lines =
            "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.pem'\n";
        settings.write_all(lines.as_bytes()).unwrap();
        self.start();
    }

    pub fn url(&self) -> String {
        format!("postgres://root@127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        eventually("postgres", || {
            // After a kill it refuses to start for as long as its former sessions have not noticed.
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                self.child = Some(self.spawn());
            }
            TcpStream::connect(address).ok()
        });
    }

    fn spawn(&self) -> Child {
        self.program("postgres")
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// `kill -9`: only committed data is there after the next start.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// An orderly stop, despite open connections.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        process::signal(child.id(), "INT");
        eventually("postgres' end", || child.try_wait().unwrap());
    }

    fn program(&self, name: &str) -> Command {
        let program = programs().join(name);
        let mut command = match user_for_root() {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), "--clear-groups", "--"]).arg(program);
                command
            }
        };
        // The server reads its configuration there.
        command.arg("-D").arg(self.directory.path().join("data")).current_dir("/");
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Debian has none of them in a PATH.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let with_server = versions.map(|version| version.path().join("bin"));
    with_server.filter(|bin| bin.join("initdb").exists()).max().unwrap_or_else(|| Path::new("").to_owned())
}

/// The server refuses to be root; its package has made a user for it.
fn user_for_root() -> Option<&'static str> {
    let output = Command::new("id").arg("-u").output().unwrap();
    (output.stdout.trim_ascii() == b"0").then_some("postgres")
}
