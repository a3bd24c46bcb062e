//! Which program is started as the shim.
//!
//! A shim is started for each task, and most of what that costs is starting a program: the small one
//! that stands beside this one takes a fraction of the processor time of this one itself.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::warn;

/// The small program's name.
const NAME: &str = "heliox-shim";
/// How long it may take to say from which sources it was built. Far above what a loaded machine needs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its answer that are read: more than an answer has.
const ANSWER_BYTES_MAX: u64 = 256;

/// A program and its leading arguments; the directory of a task is added to them.
#[derive(Debug, Clone)]
pub struct ShimProgram {
    pub(super) words: Vec<OsString>,
    /// Keeps open what `words` name by its descriptor.
    _held: Option<Arc<File>>,
}

impl From<Vec<OsString>> for ShimProgram {
    fn from(words: Vec<OsString>) -> Self {
        Self { words, _held: None }
    }
}

impl ShimProgram {
    /// The small program in the directory of `this` program, where it was built from the same sources.
    /// Otherwise `this` program itself, which does the same at a higher price; the log says why.
    pub async fn beside(this: PathBuf) -> Self {
        let small = this.with_file_name(NAME);
        match Self::checked(&small).await {
            Ok(program) => program,
            Err(why) => {
                warn!(
                    %why,
                    "tasks are started with `heliox shim`, which takes more processor time for each \
                     task: install {NAME} of the same version beside heliox"
                );
                vec![this.into_os_string(), OsString::from("shim")].into()
            }
        }
    }

    /// A program that says that it was built from the same sources as this one.
    ///
    /// It is started by a descriptor of the file that was checked: an upgrade may put another one in its
    /// place while this agent runs.
    async fn checked(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| shim::private::named(path, &error);
        let file = Arc::new(File::open(path).map_err(named)?);
        let program = OsString::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let build = timeout(ANSWER_TIMEOUT, build_of(&program)).await;
        let build = build.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(named)?;
        if build != shim::BUILD {
            let message =
                format!("it is of build {build:?}, and this program of {:?}", shim::BUILD);
            return Err(named(io::Error::other(message)));
        }
        Ok(Self { words: vec![program], _held: Some(file) })
    }
}

/// What a program says of its build.
async fn build_of(program: &OsString) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg(shim::ASKS_FOR_BUILD)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let answer = child.stdout.take().ok_or_else(|| io::Error::other("it has no output"))?;
    let mut said = Vec::new();
    answer.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await?;
    child.wait().await?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is started for `heliox` of a directory in which `heliox-shim` is a copy of `program`. (A
    /// script will not do: its interpreter could not open it by the descriptor that is checked.)
    async fn chosen_beside(program: Option<&str>) -> (tempfile::TempDir, Vec<OsString>) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(program) = program {
            fs::copy(program, dir.path().join(NAME)).unwrap();
        }
        let chosen = ShimProgram::beside(dir.path().join("heliox")).await.words;
        (dir, chosen)
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_of_another_build_is_not_the_shim() {
        // It is asked with `--build`, which the first says again, and the others answer with nothing.
        let others = [None, Some("/bin/echo"), Some("/bin/true"), Some("/bin/false")];
        for program in others {
            let (dir, chosen) = chosen_beside(program).await;
            let this = dir.path().join("heliox").into_os_string();
            assert_eq!(chosen, [this, "shim".into()], "{program:?}");
        }
    }
}
