//! The embedded Kubernetes API: store, watch, patches, authentication and authorization.
//!
//! [`ApiServer`] is a `tower::Service`: the same value goes into `kube::Client` (see [`ApiServer::client`]) and behind a
//! listener. A request walks `rest` (path and verb) → `hooks` (who may, what does the body mean) → `store` (one writer
//! thread, SQLite, caches and watch rings) and back. Knows nothing of workflows, nodes or images.

mod annex;
pub mod answer;
pub mod auth;
mod background;
mod bootstrap;
mod convert;
mod crd;
pub mod defaults;
pub mod discovery;
mod edge;
mod gc;
mod hooks;
mod key;
pub mod kinds;
pub mod kubeconfig;
pub mod kubelet;
pub mod listener;
mod names;
mod namespace;
pub mod openapi;
mod patch;
pub mod proto;
mod rest;
mod schema;
mod selector;
mod server;
mod service;
mod store;
mod streams;
pub mod table;
pub mod tls;
mod watch;

pub use annex::Annex;
pub use answer::{ApiError, Body, FieldError};
pub use auth::Identity;
pub use kinds::{PrinterColumn, Registry, Resource};
pub use kubelet::{Kubelet, LogOptions, LogStream};
pub use server::{ApiServer, OpenError, Options, Where};
pub use store::StoreError;
pub use streams::{Duplex, End, Ports, Resize, Session, StreamError, Wanted};
