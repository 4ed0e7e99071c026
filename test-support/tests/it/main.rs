//! Integration tests of the stand-ins, one binary.
