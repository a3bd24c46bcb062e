//! Why a request was refused: one variant for each thing that the caller does next, and its form on
//! the wire, which is Kubernetes' `Status`.
//!
//! What happened, and what each caller does next:
//!
//! | [`Why`] | controllers, scheduler | agent with a report | `hctl` |
//! |---|---|---|---|
//! | `Mistaken`, `Invalid` | never again as it is: say so on the object | say less | show what to mend |
//! | `TooLarge` | the same; a batch of several groups is cut | say less | show what to mend |
//! | `Forbidden`, `NotFound`, `Exists`, `Conflict` | look, decide anew | it is heard: what we know is over | an exit code of its own; `apply` and verbs read again after a conflict |
//! | `Expired` | read everything anew | the same | the same |
//! | `Contended`, `Busy`, `Unavailable`, `Late` | the same again, later | the same again, later | say so; watches and logs go on by themselves |
//! | `Full` | later; a leader keeps its lead without renewing | the same again, later | say how room is made |
//! | `Unknown` | look before deciding anew; a binding is sent again | the same again | say that it may have happened |
//! | `Deposed` | stop: another process leads | the same again | |
//! | `Internal` | later, and warn | the same again | show where to look |
//!
//! [`Why`] is the truth. Code, reason and cause are made from it here and read back into it here, and
//! nowhere else: nobody decides by a status code or by a text.

use std::error::Error;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::kind::KindId;
use crate::violation::Violation;

/// Why a request was refused: one variant for each thing that its sender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The request makes no sense to this server: mend the request.
    Mistaken(Mistake),
    /// The object is not valid: mend the object. The causes say where.
    Invalid,
    /// More than a request, an object or a transaction may hold: send less.
    TooLarge,
    /// Not allowed.
    Forbidden,
    /// What is asked for is not there.
    NotFound,
    /// Another object has the name: take another name, or delete that object first.
    Exists,
    /// The object is not, or not any more, what the request takes it for: read it, decide anew.
    Conflict,
    /// Others changed the object at every try, so that nothing was decided: send the same again.
    Contended,
    /// The sender writes as a leader and leads no more: stop.
    Deposed,
    /// The point in history is no longer kept, or was never told by this store: read everything anew.
    Expired,
    /// Too much at once: send the same again, later.
    Busy,
    /// Something that is needed is out of reach, and nothing happened: send the same again, later.
    Unavailable,
    /// The store has no room, and nothing happened: what needs room has to wait, deletions need none.
    Full,
    /// A read took longer than it may: read again.
    Late,
    /// The change may have been made, or may still be: look before deciding anew.
    Unknown,
    /// A bug of the server, or something stored that it cannot read. Its log says more.
    Internal,
}

/// What is wrong with a request that makes no sense. Our own clients show the message to the user,
/// but for [`Mistake::Operation`]; stock clients, which know the status codes, tell the others apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mistake {
    /// The content of the request.
    Request,
    /// A batch has an operation that this server does not know: it is of an earlier version. Nothing
    /// of the batch was done; the sender writes the same with operations that are known.
    Operation,
    /// The method is not allowed for this path.
    Method,
    /// The content type of the body is not supported.
    MediaType,
}

/// How a [`Why`] is written: an HTTP status code, Kubernetes' reason, and, where several variants
/// share both, a cause in the details that tells them apart.
struct Form {
    code: u16,
    reason: &'static str,
    cause: Option<&'static str>,
}

impl Why {
    /// Every variant.
    pub const ALL: [Why; 19] = [
        Why::Mistaken(Mistake::Request),
        Why::Mistaken(Mistake::Operation),
        Why::Mistaken(Mistake::Method),
        Why::Mistaken(Mistake::MediaType),
        Why::Invalid,
        Why::TooLarge,
        Why::Forbidden,
        Why::NotFound,
        Why::Exists,
        Why::Conflict,
        Why::Contended,
        Why::Deposed,
        Why::Expired,
        Why::Busy,
        Why::Unavailable,
        Why::Full,
        Why::Late,
        Why::Unknown,
        Why::Internal,
    ];

