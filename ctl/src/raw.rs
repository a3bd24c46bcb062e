//! The terminal of this process, given to a command elsewhere.

use std::io;

use api::exec::TerminalSize;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal passes on every key, Ctrl-C too, until this is dropped.
pub struct Raw {
    before: Termios,
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl Raw {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When stdin is none.
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
        // The terminal itself may be gone: then there is nothing to be restored.
        let _gone = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The terminal's size, where stdin is one.
pub fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(stdin()).ok()?;
    Some(TerminalSize { width: size.ws_col, height: size.ws_row })
}
