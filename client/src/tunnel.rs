//! Reversed connections: this process opens the connection, and then the other side sends requests
//! on it.

use std::io;
use std::sync::Arc;

use api::node::TUNNEL_PROTOCOL;
use base::Spawner;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::Error;
use crate::servers::Servers;

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl std::fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a stream")
    }
}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Opens a connection to the apiserver.
pub type Dial = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// A reversed connection.
pub type Tunnel = Upgraded;

/// Opens TCP connections to the server in use.
pub fn dial_tcp(servers: &Servers) -> Dial {
    let servers = servers.clone();
    Arc::new(move || {
        let servers = servers.clone();
        Box::pin(async move {
            let chosen = servers.choose();
            let address = match chosen.authority.port_u16() {
                Some(_) => chosen.authority.as_str().to_owned(),
                None => format!("{}:80", chosen.authority),
            };
            let stream = TcpStream::connect(address).await;
            let stream = stream.inspect_err(|_| servers.failed(&chosen))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// Opens a connection and reverses it. The caller has to serve requests on it.
pub async fn open_tunnel(dial: &Dial, path: &str, spawner: &Spawner) -> Result<Tunnel, Error> {
    let unreachable = |error: io::Error| Error::Unavailable(error.into());
    let broken = |error: hyper::Error| Error::Unavailable(error.into());
    let stream = dial().await.map_err(unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    spawner.spawn("tunnel", async move {
        // Whoever uses the tunnel sees how it ended.
        let _ended = connection.with_upgrades().await;
    });
    let request = Request::post(path)
        .header(header::HOST, "heliox")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, TUNNEL_PROTOCOL)
        .body(Empty::<Bytes>::new())
        .map_err(Error::malformed)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::of_answer(response.status(), b""));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
    Ok(upgraded)
}
