//! What other programs call: webhooks, events, health, and what outlives objects. It only has a `kube::Client`; it must
//! never know whether the API behind it is embedded, and never evaluate what arrives: expressions come from bindings,
//! events are what they look at.

pub mod answer;
pub mod archived;
mod caller;
pub mod event;
pub mod health;
pub mod listen;
pub mod metrics;
pub mod remembered;
mod sender;
pub mod signature;
pub mod sync;
pub mod webhook;

pub use event::{EventOptions, Events};
pub use listen::serve;
pub use signature::Secrets;
pub use webhook::{Webhook, WebhookOptions};

/// Everything this server answers.
pub fn router(webhook: Webhook) -> axum::Router {
    webhook.routes().merge(health::routes()).fallback(answer::no_such_path)
}
