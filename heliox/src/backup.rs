//! `heliox backup`: writes a backup to a file, or checks a file.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apiserver::backup::{self, Reader, Summary};
use base::Tasks;
use bytes::Bytes;
use client::Client;
use store::Embedded;
use tokio::time::timeout;

use crate::args::BackupArgs;
use crate::control_plane::Common;

/// A server that sends nothing for this long is taken to have stopped.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const PATH: &str = "/apis/heliox.dev/v1/backup";

/// Writes or checks a backup, and prints a summary.
pub async fn run(args: BackupArgs, common: &Common) -> Result<()> {
    if let Some(file) = &args.check {
        let summary = check(file)?;
        say(&format!("{} is complete: {}", file.display(), shown(&summary)));
        return Ok(());
    }
    let out = args.out.as_deref().context("name the file to write with --out FILE")?;
    let mut partial = Partial::create(out)?;
    if let Some(server) = &args.server {
        let client = Client::new(client::http_transport(&common.servers(server)?));
        from_server(&client, &mut partial).await?;
    } else {
        from_store(&args, common, &mut partial).await?;
    }
    let summary = partial.finish()?;
    say(&format!("{}: {}", out.display(), shown(&summary)));
    say("The backup contains everything, Secrets included: keep it where nobody else can read it.");
    Ok(())
}

/// Reads a whole backup.
///
/// # Errors
/// It is damaged, incomplete, or contains what this version does not understand.
pub fn check(file: &Path) -> Result<Summary> {
    let shown = || format!("cannot use backup {}", file.display());
    let mut reader = open(file)?;
    while let Some((key, value)) = reader.next_record().with_context(shown)? {
        backup::check(&key, value).with_context(shown)?;
    }
    Ok(reader.summary().expect("the end was read"))
}

/// Opens a backup file. Use [`check`] to find out whether it is complete.
///
/// # Errors
/// It does not exist, or is not a backup.
pub fn open(file: &Path) -> Result<Reader<BufReader<File>>> {
    let source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let reader = Reader::open(BufReader::new(source));
    reader.with_context(|| format!("cannot use backup {}", file.display()))
}

async fn from_server(client: &Client, partial: &mut Partial) -> Result<()> {
    let response = client.stream(PATH).await.context("cannot get a backup from the server")?;
    let mut lines = client::Lines::new(response.into_body());
    loop {
        let line =
            timeout(SILENCE_MAX, lines.next()).await.context("the server stopped sending")?;
        match line.context("the connection broke before the backup was complete")? {
            Some(line) => {
                partial.write(&line)?;
                partial.write(b"\n")?;
            }
            None => return Ok(()),
        }
    }
}

async fn from_store(args: &BackupArgs, common: &Common, partial: &mut Partial) -> Result<()> {
    if let Some(dir) = args.data_dir.as_deref().filter(|dir| !Embedded::is_in(dir)) {
        bail!("there is no store in {}", dir.display());
    }
    let storage = Tasks::new("store");
    let opened = args.etcd.open_or(args.data_dir.as_deref(), &common.rng, &storage).await;
    let store =
        opened.context("cannot open the store (use --server URL to back up a running server)")?;
    let mut lines =
        backup::backup(store, common.clock.now()).await.context("cannot back up the store")?;
    while let Some(some) = lines.next().await.context("cannot back up the store")? {
        let some: Bytes = some;
        partial.write(&some)?;
    }
    storage.stop().await;
    Ok(())
}

/// A file that is being written beside the one that it will replace. Only this user may read it. It
/// is deleted if it is dropped before it is complete.
struct Partial {
    out: PathBuf,
    path: PathBuf,
    file: File,
}

impl Partial {
    fn create(out: &Path) -> Result<Self> {
        // Report this now and not after all data was received.
        if out.is_dir() {
            bail!("--out {} is a directory; name a file in it", out.display());
        }
        let name = out.file_name().with_context(|| {
            format!(
                "--out {} does not name a file; write for example --out backup.jsonl",
                out.display()
            )
        })?;
        let process = std::process::id();
        let path = out.with_file_name(format!(".{}.{process}.partial", name.to_string_lossy()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| {
            format!("cannot create {} (the directory of --out must exist)", path.display())
        })?;
        Ok(Self { out: out.to_owned(), path, file })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Checks what was written, and renames it if it is complete.
    fn finish(self) -> Result<Summary> {
        let keep = || format!("cannot write {}", self.out.display());
        self.file.sync_all().with_context(keep)?;
        let summary = check(&self.path).context("the backup that was received is incomplete")?;
        fs::rename(&self.path, &self.out).with_context(keep)?;
        let dir = self.out.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = File::open(dir.unwrap_or(Path::new("."))).with_context(keep)?;
        dir.sync_all().with_context(keep)?;
        Ok(summary)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // If it was renamed it does not exist here any more.
        let _gone = fs::remove_file(&self.path);
    }
}

/// The summary of a backup as a line.
pub(crate) fn shown(summary: &Summary) -> String {
    let Summary { header, records, sha256 } = summary;
    format!(
        "cluster {} (epoch {}) at revision {}, taken at {}: {records} records, SHA-256 {sha256}",
        header.cluster, header.epoch, header.revision, header.taken_at
    )
}

#[expect(clippy::print_stderr, reason = "what a person who makes backups wants to know")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_backup_never_takes_the_place_of_a_whole_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("backup");
        fs::write(&out, "the last one").unwrap();
        let mut partial = Partial::create(&out).unwrap();
        let mode = partial.file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "there are Secrets in it");
        partial.write(b"{\"header\":{\"format\":1,\"cluster\":\"c\",\"epoch\":1,").unwrap();
        let error = format!("{:#}", partial.finish().unwrap_err());
        assert!(error.contains("ends too early, after line 0"), "{error}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "the last one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_place_where_no_backup_can_be_is_told_before_one_is_received() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |out: &Path| format!("{:#}", Partial::create(out).map(drop).unwrap_err());
        assert!(refused(dir.path()).contains("is a directory"));
        assert!(refused(Path::new("..")).contains("is a directory"));
        assert!(refused(&dir.path().join("nowhere/backup")).contains("No such file"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
