//! The failure of a command, with its exit code.

use std::error::Error as _;
use std::fmt;
use std::io;

use api::KindId;
use api::manifest::Problem;
use api::status::{Refusal, Why};
use base::ErrorChain;
use client::{Error, cause};
use serde_json::{Value, json};

use crate::namesakes::Missing;
use crate::target::name::{Target, plural};

/// Exit codes: scripts depend on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The reader of stdout has closed it. Nothing is wrong. A command that only shows something
    /// ends; one that changes something, or waits, continues.
    Unread,
    /// The exit code of a command that was run beside a task.
    Command(u8),
    /// Any other error, for example in the command line.
    Error,
    /// It was accepted, but no node fits its tasks.
    Unschedulable,
    /// What was waited for has failed.
    Failed,
    /// The time limit is over.
    Timeout,
    /// It exists already, or was changed meanwhile.
    Conflict,
    /// It does not exist.
    NotFound,
    /// It is not allowed.
    Forbidden,
}

impl Code {
    /// The process's exit code.
    pub fn number(self) -> u8 {
        match self {
            Code::Unread => 0,
            Code::Command(code) => code,
            Code::Error => 1,
            Code::Unschedulable => 2,
            Code::Failed => 3,
            Code::Timeout => 4,
            Code::Conflict => 5,
            Code::NotFound => 6,
            Code::Forbidden => 7,
        }
    }

    /// The exit code for a refusal of the server.
    fn of(why: Why) -> Self {
        match why {
            Why::Forbidden => Code::Forbidden,
            Why::NotFound => Code::NotFound,
            Why::Exists | Why::Conflict | Why::Contended | Why::Deposed => Code::Conflict,
            Why::Late => Code::Timeout,
            Why::Mistaken(_)
            | Why::Invalid
            | Why::TooLarge
            | Why::Expired
            | Why::Busy
            | Why::Unavailable
            | Why::Full
            | Why::Unknown
            | Why::Internal => Code::Error,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Problems in manifests.
    pub problems: Vec<Problem>,
    /// What does not exist, if that is the reason: other objects may have its name.
    pub missing: Option<Box<Missing>>,
    /// Whether every other request would fail for the same reason, because no server answers.
    pub is_last: bool,
    /// Why there was no answer, if there may be one later: the server is away or overloaded.
    pub may_pass: Option<String>,
}

impl Failure {
    /// An error with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            code: Code::Error,
            message: message.into(),
            hint: None,
            problems: Vec::new(),
            missing: None,
            is_last: false,
            may_pass: None,
        }
    }

