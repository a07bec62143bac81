//! The embedded Kubernetes API: store, watch, patches, authentication and authorization.
//!
//! [`ApiServer`] is a `tower::Service`: the same value goes into `kube::Client` (see [`ApiServer::client`]) and behind a
//! listener. A request walks `rest` (path and verb) → [`hooks`] (who may, what does the body mean) → `store` (one writer
//! thread, SQLite, caches and watch rings) and back. Knows nothing of workflows, nodes or images.

pub mod answer;
pub mod auth;
mod hooks;
pub mod kinds;
pub mod kubelet;
mod server;
pub mod kubeconfig;
pub mod defaults;
pub mod discovery;
pub mod listener;
mod names;
pub mod openapi;
pub mod proto;
pub mod table;
pub mod tls;

pub use answer::{ApiError, Body, FieldError};
pub use auth::Identity;
pub use kinds::{PrinterColumn, Registry, Resource};
pub use kubelet::{Kubelet, LogOptions, LogStream};
pub use server::{ApiServer, OpenError, Options, Where};
