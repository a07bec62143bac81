//! Network namespaces held by file descriptor, and the switch that connects them.

use std::os::fd::AsRawFd;
use std::{net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{Error, Network, Result, error::Step, namespaces, sys};

mod inspector;
mod netlink;
mod outward;
mod switch;

pub use inspector::Inspector;
pub use switch::{Cidr, Outward, Switch};

/// A network namespace. Clones are the same namespace; it ends with its last handle and process.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
}

impl Netns {
    /// A new namespace with loopback up.
    pub fn create() -> Result<Netns> {
        Ok(Netns { fd: namespaces::make(libc::CLONE_NEWNET, "net", loopback_up)? })
    }

    /// As the network of a [`Spec`](crate::Spec).
    pub fn network(&self) -> Network {
        Network::Join(self.fd.clone())
    }

    /// Run a closure on a thread inside the namespace. It blocks the caller for as long.
    pub fn run<T: Send, F: FnOnce() -> T + Send>(&self, closure: F) -> Result<T> {
        namespaces::on_thread(|| {
            self.enter()?;
            Ok(closure())
        })?
    }

    /// Move the calling thread into it.
    fn enter(&self) -> Result<()> {
        let entered = sys::setns(self.fd.as_raw_fd(), libc::CLONE_NEWNET);
        entered.map_err(std::io::Error::from_raw_os_error).step(|| "enter a network namespace".into())
    }

    async fn socket<T: Send + 'static>(
        &self,
        what: &str,
        address: SocketAddr,
        make: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let netns = self.clone();
        let made = tokio::task::spawn_blocking(move || netns.run(make)).await;
        let made = made.map_err(|e| Error::Gone(e.to_string()))??;
        made.step(|| format!("{what} {address} in the network namespace"))
    }

    /// Listen inside the namespace.
    pub async fn tcp_listener(&self, address: SocketAddr) -> Result<TcpListener> {
        let make = move || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true).map(|()| listener)
        };
        let listener = self.socket("listen on", address, make).await?;
        TcpListener::from_std(listener).step(|| format!("listen on {address}"))
    }

    /// A UDP socket bound inside the namespace.
    pub async fn udp_socket(&self, address: SocketAddr) -> Result<UdpSocket> {
        let make = move || {
            let socket = std::net::UdpSocket::bind(address)?;
            socket.set_nonblocking(true).map(|()| socket)
        };
        let socket = self.socket("bind", address, make).await?;
        UdpSocket::from_std(socket).step(|| format!("bind {address}"))
    }

    /// Connect from inside the namespace. Cancelling it cancels the attempt.
    pub async fn tcp_connect(&self, address: SocketAddr) -> Result<TcpStream> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        // Only the making of a socket looks at the thread's namespace; connecting may wait anywhere.
        let make = move || {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(family, SocketType::STREAM, flags, None).map_err(std::io::Error::from)
        };
        let socket = self.socket("connect to", address, make).await?;
        let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
        socket.connect(address).await.step(|| format!("connect to {address} in the network namespace"))
    }
}

/// Bring loopback up in the calling thread's namespace. Allocates nothing.
pub(crate) fn loopback_up() -> Result<(), sys::Errno> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: libc::IFF_UP as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: `request` has the layout and size of ifreq and outlives the call; the descriptor is used nowhere else.
    unsafe {
        let socket = libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(sys::errno());
        }
        let answer = libc::syscall(libc::SYS_ioctl, socket, libc::SIOCSIFFLAGS, &request);
        let errno = sys::errno();
        sys::close(socket as i32);
        if answer < 0 { Err(errno) } else { Ok(()) }
    }
}

/// Whether network namespaces and veth pairs work here, tried in a child: this process must not start threads yet.
pub(crate) fn probe() -> bool {
    // SAFETY: this process has one thread, so that the child may do anything.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => sys::exit_now(i32::from(!switch::works())),
        pid => {
            let mut status = 0;
            // SAFETY: waits for our own child.
            unsafe { libc::waitpid(pid, &mut status, 0) };
            status == 0
        }
    }
}
