//! The part of a step that brings inputs in and outputs out.
