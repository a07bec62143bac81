//! One command on one host: connected, checked, signed in, and its bytes as a pair of plain sockets for gix. A thread with
//! a runtime of its own carries them. Nothing here waits for ever.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use russh::client::{self, AuthResult, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Preferred};
use tokio::io::AsyncWriteExt;

use super::known::Known;
use super::{Address, Options, SshError, key};

/// What the far side said at its end.
#[derive(Default)]
struct Ended {
    stderr: Vec<u8>,
    fault: Option<String>,
}

const STDERR_BYTES_MAX: usize = 4096;

/// A command under way. It ends with the value.
pub(in crate::git) struct Session {
    socket: UnixStream,
    ended: Arc<Mutex<Ended>>,
}

impl Session {
    /// Connects and runs `program` on the address's path.
    pub(in crate::git) fn open(to: &Address, program: &str, options: &Options<'_>) -> Result<Self, SshError> {
        let Some(secret) = options.key else {
            return Err(SshError::Denied(
                "it is reached by ssh, and no key was given (git.sshPrivateKeySecret); a repository that can be read \
                 without one is mapped to its other address with --remap-git"
                    .to_owned(),
            ));
        };
        let key = key::read(secret).map_err(SshError::Denied)?;
        let known = Known::read(&to.host_name(), options.mapped, options.known_hosts);
        let stream = options.inside.connect(&to.host, to.port, options.connect_timeout);
        let stream = stream.map_err(|e| SshError::Unreachable(format!("{} port {}: {e}", to.host, to.port)))?;
        let broken = |e: std::io::Error| SshError::Unreachable(e.to_string());
        stream.set_nonblocking(true).map_err(broken)?;
        let _ = stream.set_nodelay(true);
        let (near, far) = UnixStream::pair().map_err(broken)?;
        far.set_nonblocking(true).map_err(broken)?;
        near.set_read_timeout(Some(options.read_timeout + Duration::from_secs(5))).map_err(broken)?;
        let ended = Arc::new(Mutex::new(Ended::default()));
        let job = Job {
            user: to.user.clone(),
            command: to.command(program),
            key: Arc::new(key),
            known,
            ignore_host_key: options.ignore_host_key,
            read_timeout: options.read_timeout,
            ended: ended.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
        let (begun, waiting) = mpsc::channel();
        let carry = move || runtime.block_on(job.run(stream, far, &begun));
        std::thread::Builder::new().name("git-ssh".to_owned()).spawn(carry).map_err(broken)?;
        // The thread bounds itself; a thread that is gone has dropped its end.
        match waiting.recv() {
            Ok(Ok(())) => Ok(Self { socket: near, ended }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SshError::Unreachable("the connection broke off".to_owned())),
        }
    }

    /// The command's output and input.
    pub(in crate::git) fn halves(&self) -> std::io::Result<(impl Read + Send + use<>, impl Write + Send + use<>)> {
        Ok((self.socket.try_clone()?, self.socket.try_clone()?))
    }

    /// Why it ended, where the far side or the connection said so: the first is an answer, the second may go away.
    pub(in crate::git) fn complaint(&self) -> Option<SshError> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&ended.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        if let Some(fault) = &ended.fault {
            return Some(SshError::Unreachable(fault.clone()));
        }
        (!lines.is_empty()).then(|| SshError::Denied(format!("the host said: {}", lines.join("; "))))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

struct Job {
    user: String,
    command: String,
    key: Arc<russh::keys::PrivateKey>,
    known: Known,
    ignore_host_key: bool,
    read_timeout: Duration,
    ended: Arc<Mutex<Ended>>,
}

/// Looks at the host's key.
struct Guard {
    known: Known,
    ignore: bool,
    refusal: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        if self.ignore {
            return Ok(true);
        }
        let verdict = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.known.check(key),
            PublicKeyOrCertificate::Certificate(_) => {
                Err("the host showed a certificate, which was not asked for".into())
            }
        };
        let refusal = verdict.err();
        let fine = refusal.is_none();
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
        Ok(fine)
    }
}

impl Job {
    async fn run(self, stream: std::net::TcpStream, far: UnixStream, begun: &mpsc::Sender<Result<(), SshError>>) {
        let ended = self.ended.clone();
        let patience = self.read_timeout;
        let Ok(far) = tokio::net::UnixStream::from_std(far) else { return };
        let opened = match tokio::time::timeout(patience, self.begin(stream)).await {
            Ok(opened) => opened,
            Err(_) => Err(SshError::Unreachable(format!("no ssh answer within {} s", patience.as_secs()))),
        };
        match opened {
            Err(error) => drop(begun.send(Err(error))),
            Ok((handle, channel)) => {
                let _ = begun.send(Ok(()));
                carry(channel, far, &ended, patience).await;
                let _ = handle.disconnect(russh::Disconnect::ByApplication, "", "").await;
            }
        }
    }

