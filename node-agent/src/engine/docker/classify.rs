//! What an error of the Docker Engine means to the caller.

use base::ErrorChain;
use bollard::errors::Error;

use super::short::useful_first;
use crate::engine::{EngineError, Reason};

/// What was being done when the error occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Reading, which changes nothing.
    Ask,
    /// Creating a container.
    Create,
    /// Starting one.
    Start,
    /// Anything else that changes something.
    Act,
}

/// Fragments of the engine's messages and the reasons that they indicate. The first one that occurs
/// counts.
const FRAGMENTS: &[(&str, Reason)] = &[
    ("port is already allocated", Reason::PortTaken),
    ("address already in use", Reason::PortTaken),
    ("invalid mount config", Reason::Mount),
    ("bind source path does not exist", Reason::Mount),
    ("invalid volume specification", Reason::Mount),
    ("Duplicate mount point", Reason::Mount),
    ("error mounting", Reason::Mount),
    // A device that is not there; the program itself is not at fault.
    ("error gathering device information", Reason::Invalid),
    ("executable file not found", Reason::CannotRun),
    ("no such file or directory", Reason::CannotRun),
    ("permission denied", Reason::CannotRun),
    ("exec format error", Reason::CannotRun),
    ("No command specified", Reason::CannotRun),
    // A path that leads through a file; the program itself is not at fault.
    ("not a directory", Reason::Invalid),
    ("file name too long", Reason::Invalid),
    ("argument list too long", Reason::CannotRun),
    ("cannot assign requested address", Reason::Invalid),
    ("error setting cgroup config", Reason::Invalid),
    ("Unknown runtime specified", Reason::Invalid),
    ("unknown or invalid runtime name", Reason::Invalid),
    ("could not select device driver", Reason::Invalid),
];

/// What the engine says of a device request that nothing of it can meet.
const NO_GPU: &str = "could not select device driver";

/// Whether the object does not exist for the engine.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the current state does not allow it: a name is taken, or a container is not running.
pub(super) fn is_conflict(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 409, .. })
}

/// The engine's own message, or the transport error.
pub(super) fn message(error: &Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = error {
        return message.trim().to_owned();
    }
    if let Error::DockerStreamError { error } = error {
        return error.trim().to_owned();
    }
    ErrorChain(error).to_string()
}

/// What the caller is to do about `error`.
pub(super) fn classify(error: &Error, stage: Stage) -> EngineError {
    let text = message(error);
    if is_about_room(&text) {
        // A full disk is not the task's fault, so the start is repeated without a limit.
        return EngineError::unavailable(text);
    }
    if let Error::DockerResponseServerError { status_code, .. } = error {
        return answered(*status_code, text, stage);
    }
    if let Error::DockerStreamError { .. } = error {
        // The engine reported an error in the middle of a streamed answer.
        return EngineError::failed(text);
    }
    let was_not_sent = matches!(error, Error::SocketNotFoundError(_))
        || matches!(error, Error::HyperLegacyError { err } if err.is_connect());
    match stage {
        Stage::Ask => EngineError::unavailable(text),
        Stage::Create | Stage::Start | Stage::Act if was_not_sent => EngineError::unavailable(text),
        Stage::Create | Stage::Start | Stage::Act => EngineError::unknown(text),
    }
}

/// Whether the engine's disk is full, in whatever it was doing.
fn is_about_room(text: &str) -> bool {
    ["no space left on device", "disk quota exceeded"].iter().any(|part| text.contains(part))
}

