//! Commands that do something to several objects: each is tried, whatever became of those before it.

use crate::failure::Failure;
use crate::terminal;

/// What did not work. The first failure is the command's, as the process tells it at its end; the
/// others are told as they come.
#[derive(Debug, Default)]
pub(super) struct Failures(Option<Failure>);

impl Failures {
    /// Takes in what became of one.
    ///
    /// # Errors
    /// The failure, where nothing more will work either.
    pub(super) fn add(&mut self, done: Result<(), Failure>) -> Result<(), Failure> {
        match done {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_last => Err(failure),
            Err(failure) if self.0.is_some() => {
                terminal::note(&failure.message);
                Ok(())
            }
            Err(failure) => {
                self.0 = Some(failure);
                Ok(())
            }
        }
    }

    /// How the command ends.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}
