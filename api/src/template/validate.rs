//! Rules of a template.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{EnvVar, Logs, Mount, Port, Resources, Template, host, validate_probe};
use crate::amounts::{self, LIMITS_ONLY, MEMORY, MEMORY_SWAP, Quantity};
use crate::room::HostPort;
use crate::violation::{Violation, duplicates, nearest};
use crate::{metadata, names, substitute};

/// Most entries of one list: arguments, environment variables and the like.
const ENTRIES_MAX: usize = 1_000;
/// Longest grace period: a day.
pub const GRACE_SECONDS_MAX: u32 = 24 * 3600;
/// Bounds of the size of a log. Less would be rotated away with nearly every line.
const LOG_BYTES: std::ops::RangeInclusive<u64> = (256 << 10)..=(1 << 30);
/// Longest time for which the log of a removed container is kept.
const LOG_KEPT_HOURS_MAX: u64 = 30 * 24;
/// Longest list of processors, in bytes.
const CPUSET_BYTES_MAX: usize = 1_000;
/// Longest name of a Docker volume, in characters.
const VOLUME_CHARS_MAX: usize = 255;
/// Highest number of a processor.
const CPU_MAX: u32 = 8_191;
/// Environment variables that Heliox sets.
const OUR_ENV: &str = "HELIOX_";
/// Labels that Heliox sets.
const OUR_LABELS: &str = "heliox.dev/";

const SIGNALS: [&str; 16] = [
    "SIGABRT",
    "SIGALRM",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPWR",
    "SIGQUIT",
    "SIGTERM",
    "SIGTSTP",
    "SIGTTIN",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
];

/// What is wrong with a template that stands at `path`.
pub(crate) fn validate(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let mut say = |field: &str, why: String| {
        found.push(Violation::new(format!("{path}.{field}"), why));
    };
    if template.image.trim().is_empty() {
        say("image", "an image is required".to_owned());
    } else if template.image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        say("image", "an image name must not contain spaces".to_owned());
    }
    let lists = [
        ("command", template.command.len()),
        ("args", template.args.len()),
        ("env", template.env.len()),
        ("ports", template.ports.len()),
        ("mounts", template.mounts.len()),
        ("dns", template.dns.len()),
        ("hostAliases", template.host_aliases.len()),
        ("devices", template.devices.len()),
        ("sysctls", template.sysctls.len()),
        ("ulimits", template.ulimits.len()),
        ("securityContext.securityOpt", template.security_context.security_opt.len()),
    ];
    for (field, count) in lists.into_iter().filter(|(_, count)| *count > ENTRIES_MAX) {
        say(field, format!("{count} entries; at most {ENTRIES_MAX} are allowed"));
    }
    if let Some(dir) = &template.working_dir
        && let Some(problem) = path_problem(dir)
    {
        say("workingDir", problem);
    }
    if template.grace_seconds() > GRACE_SECONDS_MAX {
        let why = format!("at most {GRACE_SECONDS_MAX} seconds (a day) are allowed");
        say("terminationGracePeriodSeconds", why);
    }
    env(&template.env, path, found);
    found.extend(substitute::too_long(template).into_iter().map(|it| it.under(path)));
    resources(&template.resources, path, found);
    mounts(&template.mounts, path, found);
    ports(template, path, found);
    host::validate(template, path, found);
    logs(&template.logs, path, found);
    validate_probe::probes(template, path, found);
    validate_probe::drain_delay(template, path, found);
    stop_signal(template, path, found);
    labels(template, path, found);
}

fn stop_signal(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let Some(signal) = template.stop_signal.as_deref() else { return };
    if SIGNALS.contains(&signal) {
        return;
    }
    let mut violation = Violation::new(
        format!("{path}.stopSignal"),
        format!("{signal:?} is not a signal that can stop a process"),
    );
    let upper = signal.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(meant) = nearest(&full, SIGNALS) {
        violation = violation.hint(format!("did you mean {meant}?"));
    }
    found.push(violation);
}

fn labels(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let path = format!("{path}.labels");
    metadata::labels_of(&template.labels, &path, found);
    for key in template.labels.keys().filter(|key| key.starts_with(OUR_LABELS)) {
        found.push(Violation::new(
            format!("{path}[{key:?}]"),
            "labels of heliox.dev are set by Heliox",
        ));
    }
}

