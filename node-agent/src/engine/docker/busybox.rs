//! An image made of this machine's static busybox, for demonstrations and tests: no registry is
//! needed.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io;
use std::path::Path;

use bollard::query_parameters::CreateImageOptionsBuilder;
use bollard::{Docker, body_full};
use futures_util::{TryStreamExt, future};
use tar::{Builder, EntryType, Header};
use tokio::time::timeout;

use super::CALL_TIMEOUT;
use super::classify::{Stage, classify};
use crate::engine::EngineError;

/// Where Debian's `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

/// The commands that the image has.
const APPLETS: &[&str] = &[
    "ash", "awk", "cat", "cp", "cut", "date", "dd", "echo", "env", "expr", "false", "grep", "head",
    "hostname", "id", "kill", "ls", "mkdir", "mv", "nc", "printf", "ps", "pwd", "rm", "sed", "seq",
    "sh", "sleep", "sort", "split", "stat", "sync", "tail", "tee", "test", "touch", "tr", "true",
    "uniq", "wc", "wget", "whoami", "yes",
];

/// Label of the image: a hash of what it was made from.
const LABEL: &str = "heliox.dev/rootfs";

/// Imports the image `<repository>:<tag>` made from a static busybox, unless it exists already.
/// Each import creates a new image and takes the name from the old one, so importing the same again
/// and again would fill the engine with nameless images.
///
/// # Errors
///
/// `Unavailable` if there is no busybox, with a message that says what to install.
pub async fn import(docker: &Docker, repository: &str, tag: &str) -> Result<(), EngineError> {
    let rootfs = rootfs(Path::new(BUSYBOX)).map_err(|error| {
        EngineError::unavailable(format!(
            "cannot read {BUSYBOX} (on Debian: install busybox-static): {error}"
        ))
    })?;
    let label = hash(&rootfs);
    // While an import moves the name to another image, a list of all images may lack it. If several
    // tests begin at once, one imports and the others wait.
    let lock = File::create(std::env::temp_dir().join("heliox-busybox.lock"));
    let _lock = tokio::task::spawn_blocking(|| lock.and_then(|lock| lock.lock().map(|()| lock)))
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| EngineError::unavailable(format!("cannot lock the import: {error}")))?;
    if is_there(docker, &format!("{repository}:{tag}"), &label).await {
        return Ok(());
    }
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .changes(vec![format!("LABEL {LABEL}={label}")])
        .build();
    let import = docker.create_image(Some(options), Some(body_full(rootfs.into())), None);
    match timeout(CALL_TIMEOUT, import.try_for_each(|_| future::ready(Ok(())))).await {
        Ok(imported) => imported.map_err(|error| classify(&error, Stage::Act)),
        Err(_) => Err(EngineError::unknown("the image was not imported in time")),
    }
}

/// Whether an image of this name was made from the same files. If the engine does not answer, the
/// import is tried and says why it fails.
async fn is_there(docker: &Docker, name: &str, label: &str) -> bool {
    let Ok(Ok(image)) = timeout(CALL_TIMEOUT, docker.inspect_image(name)).await else {
        return false;
    };
    let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
    labels.get(LABEL).is_some_and(|there| there == label)
}

/// Stable within one build, and only compared within one build.
fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

/// A root file system with busybox, links to it and the folders that programs expect. The same
/// busybox gives the same bytes.
fn rootfs(busybox: &Path) -> io::Result<Vec<u8>> {
    let program = std::fs::read(busybox)?;
    let mut tar = Builder::new(Vec::new());
    for (dir, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)] {
        append(&mut tar, dir, EntryType::Directory, mode, &[])?;
    }
    append(&mut tar, "bin/busybox", EntryType::Regular, 0o755, &program)?;
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
    append(&mut tar, "etc/passwd", EntryType::Regular, 0o644, passwd)?;
    for applet in APPLETS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn append(
    tar: &mut Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    data: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    tar.append_data(&mut header, path, data)
}