    /// Code and reason are those of Kubernetes, so that stock clients react as they should.
    fn form(self) -> Form {
        let (code, reason, cause) = match self {
            Why::Mistaken(Mistake::Request) => (400, "BadRequest", None),
            Why::Mistaken(Mistake::Operation) => (400, "BadRequest", Some("UnknownOperation")),
            Why::Mistaken(Mistake::Method) => (405, "MethodNotAllowed", None),
            Why::Mistaken(Mistake::MediaType) => (415, "UnsupportedMediaType", None),
            Why::Invalid => (422, "Invalid", None),
            Why::TooLarge => (413, "RequestEntityTooLarge", None),
            Why::Forbidden => (403, "Forbidden", None),
            Why::NotFound => (404, "NotFound", None),
            Why::Exists => (409, "AlreadyExists", None),
            Why::Conflict => (409, "Conflict", None),
            Why::Contended => (409, "Conflict", Some("Contended")),
            Why::Deposed => (409, "Conflict", Some("Deposed")),
            Why::Expired => (410, "Expired", None),
            Why::Busy => (429, "TooManyRequests", None),
            Why::Unavailable => (503, "ServiceUnavailable", None),
            Why::Full => (503, "ServiceUnavailable", Some("StoreFull")),
            Why::Late => (504, "Timeout", Some("ReadTimeout")),
            Why::Unknown => (504, "Timeout", None),
            Why::Internal => (500, "InternalError", None),
        };
        Form { code, reason, cause }
    }

    /// The HTTP status code.
    pub fn code(self) -> u16 {
        self.form().code
    }

    /// The word in the results of a batch: the cause where there is one, else the reason.
    pub(crate) fn word(self) -> &'static str {
        let form = self.form();
        form.cause.unwrap_or(form.reason)
    }

    /// The variant that a word in the results of a batch means; nothing for a word of a newer
    /// version.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.word() == word)
    }

    /// The variant that an answer means; nothing for an answer that no Heliox server gives. A proxy
    /// between client and server answers without a reason, or with one that is not ours. Then the
    /// status code decides, except that "not found" is only believed when a Heliox server says it:
    /// a proxy's 404 must not make a component take an object for deleted.
    fn of_form(code: u16, reason: &str, causes: &[StatusCause]) -> Option<Self> {
        let has = |word: &str| causes.iter().any(|cause| cause.reason.as_deref() == Some(word));
        let fits = |why: &Why| why.form().code == code && why.form().reason == reason;
        let named = |why: &Why| fits(why) && why.form().cause.is_some_and(has);
        let plain = |why: &Why| fits(why) && why.form().cause.is_none();
        let find = |fits: &dyn Fn(&Why) -> bool| Self::ALL.into_iter().find(fits);
        let by_code = || Self::of_code(code).filter(|why| *why != Why::NotFound);
        find(&named).or_else(|| find(&plain)).or_else(by_code)
    }

    /// The variant that a status code means without a reason.
    fn of_code(code: u16) -> Option<Self> {
        Some(match code {
            400 => Why::Mistaken(Mistake::Request),
            401 | 403 => Why::Forbidden,
            404 => Why::NotFound,
            405 => Why::Mistaken(Mistake::Method),
            409 => Why::Conflict,
            410 => Why::Expired,
            413 => Why::TooLarge,
            415 => Why::Mistaken(Mistake::MediaType),
            422 => Why::Invalid,
            429 => Why::Busy,
            500 => Why::Internal,
            // A gateway may have passed the request on before it gave up.
            502 | 504 => Why::Unknown,
            503 => Why::Unavailable,
            _ => return None,
        })
    }
}

/// A refusal: the reason, a message for people, and what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What the sender does next.
    pub why: Why,
    /// What happened and what to do, for people.
    pub message: String,
    /// As on the wire, without the cause that encodes `why`.
    details: Option<Box<StatusDetails>>,
}

