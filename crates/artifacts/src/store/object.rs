//! What the stores of clouds have in common: objects by key, and directories as objects beneath a prefix. A cloud is a
//! [`Bucket`]; everything else of a driver is here. It must never know which cloud it is.

use std::io::Read;
use std::sync::Arc;

use super::spool::Spool;
use super::{Content, Driver, Payload, Saved, StoreError, tree};
use crate::cancel::Cancel;

/// A bucket of some cloud.
pub(super) trait Bucket: Send + Sync + 'static {
    /// Opens an object; [`StoreError::NotFound`] where there is none.
    fn get(&self, key: &str, cancel: &Cancel) -> Result<reqwest::blocking::Response, StoreError>;
    /// Stores an object.
    fn put(&self, key: &str, body: &Spool, cancel: &Cancel) -> Result<(), StoreError>;
    /// Removes an object; [`StoreError::NotFound`] where there is none.
    fn delete(&self, key: &str, cancel: &Cancel) -> Result<(), StoreError>;
    /// Keys that begin so, at least so many if there are as many.
    fn keys(&self, prefix: &str, enough: usize, cancel: &Cancel) -> Result<Vec<String>, StoreError>;
    /// Makes what has to be there before something is stored.
    fn prepare(&self, _cancel: &Cancel) -> Result<(), StoreError> {
        Ok(())
    }
}

/// One key in a bucket.
pub struct ObjectDriver {
    bucket: Arc<dyn Bucket>,
    key: String,
    shown: String,
}

impl ObjectDriver {
    pub(super) fn new(bucket: impl Bucket, key: &str, shown: String) -> Result<Self, StoreError> {
        super::s3::check_key(key).map_err(|reason| StoreError::BadKey { key: shown.clone(), reason })?;
        Ok(Self { bucket: Arc::new(bucket), key: key.to_owned(), shown })
    }

    fn prefix(&self) -> String {
        format!("{}/", self.key.trim_end_matches('/'))
    }

    fn put(&self, key: &str, reader: &mut dyn Read, cancel: &Cancel) -> Result<u64, StoreError> {
        let spool = Spool::of(reader, &self.shown, cancel)?;
        self.bucket.put(key, &spool, cancel)?;
        Ok(spool.bytes)
    }
}

/// The keys beneath `key`, sorted; all of them where it is empty.
pub(super) fn list(bucket: &dyn Bucket, key: &str, cancel: &Cancel) -> Result<Vec<String>, StoreError> {
    let prefix = match key.trim_matches('/') {
        "" => String::new(),
        _ => format!("{}/", key.trim_end_matches('/')),
    };
    let mut keys = bucket.keys(&prefix, usize::MAX, cancel)?;
    keys.sort();
    Ok(keys)
}

impl Driver for ObjectDriver {
    fn load(&self, cancel: &Cancel) -> Result<Content, StoreError> {
        if !self.key.ends_with('/') {
            match self.bucket.get(&self.key, cancel) {
                Ok(answer) => return Ok(Content::File(Box::new(answer))),
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let keys = self.bucket.keys(&self.prefix(), usize::MAX, cancel)?;
        if keys.is_empty() {
            return Err(StoreError::NotFound(self.shown.clone()));
        }
        let (bucket, cancel) = (self.bucket.clone(), cancel.clone());
        let reader = tree::load(self.prefix(), keys, move |key| bucket.get(key, &cancel));
        let reader = reader.map_err(|source| StoreError::Io { key: self.shown.clone(), source })?;
        Ok(Content::Tree(Box::new(reader)))
    }

    fn save(&self, payload: Payload<'_>, cancel: &Cancel) -> Result<Saved, StoreError> {
        self.bucket.prepare(cancel)?;
        let bytes = match payload {
            Payload::File(reader) => self.put(&self.key, reader, cancel)?,
            Payload::Tree(tar) => {
                tree::save(tar, &self.prefix(), &self.shown, &mut |key, reader| self.put(key, reader, cancel))?
            }
        };
        Ok(Saved { bytes, digest: None })
    }

    fn delete(&self, cancel: &Cancel) -> Result<(), StoreError> {
        let mut keys = self.bucket.keys(&self.prefix(), usize::MAX, cancel)?;
        if !self.key.ends_with('/') {
            keys.push(self.key.clone());
        }
        for key in keys {
            match self.bucket.delete(&key, cancel) {
                Ok(()) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn exists(&self, cancel: &Cancel) -> Result<bool, StoreError> {
        let there = self.bucket.keys(&self.key, 1, cancel)?;
        let prefix = self.prefix();
        if there.iter().any(|key| *key == self.key || key.starts_with(&prefix)) {
            return Ok(true);
        }
        // Longer keys that begin alike may have come first.
        Ok(!there.is_empty() && !self.bucket.keys(&prefix, 1, cancel)?.is_empty())
    }
}
