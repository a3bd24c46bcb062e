//! Commands on several objects: each is tried, even if earlier ones have failed.

use crate::failure::Failure;
use crate::terminal;

/// The failures. The first one becomes the command's own, which is printed at the end; the others
/// are printed at once.
#[derive(Debug, Default)]
pub(super) struct Failures(Option<Failure>);

impl Failures {
    /// Adds the result for one object.
    ///
    /// # Errors
    /// The failure, if nothing else can work either.
    pub(super) fn add(&mut self, done: Result<(), Failure>) -> Result<(), Failure> {
        match done {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_last => {
                if let Some(first) = self.0.take() {
                    terminal::note(&first.message);
                }
                Err(failure)
            }
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

    /// The result of the command.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.0.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    #[test]
    fn the_first_failure_is_the_commands_unless_nothing_more_works() {
        let failure = |code| Failure::new("no").code(code);
        let mut failures = Failures::default();
        failures.add(Ok(())).unwrap();
        failures.add(Err(failure(Code::NotFound))).unwrap();
        failures.add(Err(failure(Code::Conflict))).unwrap();
        assert_eq!(failures.end().unwrap_err().code, Code::NotFound);

        let mut failures = Failures::default();
        failures.add(Err(failure(Code::NotFound))).unwrap();
        let away = Failure { is_last: true, ..failure(Code::Error) };
        assert_eq!(failures.add(Err(away)).unwrap_err().code, Code::Error);
        assert!(Failures::default().end().is_ok());
    }
}