impl Refusal {
    /// A refusal.
    pub fn new(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into(), details: None }
    }

    /// Adds which object it is about.
    #[must_use]
    pub fn about(mut self, kind: KindId, name: &str) -> Self {
        let info = kind.info();
        let details = self.details.get_or_insert_default();
        details.name = Some(name.to_owned());
        details.group = (!info.group.is_empty()).then(|| info.group.to_owned());
        details.kind = Some(info.plural.to_owned());
        self
    }

    /// Adds a cause that stock clients look for.
    #[must_use]
    pub fn with_cause(mut self, cause: StatusCause) -> Self {
        self.details.get_or_insert_default().causes.get_or_insert_default().push(cause);
        self
    }

    /// Adds after how many seconds the client is to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = Some(seconds);
        self
    }

    /// The refusal of an invalid object: each violation is a cause.
    pub fn invalid(kind: KindId, name: &str, violations: &[Violation]) -> Self {
        let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
        let message = format!("{kind} {name:?} is invalid: {}", list.join("; "));
        let causes = violations.iter().map(|violation| StatusCause {
            field: Some(violation.path.clone()),
            message: Some(match &violation.hint {
                Some(hint) => format!("{} ({hint})", violation.message),
                None => violation.message.clone(),
            }),
            reason: Some("FieldValueInvalid".to_owned()),
        });
        let mut refusal = Self::new(Why::Invalid, message).about(kind, name);
        refusal.details.get_or_insert_default().causes = Some(causes.collect());
        refusal
    }

    /// The plural of the kind that it is about, if it is about an object.
    pub fn plural(&self) -> Option<&str> {
        self.details.as_ref()?.kind.as_deref()
    }

    /// The name of the object that it is about, if it is about an object.
    pub fn name(&self) -> Option<&str> {
        self.details.as_ref()?.name.as_deref()
    }

    /// The violations, each with its field.
    pub fn causes(&self) -> &[StatusCause] {
        self.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default()
    }

    /// The refusal as a Kubernetes `Status`.
    pub fn to_status(&self) -> Status {
        let form = self.why.form();
        let mut details = self.details.clone();
        if let Some(word) = form.cause {
            let message = Some(self.message.clone());
            let cause = StatusCause { reason: Some(word.to_owned()), message, field: None };
            details.get_or_insert_default().causes.get_or_insert_default().push(cause);
        }
        Status {
            status: Some("Failure".to_owned()),
            message: Some(self.message.clone()),
            reason: Some(form.reason.to_owned()),
            code: Some(i32::from(form.code)),
            details: details.map(|details| *details),
            ..Status::default()
        }
    }

    /// Reads a `Status`; nothing if it is not a refusal of a Heliox server.
    pub fn of_status(status: Status) -> Option<Self> {
        let code = u16::try_from(status.code?).ok()?;
        let mut details = status.details.map(Box::new);
        let causes = details.as_ref().and_then(|details| details.causes.as_deref());
        let reason = status.reason.as_deref().unwrap_or_default();
        let mut why = Why::of_form(code, reason, causes.unwrap_or_default())?;
        let message = status.message.unwrap_or_else(|| format!("the server answered {code}"));
        if why == Why::Mistaken(Mistake::Request) && tells_of_unknown_operation(&message) {
            why = Why::Mistaken(Mistake::Operation);
        }
        if let (Some(word), Some(found)) = (why.form().cause, &mut details) {
            let others = |cause: &StatusCause| cause.reason.as_deref() != Some(word);
            let causes = found.causes.take().map(|causes| causes.into_iter().filter(others));
            found.causes = causes.map(Iterator::collect).filter(|left: &Vec<_>| !left.is_empty());
            details = details.filter(|left| **left != StatusDetails::default());
        }
        Some(Self { why, message, details })
    }

    /// Reads an answer whose status code is not a success; nothing if no Heliox server gives it. A
    /// body that is not a `Status` comes from a proxy and is ignored.
    pub fn of_answer(code: u16, body: &[u8]) -> Option<Self> {
        let status = serde_json::from_slice::<Status>(body).unwrap_or_default();
        Self::of_status(Status { code: Some(i32::from(code)), ..status })
    }

    /// Reads an agent's answer, whose body is a line of plain text.
    pub fn of_line(code: u16, line: &str) -> Option<Self> {
        Some(Self::new(Why::of_code(code)?, line))
    }
}

