//! Where a control plane keeps its data: in the embedded store on one machine, or in etcd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use base::{Rng, Tasks};
use clap::Args;
use store::{Embedded, Etcd, EtcdConfig, EtcdIdentity, EtcdTls, EtcdUser, Store};

use crate::dir_lock::DirLock;

/// Largest certificate, key or password file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The flags of [`EtcdArgs`], for flags that select another store to conflict with. Without these
/// conflicts clap would accept an etcd certificate beside `--data-dir` and never use it.
pub const ETCD_FLAGS: [&str; 6] =
    ["etcd", "etcd_ca", "etcd_cert", "etcd_key", "etcd_user", "etcd_password_file"];

/// Heading of etcd's flags in the help. Each flag names it, because the heading of a whole group
/// would also apply to the flags after the group.
const HEADING: &str = "etcd";

/// The connection to etcd, if it is used. Each flag excludes the embedded store: see
/// [`ETCD_FLAGS`].
#[derive(Debug, Clone, Default, Args)]
pub struct EtcdArgs {
    /// Client URLs of the etcd members that store everything.
    #[arg(long, help_heading = HEADING, value_name = "URL[,URL...]", value_delimiter = ',', conflicts_with = "data_dir")]
    pub etcd: Vec<String>,
    /// CA certificates that verify the members (PEM). Required for https URLs.
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "etcd", conflicts_with = "data_dir")]
    pub etcd_ca: Option<PathBuf>,
    /// Client certificate (PEM).
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"], conflicts_with = "data_dir")]
    pub etcd_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM).
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "etcd_cert", conflicts_with = "data_dir")]
    pub etcd_key: Option<PathBuf>,
    /// etcd user.
    #[arg(long, help_heading = HEADING, value_name = "NAME", requires_all = ["etcd", "etcd_password_file"], conflicts_with = "data_dir")]
    pub etcd_user: Option<String>,
    /// File whose first line is the password of the user.
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "etcd_user", conflicts_with = "data_dir")]
    pub etcd_password_file: Option<PathBuf>,
}

impl EtcdArgs {
    /// Opens etcd if it is configured, otherwise the embedded store in `data_dir`.
    pub async fn open_or(
        &self,
        data_dir: Option<&Path>,
        rng: &Rng,
        tasks: &Tasks,
    ) -> Result<Arc<dyn Store>> {
        if !self.etcd.is_empty() {
            let store = Etcd::connect(self.config()?, rng, &tasks.spawner()).await;
            return Ok(Arc::new(store.context("cannot use etcd")?));
        }
        let Some(dir) = data_dir else {
            bail!("name the store: --data-dir DIR or --etcd URL");
        };
        let lock = DirLock::take(dir, ("the data directory", "--data-dir"))?;
        let stop = tasks.stop_signal();
        tasks.spawn("data directory", async move {
            // Held while the store is open.
            let _lock = lock;
            stop.requested().await;
        });
        let store = Embedded::open(dir, &tasks.spawner());
        Ok(Arc::new(store.with_context(|| format!("cannot open the store in {}", dir.display()))?))
    }

    fn config(&self) -> Result<EtcdConfig> {
        let identity = match (&self.etcd_cert, &self.etcd_key) {
            (Some(certificate), Some(key)) => {
                Some(EtcdIdentity { certificate_pem: read(certificate)?, key_pem: read(key)? })
            }
            _ => None,
        };
        let tls = match &self.etcd_ca {
            Some(ca) => Some(EtcdTls { ca_pem: read(ca)?, identity }),
            None => None,
        };
        let user = match (&self.etcd_user, &self.etcd_password_file) {
            (Some(name), Some(file)) => {
                let text = String::from_utf8(read(file)?);
                let text = text.ok().with_context(|| format!("{} is not text", file.display()))?;
                let password = text.lines().next().unwrap_or_default().to_owned();
                Some(EtcdUser { name: name.clone(), password })
            }
            _ => None,
        };
        Ok(EtcdConfig { tls, user, ..EtcdConfig::plain(self.etcd.clone()) })
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let read = || {
        if std::fs::metadata(file)?.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                "the file is too large",
            ));
        }
        std::fs::read(file)
    };
    read().with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let args = EtcdArgs {
            etcd: vec!["https://a:2379".to_owned()],
            etcd_ca: file("ca", "authority"),
            etcd_cert: file("cert", "certificate"),
            etcd_key: file("key", "opensesame"),
            etcd_user: Some("heliox".to_owned()),
            etcd_password_file: file("password", "hunter2\n"),
        };
        let config = args.config().unwrap();
        assert_eq!(config.user.as_ref().unwrap().password, "hunter2");
        assert_eq!(config.tls.as_ref().unwrap().identity.as_ref().unwrap().key_pem, b"opensesame");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("opensesame"), "{shown}");
        let missing = EtcdArgs { etcd_ca: Some(dir.path().join("nothing")), ..args };
        let error = format!("{:#}", missing.config().unwrap_err());
        assert!(error.contains("nothing: No such file"), "{error}");
    }
}
