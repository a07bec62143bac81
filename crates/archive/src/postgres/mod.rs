//! The archive in a PostgreSQL database, in Argo's own tables: who moves from Argo keeps what is archived, and Argo reads what is
//! written here. Beside them one table of ours for what is remembered. The database is somebody else's machine: nothing here
//! may take it for granted, wait for it without end, or tell its password.

mod archive;
mod connect;
mod memory;
mod nul;
mod pool;
mod query;
mod schema;
mod tls;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use tls::TlsMode;

use crate::Error;
use pool::{Held, Pool};

/// A password. It has no form in which it could be printed.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// This one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Who the database is told that we are.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: Password,
}

/// What whoever has the archive knows and it does not.
#[async_trait::async_trait]
pub trait Outside: Send + Sync {
    /// The login of now, or what to do so that there is one. It is asked for before the first connection, and again when one is
    /// refused.
    async fn login(&self) -> Result<Login, String>;
    /// The addresses of a host's name. The binary is static, so that NSS cannot be asked.
    async fn addresses(&self, host: &str, within: Duration) -> io::Result<Vec<IpAddr>>;
}

/// Which database it is, and what of it is ours.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Its host: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// Whether the connection is encrypted, and how sure we are of who answers.
    pub tls: TlsMode,
    /// Whose rows are ours, of several clusters in one database.
    pub cluster: String,
    /// The same of several controllers in one cluster; empty where there is one.
    pub instance: String,
    /// The same of a controller of one namespace.
    pub namespace: Option<String>,
    /// Tables that are not there are made.
    pub makes_tables: bool,
    /// The name of Argo's table of offloaded nodes. It is made with the others for Argo's sake, and never used.
    pub offload_table: String,
    /// So many connections at a time.
    pub connections_max: usize,
    /// So many of them are kept when nobody needs them.
    pub idle_max: usize,
    /// A connection is not used for longer.
    pub lifetime: Option<Duration>,
}

/// An archive in a database. A clone is the same archive.
#[derive(Clone)]
pub struct PostgresArchive {
    pool: Arc<Pool>,
}

impl std::fmt::Debug for PostgresArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PostgresArchive").field(self.pool.options()).finish()
    }
}

impl PostgresArchive {
    /// The archive in this database, which is asked when something is first asked of it.
    pub fn new(options: PostgresOptions, outside: Arc<dyn Outside>) -> Self {
        Self { pool: Arc::new(Pool::new(options, outside)) }
    }

    /// Whether it answers, and has its tables. Nothing depends on having asked.
    pub async fn check(&self) -> Result<(), Error> {
        self.held().await?.give_back();
        Ok(())
    }

    /// A connection to a database with the archive's tables.
    async fn held(&self) -> Result<Held<'_>, Error> {
        let mut held = self.pool.take().await?;
        if !held.knows_archive {
            schema::archive(&mut held, self.pool.options()).await?;
            held.knows_archive = true;
        }
        Ok(held)
    }

    /// The same with the table of what is remembered.
    async fn held_memory(&self) -> Result<Held<'_>, Error> {
        let mut held = self.pool.take().await?;
        if !held.knows_memory {
            schema::memory(&mut held, self.pool.options()).await?;
            held.knows_memory = true;
        }
        Ok(held)
    }
}
