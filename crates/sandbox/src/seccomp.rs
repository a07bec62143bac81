//! System call filters, compiled once to a balanced tree of number ranges.

/// Which filter a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SeccompProfile {
    /// The allow list that container engines use by default.
    #[default]
    Default,
    /// None.
    Unconfined,
}
