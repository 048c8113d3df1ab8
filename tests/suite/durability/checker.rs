//! The checker of the chaos runs finds each way in which a promise can be broken, and nothing in a
//! run where none is.

mod histories;
mod programs;
mod scribe;
