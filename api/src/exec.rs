//! Running a command beside a task: the request, and how the command's streams travel. Pure.
//!
//! Clients speak Kubernetes' `v5.channel.k8s.io` over a WebSocket: the first byte of each message
//! is its channel. Between an apiserver and an agent the same messages travel as frames in the two
//! bodies of one HTTP request: one byte of channel, four bytes of length, and the message. The
//! first frame that an agent receives holds an [`ExecRequest`].

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};
use serde::{Deserialize, Serialize};

use crate::status::{Refusal, Why};

/// The WebSocket subprotocol.
pub const PROTOCOL: &str = "v5.channel.k8s.io";
/// Most bytes of one message. Longer data is split.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most words of a command.
pub const COMMAND_WORDS_MAX: usize = 256;
/// Most bytes of the command's words together: they travel in a URL.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024;

const HEADER_BYTES: usize = 5;
const NON_ZERO_EXIT: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard input of the command.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error. With a terminal, everything comes on standard output.
    Stderr,
    /// How the command ended, as a Kubernetes `Status`. It is the last message.
    Status,
    /// The size of the client's terminal, as a [`TerminalSize`].
    Resize,
    /// The channel whose number is the message's only byte is closed.
    Close,
}

impl Channel {
    /// The number of the channel on the wire.
    pub fn number(self) -> u8 {
        match self {
            Channel::Stdin => 0,
            Channel::Stdout => 1,
            Channel::Stderr => 2,
            Channel::Status => 3,
            Channel::Resize => 4,
            Channel::Close => 255,
        }
    }

    /// The channel of a number; nothing for a number that is not used.
    pub fn of_number(number: u8) -> Option<Self> {
        let all = [
            Channel::Stdin,
            Channel::Stdout,
            Channel::Stderr,
            Channel::Status,
            Channel::Resize,
            Channel::Close,
        ];
        all.into_iter().find(|channel| channel.number() == number)
    }
}

/// A command that an agent is asked to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether the command is given standard input.
    pub stdin: bool,
    /// Whether it is given a terminal.
    pub tty: bool,
}

impl ExecRequest {
    /// Why the command is refused; nothing if it may be run.
    pub fn problem(&self) -> Option<String> {
        let bytes: usize = self.command.iter().map(String::len).sum();
        if self.command.first().is_none_or(String::is_empty) {
            return Some("name the command to run".to_owned());
        }
        if self.command.len() > COMMAND_WORDS_MAX || bytes > COMMAND_BYTES_MAX {
            return Some(format!(
                "a command may have at most {COMMAND_WORDS_MAX} words and {COMMAND_BYTES_MAX} bytes"
            ));
        }
        let is_odd = self.command.iter().any(|word| word.contains('\0'));
        is_odd.then(|| "a command must not contain NUL bytes".to_owned())
    }
}

/// The size of a terminal in characters, as Kubernetes writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The status of a command that exited with `code`.
pub fn ended(code: i32) -> Status {
    if code == 0 {
        return Status { status: Some("Success".to_owned()), ..Status::default() };
    }
    let cause = StatusCause {
        reason: Some(EXIT_CODE.to_owned()),
        message: Some(code.to_string()),
        ..StatusCause::default()
    };
    let message = format!("command terminated with non-zero exit code: exit status {code}");
    Status {
        reason: Some(NON_ZERO_EXIT.to_owned()),
        details: Some(StatusDetails { causes: Some(vec![cause]), ..StatusDetails::default() }),
        ..Refusal::new(Why::Internal, message).to_status()
    }
}

/// The exit code that a status tells; nothing if the command did not run to its end.
pub fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    let cause = causes.iter().find(|cause| cause.reason.as_deref() == Some(EXIT_CODE))?;
    cause.message.as_ref()?.parse().ok()
}

/// Encodes a message as a frame.
pub fn frame(channel: Channel, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a message is far below 4 GiB");
    let mut frame = Vec::with_capacity(HEADER_BYTES + bytes.len());
    frame.push(channel.number());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// The bytes are not frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("received invalid exec frames")
    }
}

/// Decodes frames from bytes that arrive in pieces.
///
/// Invariant: it holds at most one frame beyond the bytes that were added last.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// How many of the bytes were decoded already.
    taken: usize,
}

impl Frames {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame that is complete; nothing until more bytes come.
    ///
    /// # Errors
    /// The channel is not known, or the message is too long.
    pub fn take(&mut self) -> Result<Option<(Channel, Vec<u8>)>, Malformed> {
        let rest = &self.bytes[self.taken..];
        let Some((header, rest)) = rest.split_at_checked(HEADER_BYTES) else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let channel = Channel::of_number(header[0]).ok_or(Malformed)?;
        if length > MESSAGE_BYTES_MAX {
            return Err(Malformed);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = message.to_vec();
        self.taken += HEADER_BYTES + length;
        Ok(Some((channel, message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let sent = [
            (Channel::Stdin, b"abc".to_vec()),
            (Channel::Close, vec![0]),
            (Channel::Status, Vec::new()),
            (Channel::Stdout, vec![7; MESSAGE_BYTES_MAX]),
        ];
        let wire: Vec<u8> =
            sent.iter().flat_map(|(channel, bytes)| frame(*channel, bytes)).collect();
        for piece in [1, 4, 5, 7, 1000, wire.len()] {
            let (mut frames, mut received) = (Frames::default(), Vec::new());
            for bytes in wire.chunks(piece) {
                frames.add(bytes);
                while let Some(frame) = frames.take().unwrap() {
                    received.push(frame);
                }
            }
            assert!(received == sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_too_long_or_of_no_channel_is_refused_before_it_is_there() {
        for wire in [[9, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 255, 255, 255, 255]] {
            let mut frames = Frames::default();
            frames.add(&wire);
            assert_eq!(frames.take(), Err(Malformed), "{wire:?}");
        }
    }

    #[test]
    fn exit_codes_travel_as_kubernetes_writes_them() {
        for code in [0, 1, 137] {
            assert_eq!(exit_code(&ended(code)), Some(code));
        }
        assert_eq!(exit_code(&Refusal::new(Why::Internal, "no").to_status()), None);
        let json = serde_json::to_value(ended(3)).unwrap();
        assert_eq!(
            (&json["reason"], &json["status"]),
            (&"NonZeroExitCode".into(), &"Failure".into())
        );
        let cause = serde_json::json!([{ "reason": "ExitCode", "message": "3" }]);
        assert_eq!(json["details"]["causes"], cause);
        let size = serde_json::to_string(&TerminalSize { width: 80, height: 24 }).unwrap();
        assert_eq!(size, r#"{"Width":80,"Height":24}"#);
    }

    #[test]
    fn commands_are_bounded() {
        let problem = |command: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            ExecRequest { command, stdin: false, tty: false }.problem()
        };
        assert_eq!(problem(&["sh", "-c", ""]), None);
        for bad in [&[][..], &[""], &["a\0"], &["a"; COMMAND_WORDS_MAX + 1]] {
            assert!(problem(bad).is_some());
        }
        assert!(problem(&[&"x".repeat(COMMAND_BYTES_MAX + 1)]).is_some());
    }
}
