//! Those that take minutes each. Tests start in the order of their names: these come first, so that
//! none is left running alone at the end.

mod mutants;
mod steadfast;
mod upgrade;
mod upgrade_cuts;
