//! What outlives objects: finished runs, kept after their Workflow was deleted, outputs that are remembered,
//! and the sizes of locks in a database.
//!
//! [`Archive`], [`Memory`] and [`Limits`] are the ports: who has one need not know where it keeps things. [`SqliteArchive`] keeps all
//! of it in one file, [`PostgresArchive`] the first two in a database that Argo may share. It
//! reads of a Workflow what it is found by; it must never know an engine, a cluster, or what a node is.

mod limits;
mod memory;
mod postgres;
mod record;
mod selector;
mod sqlite;

use std::collections::BTreeMap;

pub use limits::Limits;
pub use memory::{Memory, Remembered};
pub use postgres::{Login, Outside, Password, PostgresArchive, PostgresOptions, TlsMode};
pub use selector::Selector;
pub use sqlite::SqliteArchive;

/// Why the archive did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database could not be read or written: worth another try.
    #[error("archive database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database elsewhere did not do it: why, and what to do about it.
    #[error("archive database: {why}")]
    Postgres {
        /// In words; it names no password.
        why: String,
        /// Whether it may go well later.
        transient: bool,
    },
    /// A newer Windlass wrote the file: waiting does not help.
    #[error("archive database has format {found}, this program knows up to {known}: use the newer program")]
    TooNew {
        /// Format in the file.
        found: i64,
        /// Newest known format.
        known: i64,
    },
    /// This is not a workflow that can be kept: give up.
    #[error("not a workflow that can be kept: {0}")]
    Unreadable(String),
    /// The question was wrong.
    #[error("{0}")]
    Question(String),
    /// The process ends.
    #[error("the archive's thread ended")]
    Ended,
}

impl Error {
    /// Whether the same may go well later: not when the workflow is larger than any row may be, say.
    pub fn is_transient(&self) -> bool {
        use rusqlite::ErrorCode::{ConstraintViolation, TooBig};
        match self {
            Self::Database(e) => !matches!(e.sqlite_error_code(), Some(TooBig | ConstraintViolation)),
            Self::Postgres { transient, .. } => *transient,
            Self::TooNew { .. } => true,
            Self::Unreadable(_) | Self::Question(_) | Self::Ended => false,
        }
    }
}

/// Which names are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Name {
    /// Any.
    #[default]
    Any,
    /// This one; several runs may have had it.
    Exact(String),
    /// With this beginning.
    Prefix(String),
    /// With this in it.
    Contains(String),
}

/// What is asked of a list.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only with such names.
    pub name: Name,
    /// Only with such labels.
    pub labels: Selector,
    /// Only those that began after this time (`2026-11-21T12:00:00Z`).
    pub started_after: Option<String>,
    /// Only those that began before it.
    pub started_before: Option<String>,
    /// So many at most; all of them when it is not said.
    pub limit: Option<u64>,
    /// After passing over so many.
    pub offset: u64,
}

/// A part of a list, the newest run first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Workflows as JSON, with what a list shows of them: no templates, no nodes.
    pub items: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// Finished runs, found by their uid.
#[async_trait::async_trait]
pub trait Archive: Send + Sync + std::fmt::Debug {
    /// Keeps workflows (as JSON), all or none of them, durably when this returns. One of a uid that is there already takes
    /// its place.
    async fn keep(&self, workflows: Vec<String>) -> Result<(), Error>;
    /// What is there, without reading the workflows themselves.
    async fn list(&self, wanted: Wanted) -> Result<Page, Error>;
    /// How many there are, whatever `limit` and `offset` say.
    async fn count(&self, wanted: Wanted) -> Result<u64, Error>;
    /// The whole workflow, as JSON.
    async fn get(&self, uid: String) -> Result<Option<String>, Error>;
    /// Takes one out; false when it was not there.
    async fn remove(&self, uid: String) -> Result<bool, Error>;
    /// Takes out all that ended before this time; how many that were.
    async fn expire(&self, finished_before: String) -> Result<usize, Error>;
    /// The keys of all labels, of one namespace or of all.
    async fn label_keys(&self, namespace: Option<String>) -> Result<Vec<String>, Error>;
    /// The values that a label has.
    async fn label_values(&self, namespace: Option<String>, key: String) -> Result<Vec<String>, Error>;
}

/// Labels as they are read.
pub(crate) type Labels = BTreeMap<String, String>;
