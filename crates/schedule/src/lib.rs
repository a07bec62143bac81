//! What should run at all: events of a forge or of anybody become submissions, and so do the ticks of a schedule; locks are
//! given out, and so is the Lease of who runs the loops.
//!
//! Pure: no clock, no environment, no files, no network, no Kubernetes client. `server` hands in what arrived, `control`
//! hands in the manifest; both act on what is answered here. Duplicates are decided here and nowhere else, by names that
//! follow from the delivery.

pub mod binding;
pub mod bitbucket;
pub mod cron;
pub mod forge;
pub mod github;
pub mod hook;
pub mod lease;
pub mod locks;
pub mod names;
pub mod payload;
pub mod retention;
pub mod settings;
pub mod throttle;
pub mod trigger;
