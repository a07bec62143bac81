//! One process in namespaces over a root filesystem: the container runner.