    /// An error in the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message)
    }

    /// The same with another exit code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The failure of an object that does not exist.
    pub fn not_found(target: &Target) -> Self {
        let plural = target.kind.info().plural;
        let failure = Self::new(format!("{plural} {:?} not found", target.name));
        let failure = failure.code(Code::NotFound).hint(what_is_there(plural));
        Self { missing: Some(Missing::Object(target.clone()).into()), ..failure }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure for an error of a call to `server`.
    pub fn of_call(error: &Error, server: &str) -> Self {
        let may_pass = match error {
            Error::Unavailable(source) | Error::Unknown(source) => Some(cause(source.as_ref())),
            Error::Refused(refusal) => return Self::of_refusal(refusal),
            Error::Malformed(_) => None,
        };
        Self { is_last: true, may_pass, ..Self::of_error(error, server) }
    }

    fn of_error(error: &Error, server: &str) -> Self {
        match error {
            Error::Unavailable(_) if error.is_silent() => {
                Self::new(silent(server)).hint(OTHER_SERVER)
            }
            Error::Unavailable(source) => unavailable(source.as_ref(), server),
            Error::Unknown(_) if error.is_silent() => {
                Self::new(format!("{}; the change may have been made", silent(server)))
                    .hint("look with hctl get before trying again")
            }
            Error::Unknown(source) => {
                let why = cause(source.as_ref());
                Self::new(format!("the answer of {server} was lost: {why}"))
                    .hint("the change may have been made; look with hctl get before trying again")
            }
            Error::Refused(refusal) => Self::of_refusal(refusal),
            Error::Malformed(source) => {
                let why = ErrorChain(source.as_ref());
                Self::new(format!("the answer of {server} is not understood: {why}"))
                    .hint("check the address and the versions with hctl version")
            }
        }
    }

    /// The failure of a request that was not answered within the command's time limit. Nothing else
    /// is requested then.
    #[must_use]
    pub fn too_late(self) -> Self {
        let message = format!("the time is up: {}", self.message);
        Self { code: Code::Timeout, message, is_last: true, may_pass: None, ..self }
    }

    /// The failure for a refusal.
    pub fn of_refusal(refusal: &Refusal) -> Self {
        let why = refusal.why;
        let failure = Self::new(&refusal.message).code(Code::of(why));
        let passing = |failure: Self| Self { may_pass: Some(refusal.message.clone()), ..failure };
        match why {
            Why::NotFound => match refusal.plural() {
                Some(plural) => {
                    let object = KindId::from_word(plural).zip(refusal.name());
                    let missing =
                        object.map(|(kind, name)| Missing::Object(Target::new(kind, name)).into());
                    Self { missing, ..failure.hint(what_is_there(plural)) }
                }
                None => failure,
            },
            Why::Exists if refusal.plural().is_some() => {
                failure.hint("choose another name, or delete that one first")
            }
            Why::Exists | Why::Conflict | Why::Contended | Why::Deposed => {
                failure.hint("check its status with hctl describe, then try again")
            }
            // The apiserver itself answered, and says what is unavailable.
            Why::Busy | Why::Unavailable | Why::Late => {
                passing(failure.hint("try again in a moment"))
            }
            // The message says how to make room. No other write can succeed either.
            Why::Full => Self { is_last: true, ..passing(failure) },
            // The server's message says that the change may have been made.
            Why::Unknown => {
                let failure = failure.hint("look with hctl get before trying again");
                Self { is_last: true, ..passing(failure) }
            }
            Why::Mistaken(_)
            | Why::Invalid
            | Why::TooLarge
            | Why::Forbidden
            | Why::Expired
            | Why::Internal => failure,
        }
    }

    /// As one JSON object.
    pub fn to_json(&self) -> Value {
        let problems = self.problems.iter().map(|it| {
            json!({
                "file": it.source, "line": it.line, "column": it.column,
                "field": it.violation.path, "message": it.violation.message,
                "hint": it.violation.hint,
            })
        });
        let mut object = json!({ "code": self.code.number(), "message": self.message });
        if let Some(hint) = &self.hint {
            object["hint"] = hint.as_str().into();
        }
        if !self.problems.is_empty() {
            object["problems"] = problems.collect();
        }
        object
    }
}

/// Whether somebody else was faster, so that the object should be read again and the change
/// retried.
pub fn is_outrun(error: &Error) -> bool {
    let why = match error {
        Error::Refused(refusal) => refusal.why,
        Error::Unavailable(_) | Error::Unknown(_) | Error::Malformed(_) => return false,
    };
    match why {
        Why::Exists | Why::Conflict | Why::Contended => true,
        Why::Mistaken(_)
        | Why::Invalid
        | Why::TooLarge
        | Why::Forbidden
        | Why::NotFound
        | Why::Deposed
        | Why::Expired
        | Why::Busy
        | Why::Unavailable
        | Why::Full
        | Why::Late
        | Why::Unknown
        | Why::Internal => false,
    }
}

/// The hint how to list objects of a kind.
pub fn what_is_there(plural: &str) -> String {
    let kind = KindId::from_word(plural);
    let is_namespaced = kind.is_none_or(KindId::is_namespaced);
    let plural = match kind {
        Some(kind) => self::plural(kind),
        None => plural,
    };
    let everywhere = if is_namespaced { " (-A: in all namespaces)" } else { "" };
    format!("list what exists with hctl get {plural}{everywhere}")
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The hint if something accepts connections that may not be an apiserver, or hangs.
const OTHER_SERVER: &str =
    "check whether it hangs or is stopped, or name another with --server or HELIOX_SERVER";

/// The message for a server that accepts connections and does not answer.
fn silent(server: &str) -> String {
    format!("the server at {server} accepts connections and does not answer")
}

fn unavailable(source: &(dyn std::error::Error + 'static), server: &str) -> Failure {
    let why = cause(source);
    if let Some(io) = of_the_system(source).filter(|io| !client::broke_off(io)) {
        if io.kind() == io::ErrorKind::TimedOut {
            // A full queue of connections looks the same as a host that does not exist.
            return Failure::new(format!("the server at {server} accepts no connection: {why}"))
                .hint(OTHER_SERVER);
        }
        return Failure::new(format!("no apiserver at {server}: {why}"))
            .hint("start one with `heliox dev`, or name another with --server or HELIOX_SERVER");
    }
    Failure::new(format!("the apiserver at {server} does not answer now: {why}"))
        .hint("try again in a moment")
}

/// The operating system's error of a connection, if there is one: `connection refused`.
fn of_the_system<'a>(source: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(source);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let is_unread = error.kind() == io::ErrorKind::BrokenPipe;
        let code = if is_unread { Code::Unread } else { Code::Error };
        Failure::new(format!("cannot print: {error}")).code(code)
    }
}

