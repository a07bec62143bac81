//! The user's text: YAML with spans, diagnostics, `{{tags}}`, and the small languages inside them.
//!
//! Everything here is pure: text in, values and [`Diagnostic`]s out. No clock, no files, no network, and no knowledge
//! of what a Workflow is. Nothing here may panic on any input.

pub mod depends;
pub mod diagnostic;
pub mod edit;
pub mod expr;
pub mod go_json;
pub mod jq;
pub mod render;
pub mod source;
pub mod suggest;
pub mod tags;
pub mod when;
pub mod yaml;

pub use diagnostic::{Diagnostic, Fix, Label, Severity};
pub use render::{render, to_json};
pub use source::{Fault, Position, Source, SourceId, Sources, Span};
