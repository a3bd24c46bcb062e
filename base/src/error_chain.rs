//! An error and its causes on one line, each once.

use std::error::Error;
use std::fmt;

/// Displays an error followed by its sources, separated by `: `. A source is left out if the text
/// already ends with it, because some crates include their source in their message and return it as
/// well.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            source = error.source();
        }
        f.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|inner| inner.as_ref() as &(dyn Error + 'static))
        }
    }

    #[test]
    fn every_cause_is_printed_once() {
        let root = Layer("connection refused", None);
        let doubled = Layer("open socket: connection refused", Some(Box::new(root)));
        let top = Layer("read manifest", Some(Box::new(doubled)));
        assert_eq!(ErrorChain(&top).to_string(), "read manifest: open socket: connection refused");
    }
}
