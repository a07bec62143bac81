//! Linux capabilities as a set of bits. Names as in `capabilities(7)`, with and without `CAP_`.

use std::fmt;

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capabilities(pub(crate) u64);

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Default for Capabilities {
    /// The 14 that container engines give by default.
    fn default() -> Self {
        Capabilities(0xa804_25fb)
    }
}

impl Capabilities {
    /// None.
    pub const fn none() -> Self {
        Capabilities(0)
    }

    /// All that this version knows.
    pub const fn all() -> Self {
        Capabilities((1 << NAMES.len()) - 1)
    }

    /// One by name: `NET_ADMIN`, `CAP_NET_ADMIN`, in any case. `ALL` is all of them.
    pub fn parse(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" {
            return Some(Self::all());
        }
        NAMES.iter().position(|n| *n == short).map(|bit| Capabilities(1 << bit))
    }

    /// With these added.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Capabilities(self.0 | other.0)
    }

    /// With these dropped.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Capabilities(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as `/proc/self/status` shows them.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & (1 << bit) != 0);
        f.debug_set().entries(set.map(|(_, name)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        assert_eq!(Capabilities::parse("CAP_SYS_ADMIN"), Some(Capabilities(1 << 21)));
        assert_eq!(Capabilities::parse("checkpoint_restore"), Some(Capabilities(1 << 40)));
        assert_eq!(Capabilities::parse("nonsense"), None);
        assert_eq!(Capabilities::default().0.count_ones(), 14);
        let dropped = Capabilities::default().without(Capabilities::all());
        assert_eq!(dropped, Capabilities::none());
    }
}
