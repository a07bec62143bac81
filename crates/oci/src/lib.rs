//! Images: references, local store, layers packed and unpacked, registry client and the built-in registry.
