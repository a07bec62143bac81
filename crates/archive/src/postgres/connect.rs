//! One connection to the database: its address, TCP, TLS, login. It has a time in
//! which it must be done, and says of each fault what to do next. It must never tell a password.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_postgres::Client;
use tokio_postgres::error::{DbError, SqlState};

use super::tls::Tls;
use super::{Login, Outside, PostgresOptions};
use crate::Error;

/// All of it together may take so long.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One question may take so long; a large workflow over a slow line is the longest of them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no connection.
pub(super) enum Fault {
    /// It is not our login any more.
    Refused(Error),
    Other(Error),
}

/// Connects and logs in.
pub(super) async fn connect(options: &PostgresOptions, login: &Login, outside: &dyn Outside) -> Result<Client, Fault> {
    let other = |why: String| Fault::Other(Error::Postgres { why, transient: true });
    let place = format!("{}:{}", options.host, options.port);
    let connecting = async {
        let stream = dial(options, outside).await;
        let stream = stream.map_err(|e| other(format!("{place} cannot be reached: {e}")))?;
        // Small questions do not wait for more of them.
        let _ = stream.set_nodelay(true);
        let mut config = tokio_postgres::Config::new();
        config
            .user(&login.user)
            .password(&login.password.0)
            .dbname(&options.database)
            .application_name("windlass")
            .ssl_mode(options.tls.wire());
        // Without TLS it is never asked for; one way through here is one way in the binary.
        let tls = Tls::new(options.tls, &options.host).map_err(other)?;
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|e| fault(&place, &e))?;
        tokio::spawn(async move {
            // Why it ended is told by the question that was under way.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the archive's database ended");
            }
        });
        Ok(client)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(answer) => answer,
        Err(_) => Err(other(format!("{place} did not answer in {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

async fn dial(options: &PostgresOptions, outside: &dyn Outside) -> io::Result<TcpStream> {
    let addresses = match options.host.parse() {
        Ok(address) => vec![address],
        Err(_) => outside.addresses(&options.host, CONNECT_TIMEOUT).await?,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(address, options.port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn fault(place: &str, error: &tokio_postgres::Error) -> Fault {
    let told = |why: String| Error::Postgres { why: format!("{place}: {why}"), transient: true };
    match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            let why = error.as_db_error().map_or("the login is refused", DbError::message);
            Fault::Refused(told(format!("{why}: see userNameSecret and passwordSecret of persistence.postgresql")))
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            let why = error.as_db_error().map(DbError::message).unwrap_or_default();
            Fault::Other(told(format!("{why}: make it, `CREATE DATABASE …`, or name another one")))
        }
        _ => Fault::Other(told(words(error))),
    }
}

/// The whole of an error; the driver's own text leaves out why.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", db.message());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

/// Waits for an answer, not for ever.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Error> {
    for_at_most(ANSWER_TIMEOUT, asked).await
}

/// The same for what a step waits for.
pub(super) async fn soon<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Error> {
    for_at_most(CONNECT_TIMEOUT, asked).await
}

async fn for_at_most<T>(
    time: Duration,
    asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(time, asked).await {
        Ok(answer) => answer.map_err(|e| told(&e)),
        Err(_) => {
            let why = format!("it did not answer in {} s", time.as_secs());
            Err(Error::Postgres { why, transient: true })
        }
    }
}

/// What a question's fault means. What the data are at fault for does not go away: they do not fit, or are none.
fn told(error: &tokio_postgres::Error) -> Error {
    let class = error.code().map(|code| code.code().get(..2).unwrap_or_default().to_owned()).unwrap_or_default();
    let why = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            format!("{}: grant it to the user of userNameSecret", words(error))
        }
        Some(&SqlState::INVALID_DATETIME_FORMAT | &SqlState::DATETIME_FIELD_OVERFLOW) => {
            return Error::Question(format!("{}: write a time as 2026-11-21T12:00:00Z", words(error)));
        }
        _ => words(error),
    };
    Error::Postgres { why, transient: !matches!(class.as_str(), "22" | "23" | "54") }
}
