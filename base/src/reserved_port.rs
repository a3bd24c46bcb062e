//! A port for a program that is started in a moment.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A port of the loopback address on which nobody listens, for a program that is to be started within a
/// minute: whoever asks the system for any free port until then gets another one.
///
/// A port that was merely free is given to the next one who asks, be it for an outgoing connection. A
/// connection that this side has closed keeps its port for a minute (`TIME_WAIT`), for all but those who
/// name the port and may use an address again (`SO_REUSEADDR`), as servers do.
///
/// # Errors
/// The system has no port left.
pub fn reserved_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    // Who closes first keeps the port.
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
