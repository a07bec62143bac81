//! The file: one SQLite database in WAL mode with `synchronous=FULL`, holding current objects only. One row an object:
//! resource, key, version, bytes. Knows nothing of caches and callers.

use super::object::{Meta, Obj, digits};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use std::sync::Arc;

/// One change to write down.
pub(super) struct Row<'a> {
    pub(super) resource: &'a str,
    pub(super) obj: &'a Obj,
    pub(super) removed: bool,
    /// The object has no row yet.
    pub(super) new: bool,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said so.
    #[error("state database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// What is in the file is not what we wrote.
    #[error("state database: {0}")]
    Corrupt(String),
    /// A newer Windlass wrote the file.
    #[error("state database has format {found}, this program knows up to {known}: use the newer program")]
    TooNew {
        /// Format in the file.
        found: i64,
        /// Newest known format.
        known: i64,
    },
    /// The writer thread could not be started.
    #[error("cannot start the store's writer: {0}")]
    Thread(#[from] std::io::Error),
}

impl StoreError {
    /// Whether the disk (or a quota) is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

const FORMAT: i64 = 1;

/// Where committed objects go.
pub(super) enum Database {
    File(Box<Connection>),
    Memory,
}

/// What a file held when it was opened.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) rv: u64,
    pub(super) last_row: i64,
    pub(super) objects: Vec<(String, Obj)>,
}

impl Database {
    /// Opens (or makes) the file and reads everything in it, in the order in which it was first written. `selectable` tells
    /// the selectable fields of an object's resource.
    pub(super) fn open(
        path: &Path,
        max_pages: Option<u32>,
        mut selectable: impl FnMut(&str, &[u8]) -> Arc<[String]>,
    ) -> Result<(Self, Loaded), StoreError> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(std::time::Duration::from_secs(5))?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        conn.pragma_update(None, "synchronous", "FULL")?;
        let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found > FORMAT {
            return Err(StoreError::TooNew { found, known: FORMAT });
        }
        conn.execute_batch(
            "CREATE TABLE IF NOT EXISTS objects (
               id INTEGER PRIMARY KEY, resource TEXT NOT NULL, key TEXT NOT NULL,
               rv INTEGER NOT NULL, rv_at INTEGER NOT NULL, bytes BLOB NOT NULL);
             CREATE TABLE IF NOT EXISTS version (one INTEGER PRIMARY KEY CHECK (one = 1), rv INTEGER NOT NULL);
             PRAGMA user_version = 1;",
        )?;
        if let Some(pages) = max_pages {
            let _: i64 = conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?;
        }
        let mut loaded = Loaded::default();
        let rv: Option<i64> = conn.query_row("SELECT rv FROM version", [], |row| row.get(0)).optional()?;
        loaded.rv = u64::try_from(rv.unwrap_or(0)).unwrap_or(0);
        {
            let mut all = conn.prepare("SELECT id, resource, key, rv, rv_at, bytes FROM objects ORDER BY id")?;
            let mut rows = all.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, resource, key): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let (rv, at): (i64, i64) = (row.get(3)?, row.get(4)?);
                let bytes: Vec<u8> = row.get(5)?;
                let selectable = selectable(&resource, &bytes);
                found.push(Found { id, resource, key, rv, at, bytes, selectable });
            }
            loaded.objects = read_all(found)?;
            for (_, obj) in &loaded.objects {
                loaded.rv = loaded.rv.max(obj.rv);
                loaded.last_row = loaded.last_row.max(obj.row);
            }
        }
        Ok((Self::File(Box::new(conn)), loaded))
    }

    /// Writes all rows down in one transaction, or none of them.
    pub(super) fn commit(&mut self, rows: &[Row<'_>], rv: u64) -> Result<(), StoreError> {
        let Self::File(conn) = self else { return Ok(()) };
        // Dropping an unfinished transaction rolls it back, so nothing is ever half-written.
        let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert = tx.prepare_cached(
                "INSERT INTO objects (id, resource, key, rv, rv_at, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            let mut update = tx.prepare_cached("UPDATE objects SET rv = ?2, rv_at = ?3, bytes = ?4 WHERE id = ?1")?;
            let mut delete = tx.prepare_cached("DELETE FROM objects WHERE id = ?1")?;
            for row in rows {
                let obj = row.obj;
                let (number, at) = (signed(obj.rv), signed(obj.at as u64));
                let touched = if row.removed {
                    delete.execute([obj.row])?
                } else if row.new {
                    insert.execute(params![obj.row, row.resource, obj.meta.key(), number, at, &obj.bytes[..]])?
                } else {
                    update.execute(params![obj.row, number, at, &obj.bytes[..]])?
                };
                if touched != 1 {
                    return Err(StoreError::Corrupt(format!(
                        "{} {}: its row is missing",
                        row.resource,
                        obj.meta.key()
                    )));
                }
            }
            let mut version = tx.prepare_cached("INSERT OR REPLACE INTO version (one, rv) VALUES (1, ?1)")?;
            version.execute([signed(rv)])?;
        }
        tx.commit()?;
        Ok(())
    }
}

