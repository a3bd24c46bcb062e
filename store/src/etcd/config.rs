//! How to reach etcd.

use std::fmt;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::etcd::members::{CONNECT_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT};

/// How to reach etcd. `Debug` shows no secrets.
#[derive(Debug, Clone, Default)]
pub struct EtcdConfig {
    /// The client URLs of the members, such as `https://10.0.0.1:2379`. Any of them is enough at a
    /// time.
    pub endpoints: Vec<String>,
    /// For `https` URLs.
    pub tls: Option<EtcdTls>,
    /// The user to log in as, if authentication is enabled in etcd.
    pub user: Option<EtcdUser>,
    /// A prefix of every key, so that several stores can share an etcd; usually empty.
    pub namespace: String,
}

/// The certificates for a TLS connection.
#[derive(Clone)]
pub struct EtcdTls {
    /// The certificates of the authority that signed those of the members, in PEM format.
    pub ca_pem: Vec<u8>,
    /// The client certificate, if etcd asks for one.
    pub identity: Option<EtcdIdentity>,
}

/// A client certificate.
#[derive(Clone)]
pub struct EtcdIdentity {
    /// The certificate, in PEM format.
    pub certificate_pem: Vec<u8>,
    /// Its private key, in PEM format.
    pub key_pem: Vec<u8>,
}

/// A user of etcd's own authentication.
#[derive(Clone)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdIdentity").finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the store cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The configuration is invalid.
    #[error("invalid etcd configuration: {0}")]
    Config(String),
    /// etcd does not accept the user, the password or the certificate, or grants too few
    /// permissions.
    #[error("etcd refused this client: {0}")]
    Refused(String),
    /// No member answered. It may work later.
    #[error("no etcd member answered: {0}")]
    Unreachable(String),
}

impl EtcdConfig {
    /// An etcd without TLS and users.
    pub fn plain(endpoints: Vec<String>) -> Self {
        Self { endpoints, ..Self::default() }
    }

    /// Checks what can be checked without etcd.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let fault = |fault: String| Err(ConnectError::Config(fault));
        if self.endpoints.is_empty() {
            return fault("name at least one endpoint".to_owned());
        }
        for endpoint in &self.endpoints {
            if endpoint.contains('@') {
                return fault("the URL must not contain a user; use --etcd-user".to_owned());
            }
            if let Err(why) = base::server_url(endpoint) {
                let such = "write for example http://10.0.0.1:2379";
                return fault(format!("invalid etcd URL {endpoint:?}: {why}; {such}"));
            }
            match (endpoint.starts_with("https://"), self.tls.is_some()) {
                (true, false) => {
                    return fault(format!("{endpoint:?} is https: add --etcd-ca FILE"));
                }
                (false, true) => {
                    return fault(format!("{endpoint:?} is not https, but --etcd-ca is given"));
                }
                (true, true) | (false, false) => (),
            }
        }
        Ok(())
    }

    /// The options for a configuration that [`check`](Self::check) has accepted.
    pub(crate) fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_require_leader(true);
        if let Some(tls) = &self.tls {
            let mut tls_options =
                TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
            if let Some(EtcdIdentity { certificate_pem, key_pem }) = &tls.identity {
                tls_options = tls_options.identity(Identity::from_pem(certificate_pem, key_pem));
            }
            options = options.with_tls(tls_options);
        }
        if let Some(EtcdUser { name, password }) = &self.user {
            options = options.with_user(name, password);
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_that_can_be_dialled_are_members() {
        let check = |url: &str| EtcdConfig::plain(vec![url.to_owned()]).check();
        for good in ["http://a", "http://a:2379/", "http://10.0.0.1:2379", "http://[::1]:2379"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a:2379",
            "a",
            "ftp://a",
            "http://",
            "http://:2379",
            "http://a:",
            "http://a:0",
            "http://a:99999",
            "http://a:-1",
            "http://a/b",
            "http://a?b",
            "http://u@a",
            "http://a b",
            "https://a",
        ] {
            assert!(matches!(check(bad), Err(ConnectError::Config(_))), "{bad:?}");
        }
    }
}
