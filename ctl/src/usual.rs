//! Defaults of the command line that come from environment variables.
//!
//! clap could read the variables itself, but would treat their values as typed words and repeat
//! them in the usage line of every error.

/// The URL of the apiserver.
pub const SERVER: Usual = Usual { variable: "HELIOX_SERVER", otherwise: "http://127.0.0.1:7070" };
/// The namespace.
pub const NAMESPACE: Usual = Usual { variable: "HELIOX_NAMESPACE", otherwise: "default" };

/// A value with a variable and a default.
#[derive(Debug, Clone, Copy)]
pub struct Usual {
    variable: &'static str,
    otherwise: &'static str,
}

impl Usual {
    /// The value.
    pub fn value(self) -> String {
        std::env::var(self.variable).unwrap_or_else(|_| self.otherwise.to_owned())
    }
}
