//! The program `stele`.

fn main() {}
