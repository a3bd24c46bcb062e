//! Rules of probes, and of the time between a stop and its signal.

use super::probe::{HttpGet, PortRef, Probe, ProbeKind};
use super::{DRAIN_DELAY_MAX, PROBE_SECONDS_MAX, PROBE_THRESHOLD_MAX, Protocol, Template};
use crate::violation::{Violation, nearest};

/// Longest path of an HTTP probe, in bytes.
const PATH_BYTES_MAX: usize = 2_048;
/// Longest host, in bytes: the longest name that DNS has.
const HOST_BYTES_MAX: usize = 253;
/// Most headers.
const HEADERS_MAX: usize = 100;
/// Longest value of a header, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;
/// Longest name of a header, in bytes.
const HEADER_NAME_BYTES_MAX: usize = 256;
/// Most words of a command.
const COMMAND_MAX: usize = 1_000;

/// What is wrong with the probes of a template that stands at `path`.
pub(super) fn probes(template: &Template, path: &str, found: &mut Vec<Violation>) {
    for (kind, wanted) in template.probes() {
        let at = format!("{path}.{}", kind.field());
        numbers(kind, wanted, &at, found);
        let actions = [
            ("httpGet", wanted.http_get.is_some()),
            ("tcpSocket", wanted.tcp_socket.is_some()),
            ("exec", wanted.exec.is_some()),
        ];
        match actions.iter().filter(|(_, is_given)| *is_given).count() {
            0 => found
                .push(Violation::new(at.clone(), "one of httpGet, tcpSocket and exec is required")),
            1 => (),
            _ => found.push(Violation::new(
                at.clone(),
                "only one of httpGet, tcpSocket and exec is allowed",
            )),
        }
        if let Some(get) = &wanted.http_get {
            let at = format!("{at}.httpGet");
            socket(template, (&get.port, get.host.as_deref()), &at, found);
            http(get, &at, found);
        }
        if let Some(tcp) = &wanted.tcp_socket {
            let at = format!("{at}.tcpSocket");
            socket(template, (&tcp.port, tcp.host.as_deref()), &at, found);
        }
        if let Some(exec) = &wanted.exec {
            command(&exec.command, &format!("{at}.exec.command"), found);
        }
    }
}

/// What is wrong with the drain delay of a template that stands at `path`.
pub(super) fn drain_delay(template: &Template, path: &str, found: &mut Vec<Violation>) {
    if let Some(delay) = template.drain_delay.filter(|delay| *delay > DRAIN_DELAY_MAX) {
        let why = format!("{delay}: at most {DRAIN_DELAY_MAX} is allowed");
        found.push(Violation::new(format!("{path}.drainDelay"), why));
    }
}

fn numbers(kind: ProbeKind, probe: &Probe, path: &str, found: &mut Vec<Violation>) {
    let fields = [
        ("initialDelaySeconds", probe.initial_delay_seconds, 0, PROBE_SECONDS_MAX),
        ("periodSeconds", probe.period_seconds, 1, PROBE_SECONDS_MAX),
        ("timeoutSeconds", probe.timeout_seconds, 1, PROBE_SECONDS_MAX),
        ("successThreshold", probe.success_threshold, 1, PROBE_THRESHOLD_MAX),
        ("failureThreshold", probe.failure_threshold, 1, PROBE_THRESHOLD_MAX),
    ];
    for (field, number, least, most) in fields {
        if let Some(number) = number.filter(|number| !(least..=most).contains(number)) {
            let why = format!("{number} is not a number from {least} to {most}");
            found.push(Violation::new(format!("{path}.{field}"), why));
        }
    }
    let must_be_one = match kind {
        ProbeKind::Startup | ProbeKind::Liveness => true,
        ProbeKind::Readiness => false,
    };
    let more = |threshold: &u32| (2..=PROBE_THRESHOLD_MAX).contains(threshold);
    if must_be_one && probe.success_threshold.as_ref().is_some_and(more) {
        let why = format!("must be 1 for a {} probe", kind.word());
        let violation = Violation::new(format!("{path}.successThreshold"), why);
        found.push(violation.hint("leave it out"));
    }
}

