//! The embedded Kubernetes API: store, watch, patches, authentication and authorization.
