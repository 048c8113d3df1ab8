//! End-to-end tests of the built daemon and its plugins: real processes, real files, real HTTP.
//! `make test` builds what they need.

mod engine;
