//! Commands that run beside a task, in its container.

use std::fmt;
use std::pin::Pin;

use api::exec::TerminalSize;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::logs::Output;
use super::{Answer, EngineError};

/// A command that runs.
pub struct Exec {
    /// What it reads. Shut down and dropped, it reads the end. Nothing where it was asked to read nothing.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// What it writes. Ends when it has ended, and whatever else writes there.
    pub output: BoxStream<'static, Result<(Output, Bytes), EngineError>>,
    /// What else is done with it.
    pub control: Box<dyn ExecControl>,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").finish_non_exhaustive()
    }
}

/// What is done with a command that runs.
pub trait ExecControl: Send + Sync {
    /// Sets the size of its terminal.
    fn resize(&self, size: TerminalSize) -> Answer<'_, ()>;

    /// Waits for its end: its exit code, 128 + n where signal n ended it.
    fn exit_code(&self) -> Answer<'_, i32>;

    /// Ends it, as far as the engine can. Does nothing to one that has ended.
    fn stop(&self) -> Answer<'_, ()>;
}
