//! A run without containers: the pure engine, a virtual clock, and pods that end as a case file says. Holds the case
//! file ([`case`]), the world in which it is played ([`world`]), and what came of it against what was expected
//! ([`rehearse`]). Must never know a clock, a file, a network or a cluster: a whole pipeline takes milliseconds here.

mod around;
pub mod case;
mod expect;
mod fields;
mod keys;
mod needed;
mod pod;
mod subject;
mod verdict;
pub mod world;

pub use case::{Case, read};
pub use subject::Subject;
pub use verdict::{Outcome, check_shared, rehearse};
