//! `test-support cht|openmrs|sink`: a stand-in served on loopback.
fn main() {}
