//! How large a workflow is in the API, and in which form its node table fits. Pure: no request is made here.

use serde_json::Value;
use windlass_engine::Run;
use windlass_model::paged::{Book, Written};
use windlass_model::table::{self, BYTES_MAX, Form, OBJECT_BYTES_MAX};
use windlass_model::{NodeStatus, packed};

/// The bytes of a workflow as JSON, and the form of its node table: it is packed from when it was too large on, and on pages
/// from when it was too large for that.
#[derive(Default)]
pub(super) struct Size {
    /// Everything but the status.
    base: usize,
    /// No more than this is the status, as long as it is plain: what was written more than once is counted as often.
    status: usize,
    form: Form,
    book: Book,
}

impl Size {
    /// Of a workflow as the API has it.
    pub(super) fn of(workflow: &Value) -> Self {
        let status = table::bytes(&workflow["status"]);
        let version = table::version(&workflow["status"]);
        Self {
            base: table::bytes(workflow).saturating_sub(status),
            status,
            form: Form::of(workflow),
            book: version.map(Book::after).unwrap_or_default(),
        }
    }

    /// Brings a change of a run's status into a form that fits: on pages where `offload` says so, whatever its size. What is
    /// answered is written first; new pages' names are made of `stamp`. The error is for people: it never will fit.
    pub(super) fn fit(&mut self, run: &Run, change: &mut Value, offload: bool, stamp: &str) -> Result<Written, String> {
        self.status += table::bytes(&change["status"]);
        let small = self.form == Form::Plain && self.base + self.status <= BYTES_MAX;
        let Some(nodes) = change["status"]["nodes"].as_object() else { return Ok(Written::default()) };
        if offload {
            self.form = Form::Paged;
        } else if small {
            return Ok(Written::default());
        }
        let changed: Vec<String> = nodes.keys().cloned().collect();
        if self.form == Form::Plain {
            self.status = table::bytes(&run.status());
            if self.base + self.status <= BYTES_MAX {
                return Ok(Written::default());
            }
            self.form = Form::Packed;
        }
        let rest = self.base + table::bytes(run.head());
        if self.form == Form::Packed {
            let table = packed::pack(&Rows(run));
            if table.len() + rest <= OBJECT_BYTES_MAX {
                change["status"]["compressedNodes"] = table.into();
                change["status"]["nodes"] = Value::Null;
                return Ok(Written::default());
            }
            self.form = Form::Paged;
        }
        let written = if self.book.is_empty() {
            self.book.write(run.node_statuses().map(|row| row.id.as_str()), |id| run.node_status(id), stamp)?
        } else {
            self.book.write(changed.iter().map(String::as_str), |id| run.node_status(id), stamp)?
        };
        let version = self.book.version();
        if rest + version.len() > OBJECT_BYTES_MAX {
            return Err(format!(
                "the workflow is too large to be kept: {} bytes without its node table, at most {OBJECT_BYTES_MAX}; give \
                 less out as global outputs (files go as artifacts), or split the workflow",
                rest + version.len()
            ));
        }
        table::name_pages(change, version);
        Ok(written)
    }
}

/// A run's node table as the API has it.
struct Rows<'a>(&'a Run);

impl serde::Serialize for Rows<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let rows: std::collections::BTreeMap<&str, &NodeStatus> =
            self.0.node_statuses().map(|row| (row.id.as_str(), row)).collect();
        rows.serialize(to)
    }
}