fn env(env: &[EnvVar], path: &str, found: &mut Vec<Violation>) {
    for (index, variable) in env.iter().enumerate() {
        let at = || format!("{path}.env[{index}].name");
        if let Some(problem) = names::variable_problem(&variable.name) {
            found.push(Violation::new(at(), problem));
        }
        if variable.name.starts_with(OUR_ENV) {
            let why = format!(
                "{:?}: variables that start with {OUR_ENV} are set by Heliox",
                variable.name
            );
            found.push(Violation::new(at(), why));
        }
    }
    duplicates(env.iter().map(|variable| &variable.name), &format!("{path}.env"), "name", found);
}

fn resources(resources: &Resources, path: &str, found: &mut Vec<Violation>) {
    let lists = [("requests", &resources.requests), ("limits", &resources.limits)];
    for (list, quantities) in lists {
        for (name, quantity) in quantities {
            let at = format!("{path}.resources.{list}.{name}");
            if let Some(problem) = metadata::label_key_problem(name) {
                found.push(Violation::new(at.clone(), problem));
            } else if list == "requests" && LIMITS_ONLY.contains(&name.as_str()) {
                let violation = Violation::new(at.clone(), "nodes do not count it");
                found.push(violation.hint("write it under limits"));
            } else if let Some(meant) = amounts::meant(name) {
                // The task would wait for ever, because no node offers such a resource.
                let why = format!("unknown resource {name:?}");
                let hint = format!("did you mean {meant}?");
                found.push(Violation::new(at.clone(), why).hint(hint));
            }
            if let Some((why, hint)) = amount_problem(name, quantity, list == "limits") {
                let violation = Violation::new(at, why);
                found.push(hint.into_iter().fold(violation, Violation::hint));
            }
        }
    }
    for (name, request) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else { continue };
        if request.milli() > limit.milli() {
            let why = format!("{request} is more than the limit {limit}");
            found.push(Violation::new(format!("{path}.resources.requests.{name}"), why));
        }
    }
    if let Some(swap) = resources.limits.get(MEMORY_SWAP) {
        let why = match resources.limits.get(MEMORY) {
            None => Some("it includes the memory: set limits.memory, too".to_owned()),
            Some(memory) if swap.milli() < memory.milli() => {
                Some(format!("{swap} is less than limits.memory {memory}, which it includes"))
            }
            Some(_) => None,
        };
        let at = format!("{path}.resources.limits.{MEMORY_SWAP}");
        found.extend(why.map(|why| Violation::new(at, why)));
    }
    if let Some(cpuset) = &resources.cpuset
        && !cpuset.contains("$(")
        && !is_cpuset(cpuset)
    {
        let why = format!("{cpuset:?} is no list of processors; write for example 0-3 or 0,2");
        found.push(Violation::new(format!("{path}.resources.cpuset"), why));
    }
}

/// Whether it lists processors as the kernel does: `0-3,5`.
fn is_cpuset(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number <= CPU_MAX);
    let is_part = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => {
            number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
        }
    };
    text.len() <= CPUSET_BYTES_MAX && !text.contains('+') && text.split(',').all(is_part)
}

fn logs(logs: &Logs, path: &str, found: &mut Vec<Violation>) {
    if logs.max_size.as_ref().is_some_and(|size| !LOG_BYTES.contains(&size.whole())) {
        found.push(Violation::new(format!("{path}.logs.maxSize"), "256Ki to 1Gi are allowed"));
    }
    if logs.keep.is_some_and(|keep| keep.get().as_secs() > LOG_KEPT_HOURS_MAX * 3600) {
        let why = format!("at most {LOG_KEPT_HOURS_MAX}h (30 days) is allowed");
        found.push(Violation::new(format!("{path}.logs.keep"), why));
    }
}

fn amount_problem(
    name: &str,
    quantity: &Quantity,
    limit: bool,
) -> Option<(String, Option<String>)> {
    let milli = quantity.milli();
    if limit && milli == 0 {
        return Some((
            "a limit of 0 would let nothing run".to_owned(),
            Some("leave it out for no limit".to_owned()),
        ));
    }
    amounts::problem(name, quantity)
}

fn mounts(mounts: &[Mount], path: &str, found: &mut Vec<Violation>) {
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{path}.mounts[{index}]");
        if let Some(problem) = path_problem(&mount.path) {
            found.push(Violation::new(format!("{at}.path"), problem));
        } else if mount.path.trim_matches('/').is_empty() {
            found.push(Violation::new(
                format!("{at}.path"),
                "the root directory cannot be a mount point",
            ));
        }
        source(mount, &at, found);
    }
    // `/data/` and `/data` are the same path.
    let paths = mounts.iter().map(|mount| mount.path.trim_end_matches('/').to_owned());
    let paths: Vec<String> = paths.collect();
    duplicates(&paths, &format!("{path}.mounts"), "path", found);
}

