//! PID 1 of a Stele appliance.

fn main() {}
