//! An OpenSSH server on loopback or in a network of its own, with keys of its own: what stands for another machine in tests.
//!
//! Whoever logs in is the user that runs the tests, in a home of the test's own.

use crate::folder;
use crate::process::{Server, free_port, program};
use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where a server that root starts keeps what it must not write.
const SEPARATION: &str = "/run/sshd";

/// A server that stands for one machine.
pub struct Sshd {
    name: String,
    address: Ipv4Addr,
    port: u16,
    /// What stands before the server's command.
    prefix: Vec<String>,
    dir: tempfile::TempDir,
    server: Option<Server>,
}

impl Sshd {
    /// Starts one that ssh will know as `name`. `path` stands before the usual folders of programs there.
    pub fn start(name: &str, home: &Path, path: Option<&Path>) -> Sshd {
        Sshd::start_at(name, home, path, Ipv4Addr::LOCALHOST, &[])
    }

    /// The same at another address, which the command that `prefix` makes of the server's can listen on.
    pub fn start_at(
        name: &str,
        home: &Path,
        path: Option<&Path>,
        address: Ipv4Addr,
        prefix: &[String],
    ) -> Sshd {
        let dir = folder::temporary();
        for key in ["host_key", "user_key"] {
            let made = Command::new(program("ssh-keygen", &[]))
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.path().join(key))
                .status();
            assert!(
                made.is_ok_and(|status| status.success()),
                "ssh-keygen failed"
            );
        }
        let mut sshd = Sshd {
            name: name.to_owned(),
            address,
            prefix: prefix.to_vec(),
            port: free_port(),
            dir,
            server: None,
        };
        sshd.write("authorized_keys", &sshd.read("user_key.pub"));
        let usual = "/usr/local/bin:/usr/bin:/bin";
        let folders = path.map_or(usual.to_owned(), |path| {
            format!("{}:{usual}", path.display())
        });
        let settings = format!(
            "ListenAddress {address}\nPort {}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPrintMotd no\nMaxStartups 100\nSetEnv HOME={} PATH={folders}\n",
            sshd.port,
            sshd.path("host_key").display(),
            sshd.path("authorized_keys").display(),
            home.display()
        );
        sshd.write("sshd_config", &settings);
        let host_key = sshd.read("host_key.pub");
        sshd.write(
            "known_hosts",
            &format!("[{address}]:{} {host_key}", sshd.port),
        );
        sshd.up();
        sshd
    }

    /// How a client's configuration names this machine.
    pub fn client_config(&self) -> String {
        let user = Command::new("id")
            .arg("-un")
            .output()
            .expect("id can be started");
        let user = String::from_utf8_lossy(&user.stdout);
        format!(
            "Host {}\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n",
            self.name,
            self.address,
            self.port,
            user.trim(),
            self.path("user_key").display(),
            self.path("known_hosts").display()
        )
    }

    /// The machine cannot be reached any more.
    pub fn down(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    fn up(&mut self) {
        if rustix::process::getuid().is_root() {
            std::fs::create_dir_all(SEPARATION).expect("root can make the folder");
            let closed = Permissions::from_mode(0o755);
            std::fs::set_permissions(SEPARATION, closed).expect("root can set its mode");
        }
        let config = self.path("sshd_config").display().to_string();
        let log = self.path("sshd.log");
        // It calls itself again for each connection, and wants its whole path for that.
        let sshd = program(
            "sshd",
            &[PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")],
        );
        let own = ["-D", "-e", "-f", &config].map(str::to_owned);
        let (program, arguments) = match self.prefix.split_first() {
            None => (sshd, own.to_vec()),
            Some((first, rest)) => {
                let words = rest.iter().cloned().chain([sshd.display().to_string()]);
                (program(first, &[]), words.chain(own).collect())
            }
        };
        self.server = Some(Server::start(&program, &arguments, None, &log));
        let begun = Instant::now();
        while TcpStream::connect((self.address, self.port)).is_err() {
            assert!(
                begun.elapsed() < PATIENCE,
                "sshd did not start: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::yield_now();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("the file is there")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the folder can be written");
        let own = Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), own).expect("the mode can be set");
    }
}
