//! What a container has of its host and what it may do there: the types, and their rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Template;
use crate::names;
use crate::violation::{Violation, duplicates, nearest};

/// Longest host name that Linux accepts, in characters.
const HOSTNAME_CHARS_MAX: usize = 64;
/// How many name servers a resolver asks. It ignores further ones.
const NAME_SERVERS_MAX: usize = 3;
/// Longest word for the engine, in bytes: a runtime, a device, the value of a sysctl.
const WORD_BYTES_MAX: usize = 256;
/// Longest security option, in bytes: a seccomp profile is a document.
const OPTION_BYTES_MAX: usize = 64 * 1024;
/// Largest user id.
const USER_MAX: u32 = i32::MAX as u32;

/// Names for an IP address in the container's `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostAlias {
    /// IP address.
    pub ip: String,
    /// Names for it, at least one.
    pub hostnames: Vec<String>,
}

/// A kernel parameter of the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sysctl {
    /// Name of a parameter that each container has for itself: one under `net.` or `fs.mqueue.`, or
    /// one of `kernel.sem`, `kernel.msg...` and `kernel.shm...`.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

/// A limit that the kernel sets each process of the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ulimit {
    /// Name of the limit, for example `nofile` or `nproc`.
    pub name: String,
    /// Limit that a process begins with; -1 is no limit.
    #[schemars(range(min = -1))]
    pub soft: i64,
    /// Limit up to which a process may raise it; -1 is no limit. Default: the same as `soft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1))]
    pub hard: Option<i64>,
}

/// Rights of the container's processes. The process runtime gives a task the agent's rights, and
/// refuses a template that asks for others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext {
    /// Number of the user that the processes run as. Default: the image's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Whether nothing but mounts can be written to. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_root_filesystem: bool,
    /// Whether the processes have all rights of the host's root user. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// Capabilities of the processes. Not with `privileged`, which has all of them.
    #[serde(default, skip_serializing_if = "Capabilities::is_empty")]
    pub capabilities: Capabilities,
    /// Docker's security options: `no-new-privileges`, `seccomp=unconfined` or `seccomp=` and a
    /// profile in JSON, `apparmor=PROFILE`, `label=...`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
}

impl SecurityContext {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Linux capabilities, without the prefix `CAP_`: `NET_ADMIN`, or `ALL`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Capabilities beyond those that the engine gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Capabilities that are taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

impl Capabilities {
    /// Whether none is added and none taken away.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.drop.is_empty()
    }
}

/// What is wrong with these parts of a template that stands at `path`.
pub(super) fn validate(template: &Template, path: &str, found: &mut Vec<Violation>) {
    network(template, path, found);
    aliases(&template.host_aliases, path, found);
    if let Some(runtime) = &template.runtime
        && !is_open(runtime)
        && !is_plain(runtime, "-_./")
    {
        found.push(Violation::new(format!("{path}.runtime"), format!("{runtime:?} is no name")));
    }
    for (index, device) in template.devices.iter().enumerate() {
        if let Some(problem) = device_problem(device) {
            found.push(Violation::new(format!("{path}.devices[{index}]"), problem));
        }
    }
    sysctls(template, path, found);
    ulimits(&template.ulimits, path, found);
    security(&template.security_context, path, found);
}

/// Whether it is complete only once a task has a node. It is checked again then.
fn is_open(text: &str) -> bool {
    text.contains("$(")
}

/// Whether it consists of letters, digits and these characters, and begins with neither of these.
fn is_plain(text: &str, and: &str) -> bool {
    text.len() <= WORD_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || and.contains(c))
}

/// The other container whose network it shares; what that has cannot be set here.
fn shared_network(template: &Template) -> Option<&str> {
    template.network_mode.as_deref().filter(|mode| mode.starts_with("container:"))
}