    async fn begin(
        self,
        stream: std::net::TcpStream,
    ) -> Result<(Handle<Guard>, russh::Channel<client::Msg>), SshError> {
        let lost = |e: russh::Error| SshError::Unreachable(format!("ssh: {e}"));
        let preferred = Preferred { key: self.known.preferred().into(), ..Preferred::DEFAULT };
        let config = client::Config {
            inactivity_timeout: Some(self.read_timeout),
            preferred,
            nodelay: true,
            ..client::Config::default()
        };
        let refusal = Arc::new(Mutex::new(None));
        let guard = Guard { known: self.known, ignore: self.ignore_host_key, refusal: refusal.clone() };
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|e| SshError::Unreachable(e.to_string()))?;
        let mut handle = match client::connect_stream(Arc::new(config), stream, guard).await {
            Ok(handle) => handle,
            Err(error) => {
                let refused = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(refused.map_or_else(|| lost(error), SshError::Denied));
            }
        };
        // RSA with SHA-1 is offered only where the host knows nothing better.
        let hash = match self.key.algorithm().is_rsa() {
            true => handle.best_supported_rsa_hash().await.map_err(lost)?.unwrap_or(Some(russh::keys::HashAlg::Sha512)),
            false => None,
        };
        let print = self.key.public_key().fingerprint(russh::keys::HashAlg::Sha256);
        let key = PrivateKeyWithHashAlg::new(self.key, hash);
        let kind = key.algorithm();
        match handle.authenticate_publickey(self.user.as_str(), key).await.map_err(lost)? {
            AuthResult::Success => {}
            AuthResult::Failure { .. } => {
                return Err(SshError::Denied(format!(
                    "the host refused the ssh key {kind} {print} for the user {}: add its public half there",
                    self.user
                )));
            }
        }
        let channel = handle.channel_open_session().await.map_err(lost)?;
        // A host may not allow it: then the older protocol is spoken.
        channel.set_env(false, "GIT_PROTOCOL", "version=2").await.map_err(lost)?;
        channel.exec(true, self.command).await.map_err(lost)?;
        Ok((handle, channel))
    }
}

/// Carries bytes both ways until the command, or our side, has ended.
async fn carry(
    channel: russh::Channel<client::Msg>,
    far: tokio::net::UnixStream,
    ended: &Mutex<Ended>,
    patience: Duration,
) {
    let (mut from_host, to_host) = channel.split();
    let (mut from_us, mut to_us) = far.into_split();
    let sending = async {
        let mut writer = to_host.make_writer();
        let copied = tokio::io::copy(&mut from_us, &mut writer).await;
        drop(writer);
        let _ = to_host.eof().await;
        if copied.is_err() {
            return;
        }
        // Our side has said all; what the host still has to say comes by the other way.
        std::future::pending::<()>().await;
    };
    let receiving = async {
        let note = |fault: String| ended.lock().unwrap_or_else(PoisonError::into_inner).fault = Some(fault);
        loop {
            match tokio::time::timeout(patience, from_host.wait()).await {
                Err(_) => {
                    note(format!("the host was silent for {} s", patience.as_secs()));
                    break;
                }
                // Without an end of its own: the connection was lost.
                Ok(None) => break,
                Ok(Some(ChannelMsg::Data { data })) => {
                    if to_us.write_all(&data).await.is_err() {
                        break;
                    }
                }
                Ok(Some(ChannelMsg::ExtendedData { data, .. })) => {
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = STDERR_BYTES_MAX.saturating_sub(ended.stderr.len());
                    ended.stderr.extend_from_slice(&data[..data.len().min(room)]);
                }
                Ok(Some(ChannelMsg::Failure)) => {
                    let text = b"the command was not allowed".as_slice();
                    ended.lock().unwrap_or_else(PoisonError::into_inner).stderr.extend_from_slice(text);
                    break;
                }
                Ok(Some(_)) => {}
            }
        }
        let _ = to_us.shutdown().await;
    };
    tokio::select! {
        () = sending => {}
        () = receiving => {}
    }
}
