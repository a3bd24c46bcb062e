//! Commands that run beside a task, in its container.

use std::fmt;
use std::pin::Pin;

use api::exec::TerminalSize;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::logs::Output;
use super::{Answer, EngineError};

/// A running command.
pub struct Exec {
    /// Its standard input. When this is shut down and dropped, the command reads the end. `None` if
    /// it was started without input.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Its output. The stream ends when the command has ended and every other writer has closed it.
    pub output: BoxStream<'static, Result<(Output, Bytes), EngineError>>,
    /// Controls the command.
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

    /// Waits for its end and returns the exit code: 128 + n if signal n ended it.
    fn exit_code(&self) -> Answer<'_, i32>;

    /// Ends it as far as the engine can. Does nothing to a command that has ended.
    fn stop(&self) -> Answer<'_, ()>;
}
