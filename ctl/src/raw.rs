//! The raw mode of the terminal, for a command that runs elsewhere.

use std::io;

use api::exec::TerminalSize;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// While this exists, the terminal passes on every key, even Ctrl-C.
pub struct Raw {
    before: Termios,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl Raw {
    /// Switches to raw mode.
    ///
    /// # Errors
    /// Stdin is not a terminal.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Fails if the terminal is gone; then there is nothing to restore.
        let _gone = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal, if stdin is one.
pub fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(TerminalSize { width: size.ws_col, height: size.ws_row })
}
