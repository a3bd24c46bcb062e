//! Whether something else listens on a port that a task is to listen on.
//!
//! Processes share the host's network, and nothing but a failed program would tell that a port is in
//! use: its next attempt would be given the same port again. So it is tried before the start. Between
//! that and the program's own use of it somebody may still take it; then the program fails.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use crate::engine::{EngineError, Port, Protocol, Reason};

/// Refuses a port that something listens on.
pub(super) fn check(port: &Port) -> Result<(), EngineError> {
    let Some(number) = port.host_port else { return Ok(()) };
    let address = (port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), number);
    let (tried, protocol) = match port.protocol {
        Protocol::Tcp => (TcpListener::bind(address).map(drop), "TCP"),
        Protocol::Udp => (UdpSocket::bind(address).map(drop), "UDP"),
    };
    match tried {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let name = &port.name;
            let message = format!(
                "port {number}/{protocol} ({name}) is in use by a process that is not a task"
            );
            Err(EngineError::refused(Reason::PortTaken, message))
        }
        // An address that is not the host's, or a number that takes privileges: for the program to
        // say what it can do with that.
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16, protocol: Protocol) -> Port {
        Port {
            name: "http".to_owned(),
            container_port: number,
            host_port: Some(number),
            host_ip: None,
            protocol,
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_refused_until_it_is_free() {
        let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = stranger.local_addr().unwrap().port();
        let refused = check(&port(number, Protocol::Tcp)).unwrap_err();
        assert!(
            matches!(refused, EngineError::Refused { reason: Reason::PortTaken, .. }),
            "{refused}"
        );
        let elsewhere = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(check(&Port { host_ip: elsewhere, ..port(number, Protocol::Tcp) }), Ok(()));
        drop(stranger);
        assert_eq!(check(&port(number, Protocol::Tcp)), Ok(()));
        let stranger = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let number = stranger.local_addr().unwrap().port();
        assert!(check(&port(number, Protocol::Udp)).is_err());
    }
}
