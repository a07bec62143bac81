//! The loops: observe, ask a pure crate, act, write status once.
