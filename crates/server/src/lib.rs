//! What other programs call: webhooks and health.
