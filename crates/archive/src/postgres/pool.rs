//! The few connections that there are: made when they are first needed, given back after a question that went well, and
//! forgotten after any other. A database that was just away is not asked again for a moment, so that nobody waits for it
//! once a step.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Client;

use super::connect::{self, CONNECT_TIMEOUT, Fault};
use super::{Login, Outside, PostgresOptions};
use crate::Error;

/// For so long a database that could not be reached is taken for away.
const AWAY: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked whether it still is one.
const TRUSTED: Duration = Duration::from_secs(1);
/// So long a question waits for a connection when all are in use.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A connection, and what is known of the database behind it.
pub(super) struct Connection {
    pub(super) client: Client,
    born: Instant,
    used: Instant,
    pub(super) knows_archive: bool,
    pub(super) knows_memory: bool,
    /// Whether the rows say when their workflow was created.
    pub(super) has_creation: bool,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    login: Option<Login>,
    away: Option<(Instant, String)>,
    looked_for: bool,
}

/// Somebody looks whether the database is back; the others do not wait for that.
struct Looking<'p>(&'p Pool);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.state().looked_for = false;
    }
}

pub(super) struct Pool {
    options: PostgresOptions,
    outside: Arc<dyn Outside>,
    permits: Semaphore,
    state: Mutex<State>,
}

impl Pool {
    pub(super) fn new(options: PostgresOptions, outside: Arc<dyn Outside>) -> Self {
        let permits = Semaphore::new(options.connections_max.max(1));
        Self { options, outside, permits, state: Mutex::default() }
    }

    pub(super) fn options(&self) -> &PostgresOptions {
        &self.options
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that works.
    pub(super) async fn take(&self) -> Result<Held<'_>, Error> {
        let busy = || Error::Postgres { why: "all connections to it are in use".to_owned(), transient: true };
        let permit = match tokio::time::timeout(WAIT_MAX, self.permits.acquire()).await {
            Ok(permit) => permit.map_err(|_| Error::Ended)?,
            Err(_) => return Err(busy()),
        };
        while let Some(connection) = self.idle() {
            let is_old = self.options.lifetime.is_some_and(|life| connection.born.elapsed() > life);
            if is_old || connection.client.is_closed() {
                continue;
            }
            if connection.used.elapsed() < TRUSTED || answers(&connection.client).await {
                return Ok(Held { pool: self, connection, _permit: permit });
            }
        }
        let client = self.connect().await?;
        let now = Instant::now();
        let connection =
            Connection { client, born: now, used: now, knows_archive: false, knows_memory: false, has_creation: false };
        Ok(Held { pool: self, connection, _permit: permit })
    }

    fn idle(&self) -> Option<Connection> {
        self.state().idle.pop()
    }

    async fn connect(&self) -> Result<Client, Error> {
        let _looking = self.look()?;
        let answer = self.log_in().await;
        self.state().away = match &answer {
            Err(Error::Postgres { why, .. }) => Some((Instant::now(), why.clone())),
            _ => None,
        };
        answer
    }

    /// Whether it is worth a try. Of a database that was away, one at a time finds out.
    fn look(&self) -> Result<Option<Looking<'_>>, Error> {
        let mut state = self.state();
        let Some((since, why)) = &state.away else { return Ok(None) };
        if state.looked_for || since.elapsed() < AWAY {
            return Err(Error::Postgres { why: why.clone(), transient: true });
        }
        state.looked_for = true;
        Ok(Some(Looking(self)))
    }

    async fn log_in(&self) -> Result<Client, Error> {
        let known = self.state().login.clone();
        let was_known = known.is_some();
        let login = match known {
            Some(login) => login,
            None => self.ask().await?,
        };
        match connect::connect(&self.options, &login, self.outside.as_ref()).await {
            Ok(client) => Ok(client),
            // It may have been changed since it was read.
            Err(Fault::Refused(_)) if was_known => {
                self.state().login = None;
                let login = self.ask().await?;
                connect::connect(&self.options, &login, self.outside.as_ref())
                    .await
                    .map_err(|fault| self.refused(fault))
            }
            Err(fault) => Err(self.refused(fault)),
        }
    }

    fn refused(&self, fault: Fault) -> Error {
        match fault {
            Fault::Refused(error) => {
                self.state().login = None;
                error
            }
            Fault::Other(error) => error,
        }
    }

    async fn ask(&self) -> Result<Login, Error> {
        let login = self.outside.login().await.map_err(|why| Error::Postgres { why, transient: true })?;
        self.state().login = Some(login.clone());
        Ok(login)
    }
}

async fn answers(client: &Client) -> bool {
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, client.check_connection()).await, Ok(Ok(())))
}

/// A connection in use. Dropped, it is closed: whoever asked to the end gives it back.
pub(super) struct Held<'p> {
    pool: &'p Pool,
    connection: Connection,
    _permit: SemaphorePermit<'p>,
}

impl Deref for Held<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Held<'_> {
    /// All that was asked is answered.
    pub(super) fn give_back(mut self) {
        self.connection.used = Instant::now();
        let Self { pool, connection, .. } = self;
        let mut state = pool.state();
        if state.idle.len() < pool.options.idle_max {
            state.idle.push(connection);
        }
    }
}
