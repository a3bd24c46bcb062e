//! The stores, held to the laws and to each other.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod crash;
mod embedded;
mod equivalence;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "etcd")]
mod etcd_doubt;
#[cfg(feature = "etcd")]
mod etcd_equivalence;
#[cfg(feature = "etcd")]
mod etcd_faults;
#[cfg(feature = "etcd")]
mod etcd_foreign;
#[cfg(feature = "etcd")]
mod etcd_full;
#[cfg(feature = "etcd")]
mod etcd_proxy;
#[cfg(feature = "etcd")]
mod etcd_server;
mod faults;
mod suites;
