//! The way out of the switch, as root: a veth pair to the host's network, addresses translated twice. In the switch
//! all pods become the uplink's link-local address, so that two agents with the same pod range are no conflict; on the
//! host that one address becomes the host's. Nothing of the host's is changed but forwarding on the links that are
//! used, and one nftables table that goes when this process ends.
//!
//! Pods then reach what the host listens on at addresses other than loopback, as with any container engine.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    Netns,
    netlink::{Batch, Message, Socket},
    switch::{self, Cidr, Via},
};
use crate::{Error, Result, error::Step};

/// The switch's end; its number is above those of all pods.
const UPLINK: u32 = 0x0100_0000;
/// Each uplink has four addresses of 169.254.64.0/18.
const SLOTS: u32 = 4096;

/// Held as long as the uplink is used: the kernel removes the host's table with this socket.
#[derive(Debug)]
pub(crate) struct Uplink {
    name: String,
    _table: Socket,
}

impl Uplink {
    pub(crate) fn means(&self) -> String {
        format!("link {} and masquerade", self.name)
    }
}

pub(crate) fn connect(switch: &Netns) -> Result<Uplink> {
    let host = File::open("/proc/self/ns/net").step(|| "open our network namespace".into())?;
    let host = OwnedFd::from(host);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut last = None;
    for _ in 0..16 {
        let slot = (std::process::id().wrapping_mul(8) + NEXT.fetch_add(1, Ordering::Relaxed)) % SLOTS;
        match connect_slot(switch, &host, slot) {
            Err(Error::Io { source, step }) if source.kind() == io::ErrorKind::AlreadyExists => {
                last = Some(Error::Io { source, step });
            }
            answer => return answer,
        }
    }
    Err(last.unwrap_or_else(|| Error::Unsupported("no free uplink".into())))
}

fn connect_slot(switch: &Netns, host: &OwnedFd, slot: u32) -> Result<Uplink> {
    let name = format!("windlass{slot}");
    let base = Ipv4Addr::new(169, 254, 64, 0).to_bits() + slot * 4;
    let (outer, inner) = (Ipv4Addr::from_bits(base + 1), Ipv4Addr::from_bits(base + 2));
    switch.run(|| {
        let mut batch = Batch::default();
        switch::veth(&mut batch, (UPLINK, "uplink"), (0, &name), Some(host));
        switch::forwarding(&mut batch, UPLINK);
        switch::address_on(&mut batch, UPLINK, Cidr::new(inner, 30), 0);
        switch::send(batch, "connect the switch to the host's network")?;
        let table = Socket::open(libc::NETLINK_NETFILTER).step(|| "netfilter".into())?;
        masquerade(&table, "windlass", false, &Match::Leaving(UPLINK))
    })??;
    // The namespace keeps its rules when the socket is gone; the host's go with it.
    let outcome = crate::namespaces::on_thread(|| {
        let index = link_number(&name)?;
        let mut batch = Batch::default();
        switch::up(&mut batch, index);
        switch::address_on(&mut batch, index, Cidr::new(outer, 30), 0);
        switch::forwarding(&mut batch, index);
        for link in default_links() {
            switch::forwarding(&mut batch, link_number(&link)?);
        }
        switch::send(batch, "connect the host's network to the switch")?;
        let table = Socket::open(libc::NETLINK_NETFILTER).step(|| "netfilter".into())?;
        masquerade(&table, &name, true, &Match::Source(inner))?;
        Ok(table)
    })?;
    let table = match outcome {
        Ok(table) => table,
        Err(error) => {
            let undo = switch.run(|| {
                let mut batch = Batch::default();
                switch::delete(&mut batch, UPLINK);
                switch::send(batch, "undo")
            });
            drop(undo);
            return Err(error);
        }
    };
    switch.run(|| {
        let mut batch = Batch::default();
        switch::route(&mut batch, Cidr::new(Ipv4Addr::UNSPECIFIED, 0), UPLINK, Via::gateway(outer));
        switch::send(batch, "route the switch outward")
    })??;
    Ok(Uplink { name, _table: table })
}

fn link_number(name: &str) -> Result<u32> {
    let text = std::ffi::CString::new(name).map_err(|e| Error::Spec(e.to_string()))?;
    // SAFETY: a terminated string that outlives the call.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => Err(Error::io(format!("find link {name}"), io::Error::last_os_error())),
        index => Ok(index),
    }
}

/// The links that default routes leave by.
fn default_links() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    let mut links: Vec<String> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?;
            (fields.next()? == "00000000").then(|| name.to_owned())
        })
        .collect();
    links.dedup();
    links
}

/// What is translated.
enum Match {
    /// What leaves by this link.
    Leaving(u32),
    /// What comes from this address.
    Source(Ipv4Addr),
}

const NESTED: u16 = 0x8000;

/// An nftables table with one rule: what matches gets the address of the link that it leaves by.
fn masquerade(socket: &Socket, table: &str, owned: bool, what: &Match) -> Result<()> {
    const NFTABLES: u16 = 10 << 8;
    const BEGIN: u16 = 0x10;
    const END: u16 = 0x11;
    const NEWTABLE: u16 = NFTABLES;
    const NEWCHAIN: u16 = NFTABLES | 3;
    const NEWRULE: u16 = NFTABLES | 6;
    const CREATE: u16 = libc::NLM_F_CREATE as u16;
    const APPEND: u16 = CREATE | libc::NLM_F_APPEND as u16;
    let inet = [libc::AF_INET as u8, 0, 0, 0];
    let mut batch = Batch::default();
    batch.add_silent(BEGIN, |m| {
        m.raw(&[0, 0, 0, 10]);
    });
    batch.add("table", NEWTABLE, CREATE, |m| {
        // An owned table goes with its socket.
        m.raw(&inet).text(1, table).put(2, &(if owned { 2u32 } else { 0 }).to_be_bytes());
    });
    batch.add("chain", NEWCHAIN, CREATE, |m| {
        m.raw(&inet).text(1, table).text(3, "postrouting");
        m.nest(NESTED | 4, |m| {
            m.put(1, &4u32.to_be_bytes()).put(2, &100u32.to_be_bytes());
        });
        m.text(7, "nat");
    });
    batch.add("rule", NEWRULE, APPEND, |m| {
        m.raw(&inet).text(1, table).text(2, "postrouting");
        m.nest(NESTED | 4, |m| {
            let value: Vec<u8> = match what {
                Match::Leaving(index) => {
                    expression(m, "meta", |m| {
                        m.put(1, &be(1)).put(2, &be(5));
                    });
                    index.to_ne_bytes().to_vec()
                }
                Match::Source(address) => {
                    // Four bytes at offset 12 of the network header.
                    expression(m, "payload", |m| {
                        m.put(1, &be(1)).put(2, &be(1)).put(3, &be(12)).put(4, &be(4));
                    });
                    address.octets().to_vec()
                }
            };
            expression(m, "cmp", |m| {
                m.put(1, &be(1)).put(2, &be(0)).nest(NESTED | 3, |m| {
                    m.put(1, &value);
                });
            });
            m.nest(NESTED | 1, |m| {
                m.text(1, "masq");
            });
        });
    });
    batch.add_silent(END, |m| {
        m.raw(&[0, 0, 0, 10]);
    });
    socket.send(batch).map_err(|(words, e)| Error::io(format!("masquerade: {words}"), e))
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn expression(message: &mut Message<'_>, name: &str, data: impl FnOnce(&mut Message<'_>)) {
    message.nest(NESTED | 1, |m| {
        m.text(1, name).nest(NESTED | 2, data);
    });
}
