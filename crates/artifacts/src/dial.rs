//! How connections are made: names that only the cluster knows first, then DNS, both with bounded patience. It must
//! never ask NSS (the binary is static), and never wait for a resolver longer than it was told.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Names inside: a Service, say. Whoever runs the cluster's network implements it.
pub trait Dial: Send + Sync {
    /// Whether this name is one of ours.
    fn knows(&self, host: &str) -> bool;
    /// Connects to one of our names.
    fn dial(&self, host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream>;
}

/// The names inside, where there are any.
#[derive(Clone, Default)]
pub struct Inside(Option<Arc<dyn Dial>>);

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Inside(some)" } else { "Inside(none)" })
    }
}

impl Inside {
    /// Names that this one knows are inside.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self(Some(dial))
    }

    /// A way for an HTTP client to a name that is inside; nothing where it is not.
    pub(crate) fn tunnel(&self, host: &str, port: u16, timeout: Duration) -> io::Result<Option<Tunnel>> {
        match &self.0 {
            Some(dial) if dial.knows(host) => Tunnel::open(dial.clone(), host, port, timeout).map(Some),
            _ => Ok(None),
        }
    }

    /// A connection to a host, inside or out.
    pub(crate) fn connect(&self, host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
        if let Some(dial) = self.0.as_ref().filter(|dial| dial.knows(host)) {
            return dial.dial(host, port, timeout);
        }
        let until = Instant::now() + timeout;
        let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut last = None;
        for address in resolve(host, timeout)? {
            match TcpStream::connect_timeout(&SocketAddr::new(address, port), left()) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its name cannot be resolved")))
    }
}

/// The addresses of a name; an address is its own. Blocks, at most so long.
pub fn resolve(host: &str, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let unknown = |why: String| io::Error::new(io::ErrorKind::NotFound, format!("its name cannot be resolved: {why}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looking = async {
        let mut builder = hickory_resolver::TokioResolver::builder_tokio().map_err(|e| unknown(e.to_string()))?;
        let options = builder.options_mut();
        (options.timeout, options.attempts) = (timeout / 2, 1);
        options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
        let resolver = builder.build().map_err(|e| unknown(e.to_string()))?;
        let found = resolver.lookup_ip(host).await.map_err(|e| unknown(e.to_string()))?;
        Ok(found.iter().collect())
    };
    let bounded = async { tokio::time::timeout(timeout, looking).await };
    let answer = runtime.block_on(bounded);
    // A query that is under way is not waited for.
    runtime.shutdown_background();
    answer.map_err(|_| unknown("no resolver answered".to_owned()))?
}

/// A socket in a private directory that leads to one name inside, for clients that only dial for themselves. It is
/// closed with the value; connections that were made live on.
pub(crate) struct Tunnel {
    dir: tempfile::TempDir,
    ended: Arc<AtomicBool>,
}

impl Tunnel {
    fn open(dial: Arc<dyn Dial>, host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("windlass-dial-").tempdir()?;
        let listener = UnixListener::bind(dir.path().join("s"))?;
        let ended = Arc::new(AtomicBool::new(false));
        // The first is made at once, so that an error is told as what it is.
        let mut first = Some(dial.dial(host, port, timeout)?);
        let (host, stop) = (host.to_owned(), ended.clone());
        std::thread::spawn(move || {
            for inner in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(inner) = inner else { return };
                match first.take().map_or_else(|| dial.dial(&host, port, timeout), Ok) {
                    Ok(outer) => join(inner, outer),
                    Err(error) => tracing::debug!(host, port, %error, "a connection inside was not made"),
                }
            }
        });
        Ok(Self { dir, ended })
    }

    /// The socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _ = UnixStream::connect(self.path());
    }
}

/// Copies both ways until both have ended.
fn join(inner: UnixStream, outer: TcpStream) {
    let (Ok(mut inner_read), Ok(mut outer_write)) = (inner.try_clone(), outer.try_clone()) else { return };
    let (mut outer_read, mut inner_write) = (outer, inner);
    std::thread::spawn(move || {
        let _ = io::copy(&mut inner_read, &mut outer_write);
        let _ = outer_write.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = io::copy(&mut outer_read, &mut inner_write);
        let _ = inner_write.shutdown(Shutdown::Write);
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    struct Echo(SocketAddr);

    impl Dial for Echo {
        fn knows(&self, host: &str) -> bool {
            host == "echo"
        }
        fn dial(&self, _host: &str, _port: u16, timeout: Duration) -> io::Result<TcpStream> {
            TcpStream::connect_timeout(&self.0, timeout)
        }
    }

    #[test]
    fn names_inside_are_reached_through_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                stream.write_all(text.to_uppercase().as_bytes()).unwrap();
            }
        });
        let inside = Inside::new(Arc::new(Echo(address)));
        let patience = Duration::from_secs(5);
        assert!(inside.tunnel("other", 1, patience).unwrap().is_none());
        let tunnel = inside.tunnel("echo", 1, patience).unwrap().unwrap();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(tunnel.path()).unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "HELLO");
        }
    }

    #[test]
    fn names_that_do_not_exist_are_told_in_time() {
        let begun = Instant::now();
        let error = Inside::default().connect("windlass.invalid", 22, Duration::from_secs(4)).unwrap_err();
        assert!(error.to_string().contains("cannot be resolved"), "{error}");
        // A bound, not a measure: the resolver's own patience would be far beyond it.
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(resolve("127.0.0.1", Duration::from_secs(1)).unwrap(), [IpAddr::from([127, 0, 0, 1])]);
    }
}