/// What is wrong with the source of a mount that stands at `at`.
fn source(mount: &Mount, at: &str, found: &mut Vec<Violation>) {
    let mut say = |field: &str, why: &str| {
        found.push(Violation::new(format!("{at}{field}"), why));
    };
    match (&mount.host_path, &mount.volume, &mount.tmpfs) {
        (Some(host), None, None) => {
            if let Some(problem) = path_problem(host) {
                say(".hostPath", &problem);
            }
        }
        (None, Some(volume), None) => {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let is_name = volume.starts_with(|c: char| c.is_ascii_alphanumeric())
                && volume.len() <= VOLUME_CHARS_MAX
                && volume.chars().all(legal);
            if !is_name && !volume.contains("$(") {
                let chars = "use letters, digits, '_', '-' and '.'";
                say(".volume", &format!("{volume:?} is no name of a volume; {chars}"));
            }
        }
        (None, None, Some(tmpfs)) => {
            if tmpfs.size.as_ref().is_some_and(|size| size.milli() == 0) {
                say(".tmpfs.size", "a size of 0 holds nothing");
            }
            if mount.read_only {
                say(".readOnly", "nothing could ever be in it");
            }
        }
        (None, None, None) => say("", "one of hostPath, volume and tmpfs is required"),
        (_, _, _) => say("", "only one of hostPath, volume and tmpfs is allowed"),
    }
    if mount.create && mount.host_path.is_none() {
        say(".create", "only a hostPath can be created");
    }
}

/// Why a path is not absolute and plain. A path that contains `$(...)` is checked after
/// substitution.
fn path_problem(path: &str) -> Option<String> {
    if !path.starts_with('/') && !path.starts_with("$(") {
        return Some(format!("{path:?} is not an absolute path"));
    }
    path.split('/').any(|part| part == "..").then(|| format!("'..' is not allowed in {path:?}"))
}

fn ports(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let ports = &template.ports;
    for (index, port) in ports.iter().enumerate() {
        let mut say = |field: &str, why: String| {
            found.push(Violation::new(format!("{path}.ports[{index}].{field}"), why));
        };
        if let Some(problem) = names::label_problem(&port.name) {
            say("name", problem);
        }
        for (field, number) in
            [("containerPort", port.container_port), ("hostPort", port.host_port)]
        {
            if number == Some(0) {
                say(field, "a port is a number from 1 to 65535".to_owned());
            }
        }
        if let Some(ip) = &port.host_ip
            && ip.parse::<IpAddr>().is_err()
        {
            say("hostIP", format!("{ip:?} is not an IP address"));
        }
    }
    duplicates(ports.iter().map(|port| &port.name), &format!("{path}.ports"), "name", found);
    host_ports(ports, path, found);
    network(template, path, found);
}

fn host_ports(ports: &[Port], path: &str, found: &mut Vec<Violation>) {
    let mut seen: BTreeMap<u16, Vec<HostPort>> = BTreeMap::new();
    for (index, port) in ports.iter().enumerate() {
        let is_readable = port.host_ip.as_ref().is_none_or(|ip| ip.parse::<IpAddr>().is_ok());
        let Some(wanted) = HostPort::fixed(port).filter(|_| is_readable) else { continue };
        let before = seen.entry(wanted.port).or_default();
        let is_taken = before.iter().any(|before| before.conflicts_with(&wanted));
        before.push(wanted);
        if is_taken {
            let why = format!("{} is requested twice", wanted.port);
            found.push(Violation::new(format!("{path}.ports[{index}].hostPort"), why));
        }
    }
}

fn network(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let Some(mode) = template.network_mode.as_deref() else { return };
    let name = mode.strip_prefix("container:").unwrap_or(mode);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain = name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(legal);
    if !plain && !name.contains("$(") {
        let violation = Violation::new(
            format!("{path}.networkMode"),
            format!("{mode:?} is not a network mode"),
        );
        found.push(violation.hint("write bridge, host, none, container:NAME or a network's name"));
    }
    let unpublished = mode == "none" || mode.starts_with("container:");
    if unpublished && !template.ports.is_empty() {
        let why = format!("a container with networkMode {mode} has no ports of its own");
        found.push(Violation::new(format!("{path}.ports"), why));
    }
    for (index, port) in template.ports.iter().enumerate().filter(|_| mode == "host") {
        if let (Some(inside), Some(outside)) = (port.container_port, port.host_port)
            && inside != outside
        {
            let why = format!("with networkMode host, {inside} and {outside} cannot differ");
            found.push(Violation::new(format!("{path}.ports[{index}].hostPort"), why));
        }
    }
}
