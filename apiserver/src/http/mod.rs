//! HTTP: from a request to an answer.
//! A request passes the layers ([`layers`]) and the router ([`routes`], which is derived from the
//! tables in [`paths`] and [`api::verb`]). Then its permission is checked ([`gated`]), and a handler
//! gets it in typed parts ([`extract`]).

mod agents;
mod answer;
mod asks;
mod batch;
mod change;
mod cluster;
mod delete;
mod discovery;
mod exec;
mod extract;
#[cfg(test)]
mod gate_tests;
mod gated;
mod layers;
mod leases;
mod log;
mod page;
mod paths;
mod query;
mod read;
mod rollout;
mod routes;
mod scale;
mod stats;
mod table;
mod usage;
mod watch;
#[cfg(test)]
mod world;

use std::sync::Arc;

use crate::Server;
pub(crate) use layers::Stack;
pub(crate) use log::LOGS_MAX;
pub use paths::is_of_component;

/// The service that answers requests. Each request has its requester as an extension.
pub(crate) fn service(server: &Arc<Server>) -> Stack {
    layers::around(routes::routes(server), &server.rng)
}
