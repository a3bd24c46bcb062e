//! What a probe does, and where an engine's containers are reached by it.

use std::net::IpAddr;

/// What a probe does, fully resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAction {
    /// Sends an HTTP GET request.
    Http(HttpRequest),
    /// Opens a TCP connection.
    Tcp(Socket),
    /// Runs a command in the container.
    Exec(Vec<String>),
}

/// The request of an HTTP probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Where it is sent to.
    pub socket: Socket,
    /// Its path and query.
    pub path: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

/// Where a probe connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// The host. Default: the container.
    pub host: Option<String>,
    /// The port in the container, or of the host.
    pub port: u16,
    /// The same port on the node, if it is published, with the address that it is bound to.
    pub published: Option<(Option<IpAddr>, u16)>,
}

/// How the ports of a running container are reached from this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// At an address of its own.
    Address(IpAddr),
    /// It shares the network of the node.
    Node,
    /// Only where they are published on the node.
    Published,
    /// There is no container: this is what a probe finds now.
    Simulated(Simulated),
}

/// What a probe of a simulated container finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Simulated {
    /// It succeeds.
    Passes,
    /// It fails with this text.
    Fails(String),
    /// It has no answer.
    Hangs,
}