impl From<client::InvalidServer> for Failure {
    fn from(error: client::InvalidServer) -> Self {
        Failure::usage(format!("--server: {}", error.source().unwrap_or(&error)))
    }
}

#[cfg(test)]
mod tests {
    use api::KindId;
    use api::status::Mistake;

    use super::*;

    #[test]
    fn exit_codes_are_a_contract() {
        let cases = [
            (Why::Mistaken(Mistake::Request), 1),
            (Why::Forbidden, 7),
            (Why::NotFound, 6),
            (Why::Exists, 5),
            (Why::Conflict, 5),
            (Why::Contended, 5),
            (Why::Invalid, 1),
            (Why::Late, 4),
            (Why::Full, 1),
            (Why::Unknown, 1),
            (Why::Internal, 1),
        ];
        for (why, code) in cases {
            let error = Error::refused(Refusal::new(why, "no"));
            assert_eq!(Failure::of_call(&error, "s").code.number(), code, "{why:?}");
        }
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).code.number(), 0);
        assert_eq!(Failure::from(io::Error::other("disk")).code.number(), 1);
    }

    #[test]
    fn every_failure_says_the_next_step() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let failure = Failure::of_call(&Error::Unavailable(refused.into()), "http://h:1");
        assert_eq!(failure.message, "no apiserver at http://h:1: connection refused");
        assert!(failure.hint.unwrap().contains("heliox dev"));
        let silent = Failure::of_call(&Error::silent(false), "http://h:1");
        let is_there = "the server at http://h:1 accepts connections and does not answer";
        assert_eq!(silent.message, is_there);
        assert!(!silent.hint.unwrap().contains("heliox dev"), "there is something already");
        let doubt = Failure::of_call(&Error::silent(true), "http://h:1").too_late();
        let told = format!("the time is up: {is_there}; the change may have been made");
        assert_eq!((doubt.code, doubt.message), (Code::Timeout, told));
        let full = io::Error::new(io::ErrorKind::TimedOut, "elapsed");
        let full = Failure::of_call(&Error::Unavailable(full.into()), "http://h:1");
        assert_eq!(
            full.message,
            "the server at http://h:1 accepts no connection: no answer in time"
        );
        let busy = Failure::of_call(&Error::Unavailable("too much at once".into()), "http://h:1");
        assert!(busy.message.ends_with("does not answer now: too much at once"));
        let eof =
            io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF during chunk size line");
        let broken = Failure::of_call(&Error::Unavailable(eof.into()), "http://h:1").message;
        assert_eq!(broken, "the apiserver at http://h:1 does not answer now: the connection broke");
        let doubt = "the store did not answer; the change may have been made";
        let doubt = Error::refused(Refusal::new(Why::Unknown, doubt));
        let doubt = Failure::of_call(&doubt, "http://h:1").to_json().to_string();
        assert_eq!(doubt.matches("may have been made").count(), 1, "{doubt}");
        let lost = Error::refused(Refusal::new(Why::Unavailable, "node \"b\" is lost"));
        let lost = Failure::of_call(&lost, "http://h:1");
        assert_eq!(lost.message, "node \"b\" is lost", "the apiserver is not to blame");
        assert!(!lost.is_last, "others may answer");
        let see = "list what exists with hctl get";
        assert_eq!(what_is_there("workflowruns"), format!("{see} runs (-A: in all namespaces)"));
        assert_eq!(what_is_there("nodes"), format!("{see} nodes"));
        let full = Error::refused(Refusal::new(Why::Full, "the store is full: delete something"));
        let full = Failure::of_call(&full, "http://h:1");
        assert_eq!(full.message, "the store is full: delete something", "it is no outage");
        let gone = Refusal::new(Why::NotFound, "jobs \"a\" not found").about(KindId::Job, "a");
        let json = Failure::of_refusal(&gone).to_json().to_string();
        let hint = "list what exists with hctl get jobs (-A: in all namespaces)";
        let expected = format!(r#"{{"code":6,"message":"jobs \"a\" not found","hint":"{hint}"}}"#);
        assert_eq!(json, expected);
    }
}
