//! The house rules that a compiler does not check; they are the tests of this crate, which holds nothing else.
