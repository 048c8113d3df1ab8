//! Empty for the first check.
