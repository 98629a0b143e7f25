//! The stories: what the appliance does when this or that happens to it. One program, so that as many
//! of them run at a time as there are seats for machines.

mod at_length;
mod backup;
mod boot;
mod client;
mod clock;
mod control;
mod data;
mod flash;
mod gate;
mod harness;
mod isolation;
mod loader;
mod network;
mod never_frozen;
mod people;
mod pod;
mod power_cuts;
mod root;
mod run;
mod supervision;
mod verity;
