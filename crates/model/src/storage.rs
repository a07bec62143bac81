//! The words that the two sides of local storage share: who makes volumes for claims, and who keeps their data.

/// The class of claims that name none.
pub const CLASS: &str = "local";
/// The provisioner of that class, and the driver of its volumes: directories of the node's home.
pub const DRIVER: &str = "local.windlass.dev";
/// Keeps such a volume until its data has been dealt with.
pub const FINALIZER: &str = "local.windlass.dev/data";
/// Marks the class that claims without one get.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