/// What is wrong with where a probe connects to.
fn socket(
    template: &Template,
    (port, host): (&PortRef, Option<&str>),
    path: &str,
    found: &mut Vec<Violation>,
) {
    match port {
        PortRef::Number(0) => {
            let why = "a port is a number from 1 to 65535, or the name of a port";
            found.push(Violation::new(format!("{path}.port"), why));
        }
        PortRef::Number(_) => (),
        PortRef::Name(name) => found.extend(named_port(template, name, path)),
    }
    let mode = template.network_mode.as_deref().unwrap_or_default();
    if host.is_none() && mode == "none" {
        let why = "a container with networkMode none cannot be reached";
        found.push(Violation::new(path, why).hint("use exec"));
    }
    let Some(host) = host else { return };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(legal);
    if !is_host && !host.contains("$(") {
        let why = format!("{:?} is not a host name or an IP address", shown(host));
        found.push(Violation::new(format!("{path}.host"), why));
    }
}

fn named_port(template: &Template, name: &str, path: &str) -> Option<Violation> {
    let at = format!("{path}.port");
    if name.contains("$(") {
        let violation = Violation::new(at, "a port cannot contain $(...)");
        return Some(violation.hint("write the name of the port"));
    }
    match template.ports.iter().find(|port| port.name == name) {
        Some(port) if port.protocol == Protocol::Udp => {
            Some(Violation::new(at, format!("port {name:?} is a UDP port, which cannot be probed")))
        }
        Some(_) => None,
        None => {
            let why = format!("{:?} is not one of the ports", shown(name));
            let violation = Violation::new(at, why);
            let known: Vec<&str> = template.ports.iter().map(|port| port.name.as_str()).collect();
            Some(match nearest(name, known.iter().copied()) {
                Some(meant) => violation.hint(format!("did you mean {meant}?")),
                None if known.is_empty() => violation.hint("there are none; write a number"),
                None => violation.hint(format!("the ports are {}", shown(&known.join(", ")))),
            })
        }
    }
}

fn http(get: &HttpGet, path: &str, found: &mut Vec<Violation>) {
    let mut say = |field: String, why: String| {
        found.push(Violation::new(format!("{path}.{field}"), why));
    };
    if let Some(target) = &get.path {
        let is_plain = |c: char| c.is_ascii_graphic();
        if target.len() > PATH_BYTES_MAX {
            let why = format!("{} bytes; at most {PATH_BYTES_MAX} are allowed", target.len());
            say("path".to_owned(), why);
        } else if !target.starts_with('/') && !target.starts_with("$(") {
            say("path".to_owned(), format!("{target:?} does not begin with '/'"));
        } else if !target.contains("$(") && !target.chars().all(is_plain) {
            say("path".to_owned(), format!("{target:?} has characters that must be %-encoded"));
        }
    }
    if get.http_headers.len() > HEADERS_MAX {
        let why = format!("{} entries; at most {HEADERS_MAX} are allowed", get.http_headers.len());
        return say("httpHeaders".to_owned(), why);
    }
    for (index, header) in get.http_headers.iter().enumerate() {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let (name, value) = (&header.name, &header.value);
        let is_name = (1..=HEADER_NAME_BYTES_MAX).contains(&name.len());
        if !is_name || !name.chars().all(is_token) {
            let why = format!("{:?} is not the name of a header", shown(name));
            say(format!("httpHeaders[{index}].name"), why);
        }
        if value.len() > HEADER_BYTES_MAX {
            let why = format!("{} bytes; at most {HEADER_BYTES_MAX} are allowed", value.len());
            say(format!("httpHeaders[{index}].value"), why);
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            let why = "control characters are not allowed".to_owned();
            say(format!("httpHeaders[{index}].value"), why);
        }
    }
}

fn command(command: &[String], path: &str, found: &mut Vec<Violation>) {
    if command.is_empty() || command.first().is_some_and(String::is_empty) {
        found.push(Violation::new(path, "a command is required"));
    }
    if command.len() > COMMAND_MAX {
        let why = format!("{} entries; at most {COMMAND_MAX} are allowed", command.len());
        found.push(Violation::new(path, why));
    }
}

/// As much of a text as a message needs.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
