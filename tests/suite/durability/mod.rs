//! What is on the disk after kills, power cuts and disk failures; damaged or missing files; stores that
//! do not open; a disk that hangs, a clock that is set; a data folder, a log or memory that is gone; data
//! folders of earlier versions; and the checker of the chaos runs.

mod checker;
mod clock;
mod damage;
mod disk;
mod folder_gone;
mod golden_store;
mod guest_memory;
mod hung_disk;
mod kill_loop;
mod log;
mod missing_writes;
mod oom;
mod powercut;
mod private_files;
mod refused;
mod salvage;
