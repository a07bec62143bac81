//! An artifact whose text stands in the workflow itself. It can only be read.

use std::io::Cursor;

use super::{Content, Driver, Payload, Saved, StoreError};
use crate::cancel::Cancel;

/// Argo's `raw` driver.
#[derive(Clone, Debug)]
pub struct RawDriver {
    data: String,
}

impl RawDriver {
    /// The text to hand out.
    pub fn new(data: impl Into<String>) -> Self {
        Self { data: data.into() }
    }
}

impl Driver for RawDriver {
    fn load(&self, _cancel: &Cancel) -> Result<Content, StoreError> {
        Ok(Content::File(Box::new(Cursor::new(self.data.clone().into_bytes()))))
    }

    fn save(&self, _payload: Payload<'_>, _cancel: &Cancel) -> Result<Saved, StoreError> {
        Err(StoreError::Unsupported("raw artifacts cannot be outputs".to_owned()))
    }

    fn delete(&self, _cancel: &Cancel) -> Result<(), StoreError> {
        Err(StoreError::Unsupported("raw artifacts cannot be deleted".to_owned()))
    }

    fn exists(&self, _cancel: &Cancel) -> Result<bool, StoreError> {
        Ok(true)
    }
}
