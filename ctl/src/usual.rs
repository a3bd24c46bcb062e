//! What is meant where the command line says nothing: what a variable of the environment says, or else
//! what is meant without it.
//!
//! clap could read the variables itself, but takes their values for words that were typed, and repeats
//! them in the usage line of every error.

/// Where the apiserver is.
pub const SERVER: Usual = Usual { variable: "HELIOX_SERVER", otherwise: "http://127.0.0.1:7070" };
/// The namespace.
pub const NAMESPACE: Usual = Usual { variable: "HELIOX_NAMESPACE", otherwise: "default" };

/// A value that few commands name.
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
