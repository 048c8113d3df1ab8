//! What is on the disk: after kills, power cuts and full disks; and the checker that judges it.

mod checker;
mod disk;
mod kill_loop;
mod powercut;
