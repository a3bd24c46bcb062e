//! URLs of servers, as people write them into flags.

use http::Uri;
use http::uri::Scheme;

/// Parses the URL of a server: `http://HOST:PORT` or `https://HOST`, without a path. Checked early,
/// because a wrong URL would otherwise look like a server that does not answer.
///
/// # Errors
/// What is wrong with it, as a sentence about it.
pub fn server_url(text: &str) -> Result<Uri, &'static str> {
    let url: Uri = text.parse().map_err(|_| "it is not a URL")?;
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme()) {
        return Err("it must begin with http:// or https://");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err("it must not have anything after the host and port");
    }
    let authority = url.authority().filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or("it has no host")?;
    let (host, port) = (authority.host(), authority.port_u16());
    // For the parser, an invalid port is not an error but part of the host.
    match port {
        Some(0) => Err("port 0 cannot be connected to"),
        Some(port) if authority.as_str() == format!("{host}:{port}") => Ok(url),
        None if authority.as_str() == host => Ok(url),
        Some(_) | None => Err("only HOST or HOST:PORT may follow, with a port up to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_dialled_is_a_servers_url() {
        for good in
            ["http://a", "https://a", "http://a:2379/", "http://10.0.0.1:2379", "http://[::1]:1"]
        {
            assert!(server_url(good).is_ok(), "{good:?}");
        }
        let bad = [
            ("", "it is not a URL"),
            ("http://a b", "it is not a URL"),
            ("http://", "it is not a URL"),
            ("a", "it must begin with http:// or https://"),
            ("a:2379", "it must begin with http:// or https://"),
            ("ftp://a", "it must begin with http:// or https://"),
            ("http://:2379", "it has no host"),
            ("http://a:0", "port 0 cannot be connected to"),
            ("http://a:", "only HOST or HOST:PORT may follow, with a port up to 65535"),
            ("http://a:99999", "only HOST or HOST:PORT may follow, with a port up to 65535"),
            ("http://a:-1", "only HOST or HOST:PORT may follow, with a port up to 65535"),
            ("http://u@a", "only HOST or HOST:PORT may follow, with a port up to 65535"),
            ("http://a/b", "it must not have anything after the host and port"),
            ("http://a?b", "it must not have anything after the host and port"),
        ];
        for (bad, why) in bad {
            assert_eq!(server_url(bad), Err(why), "{bad:?}");
        }
    }
}
