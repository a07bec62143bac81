//! Bytes in and out of a step: git, archives, the local object store.
