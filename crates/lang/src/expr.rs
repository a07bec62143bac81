//! Argo's expressions: Go's expr-lang dialect.

pub(crate) mod number;
