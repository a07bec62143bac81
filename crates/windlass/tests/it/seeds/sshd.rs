//! A real `sshd` on loopback in front of the repositories, for one key.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::hosts::nobody;
use crate::house::{program, run};

/// It ends with the value.
pub(crate) struct Sshd {
    child: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    dir: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sshd {
    pub(crate) fn start(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &path("host")])).ok();
        run(Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", &path("id_rsa")])).ok();
        let address = nobody();
        let port = address.rsplit(':').next().unwrap();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin yes\nPidFile none\nAcceptEnv GIT_PROTOCOL\n",
            path("host"),
            path("id_rsa.pub")
        );
        std::fs::write(path("config"), config).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        // It starts itself again by its whole path.
        let sshd = program("sshd").unwrap_or_else(|| "/usr/sbin/sshd".into());
        let mut command = Command::new(sshd);
        let mut child = command
            .args(["-D", "-e", "-f", &path("config")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(log.by_ref().any(|line| line.unwrap().contains("listening")), "sshd ended");
        // Read on, or it would stand still one day.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address, dir }
    }

    /// The file with the one key that is let in.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("id_rsa")
    }

    /// The line of `ssh_known_hosts`.
    pub(crate) fn known(&self) -> String {
        let public = std::fs::read_to_string(self.dir.join("host.pub")).unwrap();
        let (host, port) = self.address.split_once(':').unwrap();
        format!("[{host}]:{port} {public}")
    }
}