/// Whether a server refuses a batch in the words of versions that did not have
/// [`Mistake::Operation`] yet, because of an operation that was new after them.
fn tells_of_unknown_operation(message: &str) -> bool {
    let is_named = |operation| {
        let forms =
            [format!("unknown variant `{operation}`"), format!("unknown word \"{operation}\"")];
        forms.iter().any(|form| message.contains(form))
    };
    message.starts_with("cannot parse the body: ")
        && ["createTasks", "createWithStatus"].into_iter().any(is_named)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn cause(reason: &str) -> StatusCause {
        StatusCause { reason: Some(reason.to_owned()), ..StatusCause::default() }
    }

    /// A variant that is missing in [`Why::ALL`] could be written and never be read back.
    #[test]
    fn all_are_all() {
        let place = |why: Why| match why {
            Why::Mistaken(Mistake::Request) => 0,
            Why::Mistaken(Mistake::Operation) => 1,
            Why::Mistaken(Mistake::Method) => 2,
            Why::Mistaken(Mistake::MediaType) => 3,
            Why::Invalid => 4,
            Why::TooLarge => 5,
            Why::Forbidden => 6,
            Why::NotFound => 7,
            Why::Exists => 8,
            Why::Conflict => 9,
            Why::Contended => 10,
            Why::Deposed => 11,
            Why::Expired => 12,
            Why::Busy => 13,
            Why::Unavailable => 14,
            Why::Full => 15,
            Why::Late => 16,
            Why::Unknown => 17,
            Why::Internal => 18,
        };
        let places: Vec<usize> = Why::ALL.into_iter().map(place).collect();
        assert_eq!(places, (0..Why::ALL.len()).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        for why in Why::ALL {
            let bare = Refusal::new(why, "no");
            let full = bare.clone().about(KindId::Job, "a").with_cause(cause("Other"));
            let invalid = Refusal::invalid(KindId::Job, "a", &[Violation::new("spec", "is wrong")]);
            let late = bare.clone().retry_after(3);
            for refusal in [bare, full, late, Refusal { why, ..invalid }] {
                let status = refusal.to_status();
                assert_eq!(status.code, Some(i32::from(why.code())));
                let body = serde_json::to_vec(&status).unwrap();
                assert_eq!(Refusal::of_answer(why.code(), &body), Some(refusal.clone()));
                assert_eq!(Refusal::of_status(status), Some(refusal));
            }
            assert_eq!(Why::of_word(why.word()), Some(why));
        }
        assert_eq!(Why::of_word("OfANewerVersion"), None);
    }

    /// Stock clients and our own of other versions depend on these forms.
    #[test]
    fn the_forms_are_a_contract() {
        let line = |why: Why| {
            let Form { code, reason, cause } = why.form();
            format!("{why:?}: {code} {reason} {}\n", cause.unwrap_or_default()).replace(" \n", "\n")
        };
        expect![[r#"
            Mistaken(Request): 400 BadRequest
            Mistaken(Operation): 400 BadRequest UnknownOperation
            Mistaken(Method): 405 MethodNotAllowed
            Mistaken(MediaType): 415 UnsupportedMediaType
            Invalid: 422 Invalid
            TooLarge: 413 RequestEntityTooLarge
            Forbidden: 403 Forbidden
            NotFound: 404 NotFound
            Exists: 409 AlreadyExists
            Conflict: 409 Conflict
            Contended: 409 Conflict Contended
            Deposed: 409 Conflict Deposed
            Expired: 410 Expired
            Busy: 429 TooManyRequests
            Unavailable: 503 ServiceUnavailable
            Full: 503 ServiceUnavailable StoreFull
            Late: 504 Timeout ReadTimeout
            Unknown: 504 Timeout
            Internal: 500 InternalError
        "#]]
        .assert_eq(&Why::ALL.map(line).concat());
    }

    /// The texts are those of the two forms in which earlier versions said it.
    #[test]
    fn an_apiserver_of_an_earlier_version_is_known_by_what_it_does_not_know() {
        let of = |message: &str| {
            let status = Refusal::new(Why::Mistaken(Mistake::Request), message).to_status();
            Refusal::of_status(status).unwrap().why
        };
        for message in [
            "cannot parse the body: unknown variant `createTasks`, expected one of `create`",
            "cannot parse the body: groups[0].ops[0]: unknown word \"createWithStatus\" (write one \
             of create, status)",
        ] {
            assert_eq!(of(message), Why::Mistaken(Mistake::Operation), "{message}");
        }
        for message in [
            "cannot parse the body: groups[0].ops[0].createTasks.indexes: required",
            "cannot parse the body: groups[0].ops[0]: unknown word \"creates\" (write one of create)",
            "too many operations: 2000 (maximum 1000)",
        ] {
            assert_eq!(of(message), Why::Mistaken(Mistake::Request), "{message}");
        }
    }

    #[test]
    fn an_answer_of_somebody_else_is_read_by_its_code() {
        let of = |code, body: &str| Refusal::of_answer(code, body.as_bytes()).map(|it| it.why);
        assert_eq!(of(502, "<html>bad gateway</html>"), Some(Why::Unknown));
        assert_eq!(of(401, r#"{"reason":"Unauthorized"}"#), Some(Why::Forbidden));
        assert_eq!(of(409, r#"{"reason":"OfANewerVersion"}"#), Some(Why::Conflict));
        assert_eq!(of(301, ""), None);
        let codes = (100..600).filter(|code| of(*code, "{}").is_some()).collect::<Vec<_>>();
        let known = [400, 401, 403, 405, 409, 410, 413, 415, 422, 429, 500, 502, 503, 504];
        assert_eq!(codes, known, "that nothing is there is believed of a Heliox alone");
        let without = Refusal::of_answer(503, b"").unwrap();
        assert_eq!(without, Refusal::new(Why::Unavailable, "the server answered 503"));
        let of_agent = Refusal::of_line(429, "too many logs").unwrap();
        assert_eq!(of_agent, Refusal::new(Why::Busy, "too many logs"));
    }
}
