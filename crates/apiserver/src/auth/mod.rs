//! Who asks, and may he? Authentication turns a bearer token into an [`Identity`], RBAC decides on [`Attributes`], the
//! reviews answer questions about both. Reads the store through [`Objects`] and nothing else; never writes.

pub mod attributes;
pub mod authn;
pub mod bootstrap;
pub mod escalation;
pub mod identity;
pub mod rbac;
pub mod review;
pub mod token;

pub use attributes::Attributes;
pub use authn::{Authenticator, Unauthorized};
pub use identity::Identity;
pub use rbac::{Decision, Rbac, Rule};
pub use token::{BoundObject, SigningKey, StaticToken};

use serde_json::Value;

/// What this room reads of the store.
pub trait Objects: Send + Sync {
    /// One object, by group, plural name, namespace (none for cluster-wide kinds) and name.
    fn get(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> Option<Value>;
    /// All objects of a resource, in all namespaces.
    fn list(&self, group: &str, resource: &str) -> Vec<Value>;
    /// A number that changes whenever an object of the resource does.
    fn version(&self, group: &str, resource: &str) -> u64;
}
