//! What is on the disk after kills, power cuts and disk failures; and the checker of the chaos
//! runs.

mod checker;
mod disk;
mod kill_loop;
mod powercut;