/// A row as it was found.
struct Found {
    id: i64,
    resource: String,
    key: String,
    rv: i64,
    at: i64,
    bytes: Vec<u8>,
    selectable: Arc<[String]>,
}

impl Found {
    fn read(self) -> Result<(String, Obj), StoreError> {
        let bad = |what: &str| StoreError::Corrupt(format!("{} {}: {what}", self.resource, self.key));
        let rv = u64::try_from(self.rv).map_err(|_| bad("negative version"))?;
        let at = usize::try_from(self.at).map_err(|_| bad("negative offset"))?;
        if self.bytes.get(at..at + digits(rv)) != Some(rv.to_string().as_bytes()) {
            return Err(bad("its version is not where it should be"));
        }
        let meta = Meta::read(&self.bytes, &self.selectable).map_err(|e| bad(&e.to_string()))?;
        if meta.key() != self.key {
            return Err(bad("its key is not its name"));
        }
        let obj = Obj { meta: Arc::new(meta), bytes: Bytes::from(self.bytes), at, rv, row: self.id };
        Ok((self.resource, obj))
    }
}

/// So many rows are worth a thread.
const ROWS_A_THREAD_MIN: usize = 256;

/// Reads the facts of all rows, in their order, on all cores: nothing else happens before the store is open.
fn read_all(found: Vec<Found>) -> Result<Vec<(String, Obj)>, StoreError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = found.len().div_ceil(cores).max(ROWS_A_THREAD_MIN);
    if found.len() <= share {
        return found.into_iter().map(Found::read).collect();
    }
    let mut rest = found.into_iter();
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        while rest.len() > 0 {
            let part: Vec<Found> = rest.by_ref().take(share).collect();
            readers.push(scope.spawn(move || part.into_iter().map(Found::read).collect::<Result<Vec<_>, _>>()));
        }
        let mut all = Vec::new();
        for reader in readers {
            all.extend(reader.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault))?);
        }
        Ok(all)
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("invariant: versions and offsets stay below 2^63")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(number: usize, text: &str) -> Found {
        let bytes = format!("{{\"metadata\":{{\"name\":\"{text}\",\"resourceVersion\":\"7\"}}}}").into_bytes();
        let at = i64::try_from(bytes.len() - 4).unwrap();
        let (resource, key) = ("pods".to_owned(), format!("/o{number}"));
        Found { id: i64::try_from(number).unwrap(), resource, key, rv: 7, at, bytes, selectable: Arc::default() }
    }

    #[test]
    fn many_rows_come_back_in_their_order_and_one_bad_one_is_told() {
        let rows = || (0..3 * ROWS_A_THREAD_MIN + 5).map(|n| found(n, &format!("o{n}")));
        let all = read_all(rows().collect()).unwrap();
        assert_eq!(all.len(), rows().count());
        assert!(all.iter().enumerate().all(|(n, (_, obj))| *obj.meta.name == *format!("o{n}") && obj.rv == 7));
        let mut wrong: Vec<Found> = rows().collect();
        wrong[700] = found(700, "other");
        let error = read_all(wrong).unwrap_err().to_string();
        assert_eq!(error, "state database: pods /o700: its key is not its name");
    }
}
