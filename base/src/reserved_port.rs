//! A free port for a program that is about to be started.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A port of the loopback address on which nothing listens, for a program that is started within a
/// minute: until then, others that ask the system for any free port do not get this one.
///
/// A port that is merely free may be given to anybody, even to an outgoing connection. But a
/// connection that this side has closed keeps its port for a minute (`TIME_WAIT`), except for
/// programs that bind that port explicitly with `SO_REUSEADDR`, as servers do.
///
/// # Errors
/// The system has no free port.
pub fn reserved_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    // The side that closes first keeps the port in `TIME_WAIT`.
    drop(server);
    drop(client);
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_nobody_but_who_names_it() {
        let reserved: BTreeSet<u16> = (0..500).map(|_| reserved_port().unwrap()).collect();
        assert_eq!(reserved.len(), 500, "none twice");
        let any = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let others: Vec<TcpListener> = (0..500).map(any).collect();
        let theirs = others.iter().map(|other| other.local_addr().unwrap().port());
        assert_eq!(theirs.filter(|port| reserved.contains(port)).count(), 0);
        for port in reserved {
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap());
        }
    }
}
