//! Abide: a daemon that hosts long-lived sessions and never loses one.

pub mod domain;
pub mod engine;
