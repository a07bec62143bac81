//! The archive as those who have one see it: the same cases over the file of one machine and over a real PostgreSQL, and what
//! only a database can do to us. Where there is no PostgreSQL, its cases say so with `NOT RUN:`, never in silence.
#![allow(clippy::unwrap_used, missing_docs)]

mod argo;
mod both;
mod database;
mod faults;
