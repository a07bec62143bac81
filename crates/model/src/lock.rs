//! Locks by name: what a holder asks for and what it is answered. Only the words; who gets what is decided elsewhere.

use std::fmt;
use std::str::FromStr;

/// A lock's name as Argo writes it: `ns/Mutex/NAME`, `ns/ConfigMap/NAME/KEY` or `ns/Database/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockName {
    /// A lock with one place.
    Mutex {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A lock with as many places as a ConfigMap says.
    Semaphore {
        /// The ConfigMap's namespace.
        namespace: String,
        /// The ConfigMap's name.
        config_map: String,
        /// The key in it.
        key: String,
    },
    /// A lock that is kept in a database: with one place, or with as many as a limit there says.
    Database {
        /// Its namespace, which need not be one of the cluster.
        namespace: String,
        /// Its name.
        name: String,
        /// Whether it has one place. Both kinds are written the same.
        mutex: bool,
    },
}

impl LockName {
    /// Whether it has one place.
    pub fn is_mutex(&self) -> bool {
        matches!(self, Self::Mutex { .. } | Self::Database { mutex: true, .. })
    }

    /// Whether it is in a database.
    pub fn is_in_database(&self) -> bool {
        matches!(self, Self::Database { .. })
    }

    /// The name as it is written; which kind of lock it is, says where it was found.
    pub fn read(text: &str, mutex: bool) -> Result<Self, String> {
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        match parts.as_slice() {
            [namespace, "Database", name] if !name.is_empty() => {
                Ok(Self::Database { namespace: (*namespace).to_owned(), name: (*name).to_owned(), mutex })
            }
            _ => text.parse(),
        }
    }
}

impl fmt::Display for LockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mutex { namespace, name } => write!(f, "{namespace}/Mutex/{name}"),
            Self::Semaphore { namespace, config_map, key } => write!(f, "{namespace}/ConfigMap/{config_map}/{key}"),
            Self::Database { namespace, name, .. } => write!(f, "{namespace}/Database/{name}"),
        }
    }
}

impl FromStr for LockName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("`{text}` is not a lock's name");
        let (namespace, rest) = text.split_once('/').ok_or_else(fault)?;
        let (kind, rest) = rest.split_once('/').ok_or_else(fault)?;
        let namespace = namespace.to_owned();
        match kind {
            "Mutex" if !rest.is_empty() => Ok(Self::Mutex { namespace, name: rest.to_owned() }),
            "ConfigMap" => {
                let (config_map, key) = rest.split_once('/').ok_or_else(fault)?;
                if config_map.is_empty() || key.is_empty() || key.contains('/') {
                    return Err(fault());
                }
                Ok(Self::Semaphore { namespace, config_map: config_map.to_owned(), key: key.to_owned() })
            }
            _ => Err(fault()),
        }
    }
}

/// What became of somebody's wish for locks.
#[derive(Clone, Debug, PartialEq)]
pub enum LockAnswer {
    /// All of them are held.
    Granted,
    /// None is held yet.
    Waiting {
        /// The first that is not to be had.
        lock: LockName,
        /// The same in words.
        message: String,
        /// Who holds each of the locks now.
        holders: Vec<(LockName, Vec<String>)>,
    },
    /// They cannot be had.
    Refused {
        /// Why.
        message: String,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for text in ["ns/Mutex/a", "ns/Mutex/a/b", "ns/ConfigMap/limits/key"] {
            assert_eq!(text.parse::<LockName>().map(|n| n.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "ns", "ns/Mutex", "ns/Mutex/", "ns/ConfigMap/a", "ns/ConfigMap/a/b/c", "ns/Database/a"] {
            assert!(text.parse::<LockName>().is_err(), "{text}");
        }
        for mutex in [true, false] {
            let name = LockName::read("ns/Database/a/b", mutex).unwrap();
            assert_eq!(
                (name.to_string().as_str(), name.is_mutex(), name.is_in_database()),
                ("ns/Database/a/b", mutex, true)
            );
            assert!(LockName::read("ns/Database/", mutex).is_err());
        }
        assert_eq!(LockName::read("ns/Mutex/a", true), "ns/Mutex/a".parse());
    }
}
