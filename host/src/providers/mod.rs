//! What steps reach outside.
