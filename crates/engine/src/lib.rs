//! What happens next inside one run: a state machine per node kind, without a clock or IO.
//!
//! One door: [`Run::load`] takes a workflow, [`Run::step`] takes what was observed and the time, and answers what to do;
//! [`Run::status`] and [`Run::take_patch`] give the status. A run is resident: work per observation is proportional to
//! what changed. Loading it again from its status decides the same.

mod door;
mod run;

pub use door::{Command, Config, Decision, Observation};
pub use run::Run;
