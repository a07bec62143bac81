//! The schemas of what is served: as OpenAPI v3 documents for clients, and as shapes against which built-in objects are
//! checked (unknown fields, wrong types) and merged. The schemas are committed files; a custom kind brings its own.

mod document;
mod duplicates;
mod shapes;

pub use document::{index, of_group_version};
pub use duplicates::duplicate_fields;
pub use shapes::{Finding, PatchRule, check, merge_key, patch_rule, prune};