fn network(template: &Template, path: &str, found: &mut Vec<Violation>) {
    if let Some(name) = &template.hostname
        && !is_open(name)
    {
        let long = name.len() > HOSTNAME_CHARS_MAX;
        let long = long.then(|| format!("at most {HOSTNAME_CHARS_MAX} characters are allowed"));
        let problem = long.or_else(|| names::long_problem(&name.to_ascii_lowercase()));
        found.extend(problem.map(|why| Violation::new(format!("{path}.hostname"), why)));
    }
    for (index, server) in template.dns.iter().enumerate() {
        if !is_open(server) && server.parse::<IpAddr>().is_err() {
            let why = format!("{server:?} is not an IP address");
            found.push(Violation::new(format!("{path}.dns[{index}]"), why));
        }
    }
    if template.dns.len() > NAME_SERVERS_MAX {
        let why = format!("at most {NAME_SERVERS_MAX} are asked; further ones would be ignored");
        found.push(Violation::new(format!("{path}.dns"), why));
    }
    let Some(mode) = shared_network(template) else { return };
    let set = [
        ("hostname", template.hostname.is_some()),
        ("dns", !template.dns.is_empty()),
        ("hostAliases", !template.host_aliases.is_empty()),
    ];
    for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        let why = format!("with networkMode {mode} it is that of the other container");
        found.push(Violation::new(format!("{path}.{field}"), why));
    }
}

fn aliases(aliases: &[HostAlias], path: &str, found: &mut Vec<Violation>) {
    for (index, alias) in aliases.iter().enumerate() {
        let at = format!("{path}.hostAliases[{index}]");
        if !is_open(&alias.ip) && alias.ip.parse::<IpAddr>().is_err() {
            let why = format!("{:?} is not an IP address", alias.ip);
            found.push(Violation::new(format!("{at}.ip"), why));
        }
        if alias.hostnames.is_empty() {
            found.push(Violation::new(format!("{at}.hostnames"), "at least one is required"));
        }
        for (index, name) in alias.hostnames.iter().enumerate().filter(|(_, name)| !is_open(name)) {
            let problem = names::long_problem(&name.to_ascii_lowercase());
            let at = format!("{at}.hostnames[{index}]");
            found.extend(problem.map(|why| Violation::new(at, why)));
        }
    }
}

/// A device as Docker writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device<'a> {
    /// Its path on the node.
    pub host: &'a str,
    /// Its path in the container.
    pub container: &'a str,
    /// What the container may do with it: some of `rwm`.
    pub permissions: &'a str,
}

impl<'a> Device<'a> {
    /// Reads `HOST`, `HOST:CONTAINER`, `HOST:PERMISSIONS` or `HOST:CONTAINER:PERMISSIONS`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let is_path = |part: &str| {
            part.len() > 1
                && part.len() <= WORD_BYTES_MAX
                && part.starts_with('/')
                && part.split('/').all(|name| name != "..")
        };
        let may = |part: &str| {
            let each: BTreeSet<char> = part.chars().collect();
            !part.is_empty() && each.len() == part.len() && part.chars().all(|c| "rwm".contains(c))
        };
        let (host, container, permissions) = match parts.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, container] if is_path(container) => (*host, *container, "rwm"),
            [host, permissions] => (*host, *host, *permissions),
            [host, container, permissions] => (*host, *container, *permissions),
            _ => return None,
        };
        (is_path(host) && is_path(container) && may(permissions)).then_some(Self {
            host,
            container,
            permissions,
        })
    }
}

fn device_problem(text: &str) -> Option<String> {
    (!is_open(text) && Device::parse(text).is_none()).then(|| {
        format!("{text:?} is no device; write /dev/HOST, /dev/HOST:/dev/CONTAINER or /dev/HOST:/dev/CONTAINER:rwm")
    })
}

