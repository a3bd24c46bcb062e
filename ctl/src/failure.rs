//! Why a command did not do what it should, and the exit code that says so.

use std::error::Error as _;
use std::fmt;
use std::io;

use api::KindId;
use api::manifest::Problem;
use base::ErrorChain;
use client::{Error, cause};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde_json::{Value, json};

use crate::namesakes::Missing;
use crate::target::{self, Target};

/// Exit codes: a contract with scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The reader of stdout went away: nothing is wrong, and nobody listens. It ends a command that only
    /// shows something; one that changes something, or waits, is finished.
    Unread,
    /// A command that was run beside a task ended with this exit code.
    Command(u8),
    /// Any other error, such as a command line that makes no sense.
    Error,
    /// It was accepted, and no node takes its tasks.
    Unschedulable,
    /// What was waited for failed.
    Failed,
    /// The time was up.
    Timeout,
    /// It is there already, or changed meanwhile.
    Conflict,
    /// It is not there.
    NotFound,
    /// It is not allowed.
    Forbidden,
}

impl Code {
    /// As the process ends with it.
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

    /// What a refusal of the server means.
    fn of_http(code: i32) -> Self {
        match code {
            401 | 403 => Code::Forbidden,
            404 => Code::NotFound,
            409 => Code::Conflict,
            504 => Code::Timeout,
            _ => Code::Error,
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What is wrong in manifests.
    pub problems: Vec<Problem>,
    /// What is not there, where something is missing: others may have its name.
    pub missing: Option<Box<Missing>>,
    /// Whether the same would become of everything else that is asked: nobody answers.
    pub is_last: bool,
    /// Why there was no answer, if there may be one later: the server is away, or has too much to do.
    pub may_pass: Option<String>,
}

impl Failure {
    /// An error.
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

    /// A command line that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(message)
    }

    /// The same with another exit code.
    #[must_use]
    pub fn code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// An object is not there.
    pub fn not_found(target: &Target) -> Self {
        let plural = target.kind.info().plural;
        let failure = Self::new(format!("{plural} {:?} not found", target.name));
        let failure = failure.code(Code::NotFound).hint(what_is_there(plural));
        Self { missing: Some(Missing::Object(target.clone()).into()), ..failure }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the call to the server at `server` came to.
    pub fn of_call(error: &Error, server: &str) -> Self {
        let was_reached = error.status().is_some() || error.not_now().is_some();
        let may_pass = match error {
            Error::Unavailable(source) | Error::Unknown(source) => Some(cause(source.as_ref())),
            Error::Refused(_) | Error::Malformed(_) => None,
        };
        Self { is_last: !was_reached, may_pass, ..Self::of_error(error, server) }
    }

    fn of_error(error: &Error, server: &str) -> Self {
        if let Some(why) = error.not_now() {
            // The apiserver is there, and says of what it is not.
            return Self::new(why).hint("try again in a moment");
        }
        match error {
            Error::Unavailable(_) if error.is_silent() => {
                Self::new(silent(server)).hint(OTHER_SERVER)
            }
            Error::Unavailable(source) => unavailable(source.as_ref(), server),
            // The server says itself that the change may have been made.
            Error::Unknown(_) if error.in_doubt().is_some() => {
                Self::new(error.in_doubt().unwrap_or_default())
                    .hint("look with hctl get before trying again")
            }
            Error::Unknown(_) if error.is_silent() => {
                Self::new(format!("{}; the change may have been made", silent(server)))
                    .hint("look with hctl get before trying again")
            }
            Error::Unknown(source) => {
                let why = cause(source.as_ref());
                Self::new(format!("the answer of {server} was lost: {why}"))
                    .hint("the change may have been made; look with hctl get before trying again")
            }
            Error::Refused(status) => Self::of_status(status),
            Error::Malformed(source) => {
                let why = ErrorChain(source.as_ref());
                Self::new(format!("the answer of {server} is not understood: {why}"))
                    .hint("check the address and the versions with hctl version")
            }
        }
    }

    /// The same of a request whose answer did not come before the time of the whole command was up:
    /// nothing else is asked then.
    #[must_use]
    pub fn too_late(self) -> Self {
        let message = format!("the time is up: {}", self.message);
        Self { code: Code::Timeout, message, is_last: true, may_pass: None, ..self }
    }

    /// A refusal.
    pub fn of_status(status: &Status) -> Self {
        let message = status.message.clone().unwrap_or_else(|| "the server refused".to_owned());
        let code = Code::of_http(status.code.unwrap_or_default());
        let failure = Self::new(message).code(code);
        let plural = status.details.as_ref().and_then(|details| details.kind.as_deref());
        match (code, plural) {
            (Code::NotFound, Some(plural)) => {
                let name = status.details.as_ref().and_then(|details| details.name.clone());
                let missing = KindId::from_word(plural).zip(name);
                let missing =
                    missing.map(|(kind, name)| Missing::Object(Target::new(kind, name)).into());
                Self { missing, ..failure.hint(what_is_there(plural)) }
            }
            (Code::Conflict, Some(_)) if status.reason.as_deref() == Some("AlreadyExists") => {
                failure.hint("choose another name, or delete that one first")
            }
            (Code::Conflict, _) => {
                failure.hint("check its status with hctl describe, then try again")
            }
            _ => failure,
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

/// How to see which objects of a kind there are.
pub fn what_is_there(plural: &str) -> String {
    let kind = KindId::from_word(plural);
    let is_namespaced = kind.is_none_or(KindId::is_namespaced);
    let plural = match kind {
        Some(kind) => target::plural(kind),
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

/// What to do where something is there, which may be no apiserver, or one that hangs.
const OTHER_SERVER: &str =
    "check whether it hangs or is stopped, or name another with --server or HELIOX_SERVER";

/// What is said of a server that is there, and silent.
fn silent(server: &str) -> String {
    format!("the server at {server} accepts connections and does not answer")
}

fn unavailable(source: &(dyn std::error::Error + 'static), server: &str) -> Failure {
    let why = cause(source);
    if let Some(io) = of_the_system(source).filter(|io| !client::broke_off(io)) {
        if io.kind() == io::ErrorKind::TimedOut {
            // A full queue of connections looks like a host that is not there.
            return Failure::new(format!("the server at {server} accepts no connection: {why}"))
                .hint(OTHER_SERVER);
        }
        return Failure::new(format!("no apiserver at {server}: {why}"))
            .hint("start one with `heliox dev`, or name another with --server or HELIOX_SERVER");
    }
    Failure::new(format!("the apiserver at {server} does not answer now: {why}"))
        .hint("try again in a moment")
}

/// What the system said of a connection, if it did: `connection refused`.
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
    use api::status::{Reason, failure, failure_of};

    use super::*;

    #[test]
    fn exit_codes_are_a_contract() {
        let cases = [
            (Reason::BadRequest, 1),
            (Reason::Forbidden, 7),
            (Reason::NotFound, 6),
            (Reason::AlreadyExists, 5),
            (Reason::Conflict, 5),
            (Reason::Invalid, 1),
            (Reason::Timeout, 4),
            (Reason::InternalError, 1),
        ];
        for (reason, code) in cases {
            let error = Error::Refused(Box::new(failure(reason, "no")));
            assert_eq!(Failure::of_call(&error, "s").code.number(), code, "{reason:?}");
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
        let body = serde_json::to_vec(&api::status::failure(Reason::Timeout, doubt)).unwrap();
        let doubt = Error::of_answer(http::StatusCode::GATEWAY_TIMEOUT, &body);
        let doubt = Failure::of_call(&doubt, "http://h:1").to_json().to_string();
        assert_eq!(doubt.matches("may have been made").count(), 1, "{doubt}");
        let lost = api::status::failure(Reason::ServiceUnavailable, "node \"b\" is lost");
        let body = serde_json::to_vec(&lost).unwrap();
        let lost = Error::of_answer(http::StatusCode::SERVICE_UNAVAILABLE, &body);
        let lost = Failure::of_call(&lost, "http://h:1");
        assert_eq!(lost.message, "node \"b\" is lost", "the apiserver is not to blame");
        assert!(!lost.is_last, "others may answer");
        let see = "list what exists with hctl get";
        assert_eq!(what_is_there("workflowruns"), format!("{see} runs (-A: in all namespaces)"));
        assert_eq!(what_is_there("nodes"), format!("{see} nodes"));
        let gone = failure_of(Reason::NotFound, KindId::Job, "a", "jobs \"a\" not found");
        let json = Failure::of_status(&gone).to_json().to_string();
        let hint = "list what exists with hctl get jobs (-A: in all namespaces)";
        let expected = format!(r#"{{"code":6,"message":"jobs \"a\" not found","hint":"{hint}"}}"#);
        assert_eq!(json, expected);
    }
}