fn answered(status: u16, text: String, stage: Stage) -> EngineError {
    let about = FRAGMENTS.iter().find(|(part, _)| text.contains(part)).map(|(_, reason)| *reason);
    match (stage, status, about) {
        (Stage::Create | Stage::Start, _, Some(reason)) if text.contains(NO_GPU) => {
            let hint =
                "this node's engine has no driver for gpu; install the NVIDIA container toolkit";
            EngineError::refused(reason, format!("{hint}: {text}"))
        }
        (Stage::Create | Stage::Start, _, Some(reason)) => {
            EngineError::refused(reason, useful_first(&text))
        }
        // For example, a network that does not exist.
        (Stage::Create | Stage::Start, 400..500, None) => {
            EngineError::refused(Reason::Invalid, useful_first(&text))
        }
        (Stage::Ask | Stage::Act, 404, _) => EngineError::Gone,
        // Another operation on it is in progress, for example its removal.
        (Stage::Ask | Stage::Act, 409, _) => EngineError::unavailable(text),
        (Stage::Ask | Stage::Act, 400..500, _) => EngineError::refused(Reason::Invalid, text),
        // The engine is shutting down or starting up.
        (_, 503, _) => EngineError::unavailable(text),
        (_, _, _) => EngineError::failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_to_do_next() {
        let cases = [
            (
                Stage::Create,
                400,
                r#"invalid mount config for type "bind": bind source path does not exist: /x"#,
                Some(Reason::Mount),
            ),
            (
                Stage::Start,
                400,
                r#"OCI runtime create failed: exec: "/nope": stat /nope: no such file or directory: unknown"#,
                Some(Reason::CannotRun),
            ),
            (
                Stage::Start,
                500,
                "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
                Some(Reason::PortTaken),
            ),
            (Stage::Start, 404, "network nope not found", Some(Reason::Invalid)),
            (Stage::Create, 500, "Cannot mkdir: /bin/sh is not a directory", Some(Reason::Invalid)),
            (
                Stage::Create,
                500,
                "lstat /var/lib/docker/overlay2/b2/merged/bin/sh/x: not a directory",
                Some(Reason::Invalid),
            ),
            (
                Stage::Create,
                500,
                "lstat /var/lib/docker/overlay2/b2/merged/aaa: file name too long",
                Some(Reason::Invalid),
            ),
            (
                Stage::Start,
                500,
                "Error starting userland proxy: listen tcp4 10.9.9.9:80: bind: cannot assign \
                 requested address",
                Some(Reason::Invalid),
            ),
            (
                Stage::Start,
                500,
                "runc create failed: error setting cgroup config for procHooks process: the \
                 maximum allowed cpu-shares is 262144: unknown",
                Some(Reason::Invalid),
            ),
            (Stage::Start, 500, "something else", None),
        ];
        for (stage, status_code, message, expected) in cases {
            let error =
                Error::DockerResponseServerError { status_code, message: message.to_owned() };
            match (classify(&error, stage), expected) {
                (EngineError::Refused { reason, .. }, Some(expected)) => {
                    assert_eq!(reason, expected, "{message}");
                }
                (EngineError::Failed { .. }, None) => (),
                (other, _) => panic!("{message}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_says_its_reason_first() {
        let message = r#"OCI runtime create failed: exec: "/nope": stat /nope: no such file or directory: unknown"#;
        let message = message.to_owned();
        let error = Error::DockerResponseServerError { status_code: 400, message };
        let EngineError::Refused { message, .. } = classify(&error, Stage::Start) else { panic!() };
        assert!(message.starts_with(r#""/nope": no such file or directory (OCI"#), "{message}");
    }

    #[test]
    fn a_full_disk_is_waited_for() {
        let message = "error mounting: write /var/lib/docker/x: no space left on device".to_owned();
        for stage in [Stage::Ask, Stage::Create, Stage::Start, Stage::Act] {
            let message = message.clone();
            let error = Error::DockerResponseServerError { status_code: 500, message };
            assert!(
                matches!(classify(&error, stage), EngineError::Unavailable { .. }),
                "{stage:?}"
            );
        }
        let error = Error::DockerStreamError { error: message };
        assert!(matches!(classify(&error, Stage::Ask), EngineError::Unavailable { .. }));
    }

    #[test]
    fn a_cut_connection_leaves_a_change_unknown() {
        let cut = || Error::RequestTimeoutError;
        assert!(matches!(classify(&cut(), Stage::Ask), EngineError::Unavailable { .. }));
        assert!(matches!(classify(&cut(), Stage::Create), EngineError::Unknown { .. }));
        let absent = Error::SocketNotFoundError("/run/docker.sock".to_owned());
        assert!(matches!(classify(&absent, Stage::Create), EngineError::Unavailable { .. }));
    }
}
