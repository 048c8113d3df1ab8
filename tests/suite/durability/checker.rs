//! The checker of the chaos runs finds every way in which a promise can be broken, and reports
//! nothing for a run without violations.

mod histories;
mod programs;
mod scribe;
mod ways_back;
