//! The node agent: Pods on this machine.
