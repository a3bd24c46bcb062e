//! The stores, held to the laws and to each other.

mod suites;
