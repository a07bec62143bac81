//! How large a workflow is in the API, and in which form its node table fits. Pure: no request is made here.

use serde_json::Value;
use windlass_engine::Run;
use windlass_model::packed;

/// The bytes of a workflow as JSON, and whether its node table is packed: it is from when it was too large on.
#[derive(Default)]
pub(super) struct Size {
    /// Everything but the status.
    base: usize,
    /// No more than this is the status, as long as it is not packed: what was written more than once is counted as often.
    status: usize,
    packed: bool,
}

impl Size {
    /// Of a workflow as the API has it.
    pub(super) fn of(workflow: &Value) -> Self {
        let status = packed::bytes(&workflow["status"]);
        let packed = workflow["status"]["compressedNodes"].is_string();
        Self { base: packed::bytes(workflow).saturating_sub(status), status, packed }
    }

    /// Brings a change of a run's status into a form that fits. The error is for people: it never will.
    pub(super) fn fit(&mut self, run: &Run, change: &mut Value) -> Result<(), String> {
        self.status += packed::bytes(&change["status"]);
        let small = !self.packed && self.base + self.status <= packed::BYTES_MAX;
        if small || !change["status"]["nodes"].is_object() {
            return Ok(());
        }
        let mut status = run.status();
        self.status = packed::bytes(&status);
        self.packed |= self.base + self.status > packed::BYTES_MAX;
        if !self.packed {
            return Ok(());
        }
        let table = packed::pack(&std::mem::take(&mut status.nodes));
        let rest = self.base + packed::bytes(&status);
        let (bytes, most) = (table.len(), packed::OBJECT_BYTES_MAX);
        if bytes + rest > most {
            return Err(format!(
                "the node table is too large to be kept: {bytes} bytes packed and {rest} of everything else, at most \
                 {most} together; give less out as parameters and results (files go as artifacts), or split the workflow"
            ));
        }
        change["status"]["compressedNodes"] = table.into();
        change["status"]["nodes"] = Value::Null;
        Ok(())
    }
}
