//! Moves the useful part of the engine's message to the front.
//!
//! Docker, containerd, its shim and runc each prepend their own words, so the reason comes last, at
//! the end of a line that tables cut at the width of the terminal.

/// Prefixes that say nothing of the reason.
const WRAPPERS: &[&str] = &[
    "Error response from daemon: ",
    "failed to create task for container: ",
    "failed to create shim task: ",
    "failed to create shim: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "runc create failed: ",
    "runc run failed: ",
    "crun: ",
    "unable to start container process: ",
    "starting container process caused: ",
    "error during container init: ",
    "invalid mount config for type \"bind\": ",
];
/// What containerd appends to a reason for which it has no code.
const UNKNOWN: &str = ": unknown";

/// The message with its useful part first and then the whole; unchanged if no such part is known.
pub(super) fn useful_first(message: &str) -> String {
    match useful(message) {
        Some(useful) => format!("{useful} ({message})"),
        None => message.to_owned(),
    }
}

/// The useful part of a message, if it is known to have others.
fn useful(message: &str) -> Option<String> {
    let rest = unwrapped(message);
    if rest.len() == message.len() {
        return None;
    }
    let reason = rest.split_once(UNKNOWN).map_or(rest, |(reason, _)| reason);
    Some(command(reason).or_else(|| mount(reason)).unwrap_or_else(|| reason.to_owned()))
}

/// The message without known prefixes.
fn unwrapped(mut message: &str) -> &str {
    loop {
        let found = WRAPPERS.iter().find_map(|wrapper| message.strip_prefix(wrapper));
        match found.or_else(|| after_source_line(message)) {
            Some(rest) => message = rest,
            None => return message,
        }
    }
}

/// What follows `container_linux.go:380: `.
fn after_source_line(message: &str) -> Option<&str> {
    let (place, rest) = message.split_once(": ")?;
    let (_, line) = place.split_once(".go:")?;
    line.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
}

/// `exec: "/nope": stat /nope: no such file or directory` as `"/nope": no such file or directory`.
fn command(reason: &str) -> Option<String> {
    let rest = reason.strip_prefix("exec: \"")?;
    let (program, why) = rest.split_once("\": ")?;
    let why = why.strip_prefix(&format!("stat {program}: ")).unwrap_or(why);
    Some(format!("\"{program}\": {why}"))
}

/// `error mounting "/a" to rootfs at "/b": mount /a:/b (via ...), flags: 0x5000: not a directory` as
/// `cannot mount /a at /b: not a directory`.
fn mount(reason: &str) -> Option<String> {
    let rest = reason.strip_prefix("error mounting \"")?;
    let (source, rest) = rest.split_once("\" to rootfs at \"")?;
    let (target, rest) = rest.split_once("\": ")?;
    let why = rest.rsplit_once(": ").map_or(rest, |(_, why)| why);
    Some(format!("cannot mount {source} at {target}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker 20.10 with runc 1.1 says it, and others with other wrappers.
    #[test]
    fn the_reason_comes_first_and_nothing_is_lost() {
        for (message, expected) in [
            (
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "foo": executable file not found in $PATH: unknown"#,
                r#""foo": executable file not found in $PATH"#,
            ),
            (
                r#"OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "foo": executable file not found in $PATH: unknown"#,
                r#""foo": executable file not found in $PATH"#,
            ),
            (
                r#"failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/nope": stat /nope: no such file or directory: unknown"#,
                r#""/nope": no such file or directory"#,
            ),
            (
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/etc/passwd": permission denied: unknown"#,
                r#""/etc/passwd": permission denied"#,
            ),
            (
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/nope": stat /nope: no such file or directory: unknown"#,
                r#""/nope": no such file or directory"#,
            ),
            (
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error setting cgroup config for procHooks process: the minimum allowed cpu-shares is 2: unknown"#,
                "error setting cgroup config for procHooks process: the minimum allowed cpu-shares is 2",
            ),
            (
                r#"failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting "/tmp" to rootfs at "/bin/busybox": mount /tmp:/bin/busybox (via /proc/self/fd/6), flags: 0x5000: not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"#,
                "cannot mount /tmp at /bin/busybox: not a directory",
            ),
            (
                r#"invalid mount config for type "bind": bind source path does not exist: /nope/x"#,
                "bind source path does not exist: /nope/x",
            ),
        ] {
            assert_eq!(useful_first(message), format!("{expected} ({message})"));
        }
    }

    #[test]
    fn what_is_short_stays_as_it_is() {
        for message in [
            "",
            "port is already allocated",
            "Cannot mkdir: /bin/sh is not a directory",
            "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is \
             already allocated",
            "network nope not found",
            "unable to find user nobodyhere: no matching entries in passwd file",
            "a.go:x: y",
        ] {
            assert_eq!(useful_first(message), message);
        }
    }
}
