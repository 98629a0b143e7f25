//! A Pod that runs, from outside: its front's API.

pub mod address;
pub mod client;
pub mod credential;
pub mod state;
pub mod switch;
