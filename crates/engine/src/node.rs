//! The machines: one file for each kind of node, with its transitions at the top.

pub(crate) mod admission;
pub(crate) mod dag;
pub(crate) mod group;
pub(crate) mod hook;
pub(crate) mod pod;
pub(crate) mod retry;
pub(crate) mod steps;
pub(crate) mod suspend;
