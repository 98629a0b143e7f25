//! Verifies OpenPGP cleartext signatures.