/// Beginnings of the names of parameters that each container has for itself.
const SYSCTL_GROUPS: [&str; 2] = ["net.", "fs.mqueue."];
/// Other such parameters.
const SYSCTLS: [&str; 9] = [
    "kernel.domainname",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

fn sysctls(template: &Template, path: &str, found: &mut Vec<Violation>) {
    let sysctls = &template.sysctls;
    let mode = template.network_mode.as_deref().unwrap_or_default();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let (at, name) = (format!("{path}.sysctls[{index}]"), &sysctl.name);
        let is_own = SYSCTL_GROUPS.iter().any(|group| name.starts_with(group));
        if !is_plain(name, "-_./") {
            found.push(Violation::new(format!("{at}.name"), format!("{name:?} is no sysctl")));
        } else if !is_own && !SYSCTLS.contains(&name.as_str()) {
            let why = format!("{name} is the host's: a container has none of its own");
            let violation = Violation::new(format!("{at}.name"), why);
            let meant = nearest(name, SYSCTLS).map(|meant| format!("did you mean {meant}?"));
            found.push(meant.into_iter().fold(violation, Violation::hint));
        } else if name.starts_with("net.") && (mode == "host" || mode.starts_with("container:")) {
            let why = format!("with networkMode {mode} the container has no network of its own");
            found.push(Violation::new(format!("{at}.name"), why));
        }
        let value = &sysctl.value;
        if value.is_empty() || value.len() > WORD_BYTES_MAX || value.contains(['\n', '\0']) {
            let why = format!("one line of at most {WORD_BYTES_MAX} bytes is required");
            found.push(Violation::new(format!("{at}.value"), why));
        }
    }
    let names = sysctls.iter().map(|sysctl| &sysctl.name);
    duplicates(names, &format!("{path}.sysctls"), "name", found);
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

fn ulimits(ulimits: &[Ulimit], path: &str, found: &mut Vec<Violation>) {
    for (index, ulimit) in ulimits.iter().enumerate() {
        let (at, name) = (format!("{path}.ulimits[{index}]"), ulimit.name.as_str());
        if !ULIMITS.contains(&name) {
            let violation =
                Violation::new(format!("{at}.name"), format!("{name:?} is no limit of the kernel"));
            let meant = nearest(name, ULIMITS);
            let hint = meant.map_or_else(
                || format!("write one of {}", ULIMITS.join(", ")),
                |meant| format!("did you mean {meant}?"),
            );
            found.push(violation.hint(hint));
        }
        for (field, limit) in [("soft", Some(ulimit.soft)), ("hard", ulimit.hard)] {
            if limit.is_some_and(|limit| limit < -1) {
                found.push(Violation::new(format!("{at}.{field}"), "at least -1 is required"));
            }
        }
        if let Some(hard) = ulimit.hard
            && hard != -1
            && (ulimit.soft == -1 || ulimit.soft > hard)
        {
            let why = format!("{} is more than the hard limit {hard}", ulimit.soft);
            found.push(Violation::new(format!("{at}.soft"), why));
        }
    }
    let names = ulimits.iter().map(|ulimit| &ulimit.name);
    duplicates(names, &format!("{path}.ulimits"), "name", found);
}

const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn security(security: &SecurityContext, path: &str, found: &mut Vec<Violation>) {
    let at = format!("{path}.securityContext");
    if security.run_as_user.is_some_and(|user| user > USER_MAX) {
        let why = format!("at most {USER_MAX} is allowed");
        found.push(Violation::new(format!("{at}.runAsUser"), why));
    }
    let Capabilities { add, drop } = &security.capabilities;
    for (field, list) in [("add", add), ("drop", drop)] {
        let at = format!("{at}.capabilities.{field}");
        for (index, name) in list.iter().enumerate() {
            if CAPABILITIES.contains(&name.as_str()) {
                continue;
            }
            let upper = name.to_ascii_uppercase();
            let meant = nearest(upper.trim_start_matches("CAP_"), CAPABILITIES);
            let violation =
                Violation::new(format!("{at}[{index}]"), format!("{name:?} is no capability"));
            let hint = meant.map(|meant| format!("did you mean {meant}?"));
            found.push(hint.into_iter().fold(violation, Violation::hint));
        }
        duplicates(list, &at, "", found);
    }
    if security.privileged && !security.capabilities.is_empty() {
        let why = "a privileged container has all of them";
        found.push(Violation::new(format!("{at}.capabilities"), why));
    }
    for both in add.iter().filter(|name| *name != "ALL" && drop.contains(name)) {
        let why = format!("{both} is both added and dropped");
        found.push(Violation::new(format!("{at}.capabilities"), why));
    }
    for (index, option) in security.security_opt.iter().enumerate() {
        if let Some(problem) = option_problem(option).filter(|_| !is_open(option)) {
            found.push(Violation::new(format!("{at}.securityOpt[{index}]"), problem));
        }
    }
}

fn option_problem(option: &str) -> Option<String> {
    if option.len() > OPTION_BYTES_MAX {
        return Some(format!("at most {OPTION_BYTES_MAX} bytes are allowed"));
    }
    let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true" | "false") => None,
        ("seccomp", value) if value == "unconfined" || value.starts_with('{') => None,
        ("seccomp", _) => Some(
            "the engine reads no files: write seccomp=unconfined, or seccomp= and the profile in JSON"
                .to_owned(),
        ),
        ("apparmor" | "label", value) if !value.is_empty() => None,
        _ => Some(format!(
            "{option:?} is no security option; write no-new-privileges, seccomp=..., apparmor=... or \
             label=..."
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(mut template: Value) -> Vec<String> {
        template["image"] = json!("x");
        let template: Template = serde_json::from_value(template).unwrap();
        let mut found = Vec::new();
        super::super::validate(&template, "t", &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_engine_can_do_is_accepted() {
        for template in [
            json!({ "hostname": "web-1.example", "networkMode": "host" }),
            json!({ "hostname": "w-$(task.index)", "dns": ["10.0.0.53", "::1", "$(node.name)"] }),
            json!({ "devices": ["/dev/fuse", "/dev/a:r", "/dev/a:/dev/b", "/dev/a:/dev/b:mw"] }),
            json!({ "sysctls": [{ "name": "net.core.somaxconn", "value": "9" }] }),
            json!({ "ulimits": [{ "name": "nofile", "soft": 1, "hard": -1 }, { "name": "core", "soft": -1 }] }),
            json!({ "securityContext": { "capabilities": { "add": ["NET_RAW"], "drop": ["ALL"] } } }),
            json!({ "securityContext": { "securityOpt": ["no-new-privileges", "seccomp={}"] } }),
            json!({ "resources": { "limits": { "memory": "1Mi", "memory-swap": "1Mi", "pids": 1 }, "cpuset": "0-1,3" } }),
            json!({ "logs": { "maxSize": "256Ki", "keep": "720h" } }),
            json!({ "mounts": [{ "path": "/a", "volume": "app-cache", "readOnly": true }] }),
        ] {
            assert_eq!(found(template.clone()), Vec::<String>::new(), "{template}");
        }
    }

    fn refused(cases: &[(Value, &str)]) {
        for (template, why) in cases {
            assert_eq!(found(template.clone()), [*why], "{template}");
        }
    }

    #[test]
    fn what_it_cannot_do_is_refused_with_what_to_write() {
        refused(&[
            (
                json!({ "hostname": "a_b" }),
                "t.hostname: '_' is not allowed; use a-z, 0-9, '-' and '.'",
            ),
            (
                json!({ "hostname": "a".repeat(65) }),
                "t.hostname: at most 64 characters are allowed",
            ),
            (
                json!({ "hostname": "a", "networkMode": "container:x" }),
                "t.hostname: with networkMode container:x it is that of the other container",
            ),
            (json!({ "dns": ["db"] }), "t.dns[0]: \"db\" is not an IP address"),
            (
                json!({ "dns": ["::1", "::2", "::3", "::4"] }),
                "t.dns: at most 3 are asked; further ones would be ignored",
            ),
            (
                json!({ "hostAliases": [{ "ip": "::1", "hostnames": [] }] }),
                "t.hostAliases[0].hostnames: at least one is required",
            ),
            (
                json!({ "hostAliases": [{ "ip": "db", "hostnames": ["a"] }] }),
                "t.hostAliases[0].ip: \"db\" is not an IP address",
            ),
            (json!({ "runtime": "a b" }), "t.runtime: \"a b\" is no name"),
            (
                json!({ "devices": ["/dev/a:rx"] }),
                "t.devices[0]: \"/dev/a:rx\" is no device; write /dev/HOST, /dev/HOST:/dev/CONTAINER or /dev/HOST:/dev/CONTAINER:rwm",
            ),
            (
                json!({ "sysctls": [{ "name": "kernel.shmax", "value": "1" }] }),
                "t.sysctls[0].name: kernel.shmax is the host's: a container has none of its own (did you mean kernel.shmmax?)",
            ),
            (
                json!({ "sysctls": [{ "name": "net.a", "value": "1" }], "networkMode": "host" }),
                "t.sysctls[0].name: with networkMode host the container has no network of its own",
            ),
            (
                json!({ "ulimits": [{ "name": "nofiles", "soft": 1 }] }),
                "t.ulimits[0].name: \"nofiles\" is no limit of the kernel (did you mean nofile?)",
            ),
            (
                json!({ "ulimits": [{ "name": "core", "soft": 2, "hard": 1 }] }),
                "t.ulimits[0].soft: 2 is more than the hard limit 1",
            ),
        ]);
    }

    #[test]
    fn rights_that_nobody_can_give_are_refused() {
        refused(&[
            (
                json!({ "securityContext": { "capabilities": { "add": ["cap_net_admin"] } } }),
                "t.securityContext.capabilities.add[0]: \"cap_net_admin\" is no capability (did you mean NET_ADMIN?)",
            ),
            (
                json!({ "securityContext": { "privileged": true, "capabilities": { "drop": ["ALL"] } } }),
                "t.securityContext.capabilities: a privileged container has all of them",
            ),
            (
                json!({ "securityContext": { "securityOpt": ["seccomp=/a.json"] } }),
                "t.securityContext.securityOpt[0]: the engine reads no files: write seccomp=unconfined, or seccomp= and the profile in JSON",
            ),
        ]);
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        refused(&[
            (
                json!({ "resources": { "cpuset": "1-0" } }),
                "t.resources.cpuset: \"1-0\" is no list of processors; write for example 0-3 or 0,2",
            ),
            (
                json!({ "resources": { "limits": { "memory-swap": "1Mi" } } }),
                "t.resources.limits.memory-swap: it includes the memory: set limits.memory, too",
            ),
            (
                json!({ "resources": { "limits": { "memory": "2Mi", "memory-swap": "1Mi" } } }),
                "t.resources.limits.memory-swap: 1Mi is less than limits.memory 2Mi, which it includes",
            ),
            (
                json!({ "resources": { "requests": { "pids": 5 } } }),
                "t.resources.requests.pids: nodes do not count it (write it under limits)",
            ),
            (json!({ "logs": { "maxSize": "1Ki" } }), "t.logs.maxSize: 256Ki to 1Gi are allowed"),
            (
                json!({ "logs": { "keep": "721h" } }),
                "t.logs.keep: at most 720h (30 days) is allowed",
            ),
            (
                json!({ "mounts": [{ "path": "/a", "volume": "a/b" }] }),
                "t.mounts[0].volume: \"a/b\" is no name of a volume; use letters, digits, '_', '-' and '.'",
            ),
            (
                json!({ "mounts": [{ "path": "/a", "volume": "a", "create": true }] }),
                "t.mounts[0].create: only a hostPath can be created",
            ),
            (
                json!({ "mounts": [{ "path": "/a", "tmpfs": {}, "readOnly": true }] }),
                "t.mounts[0].readOnly: nothing could ever be in it",
            ),
        ]);
    }
}
