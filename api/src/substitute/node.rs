//! The second substitution stage: an attempt starts on a node.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::reference::{Piece, Reference, pieces};
use crate::template::{self, Probe, Template};
use crate::violation::Violation;

/// Longest argument or environment variable (including its name and `=`), in bytes: Linux starts no
/// program with a longer one.
pub const TEXT_BYTES_MAX: usize = 128 * 1024 - 1;
/// Most bytes of all texts of a substituted template: about what Linux allows for a program's
/// arguments and environment together.
pub const TEXTS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The values of names on a node.
#[derive(Debug, Clone, Copy)]
pub struct NodeNames<'a> {
    /// The task's name.
    pub task: &'a str,
    /// Its index.
    pub index: u32,
    /// How many tasks its owner has.
    pub count: u32,
    /// The attempt.
    pub attempt: u32,
    /// The partition that it targets.
    pub partition: Option<&'a str>,
    /// Its item.
    pub item: Option<&'a Value>,
    /// The node.
    pub node: &'a str,
    /// Port numbers by the names of the ports.
    pub ports: &'a BTreeMap<String, u16>,
    /// Variables that Heliox sets beside the template's own: `HELIOX_...`.
    pub env: &'a BTreeMap<String, String>,
}

impl NodeNames<'_> {
    fn value(&self, reference: &Reference<'_>) -> Option<Cow<'_, str>> {
        match (reference.root, reference.names.as_slice()) {
            ("task", ["name"]) => Some(self.task.into()),
            ("task", ["index"]) => Some(self.index.to_string().into()),
            ("task", ["count"]) => Some(self.count.to_string().into()),
            ("task", ["attempt"]) => Some(self.attempt.to_string().into()),
            ("task", ["partition"]) => self.partition.map(Cow::from),
            ("task", ["item"]) => self.item.map(text_of),
            ("task", ["item", field]) => self.item?.get(field).map(text_of),
            ("node", ["name"]) => Some(self.node.into()),
            ("ports", [name]) => self.ports.get(*name).map(|port| port.to_string().into()),
            _ => None,
        }
    }
}

/// An item as text: a text as it is, everything else as JSON.
fn text_of(item: &Value) -> Cow<'_, str> {
    item.as_str().map_or_else(|| item.to_string().into(), Cow::from)
}

/// The template of one attempt with everything substituted. The task's own partial template must be
/// merged into it before ([`crate::merge::template`]).
///
/// # Errors
/// Names without a value, and values that make a field invalid (a path with `..`). Paths are
/// relative to the template.
pub fn for_node(template: &Template, names: &NodeNames<'_>) -> Result<Template, Vec<Violation>> {
    let mut next = template.clone();
    let (env, room) = (names.env.clone(), TEXTS_BYTES_MAX);
    let mut stage = Stage { names, env, room, found: Vec::new() };
    // In their order, because a variable may refer to those before it.
    for (index, variable) in next.env.iter_mut().enumerate() {
        let own = variable.name.len() + 1;
        stage.argument(&mut variable.value, own, || format!("env[{index}].value"));
        stage.env.insert(variable.name.clone(), variable.value.clone());
    }
    for (list, texts) in [("command", &mut next.command), ("args", &mut next.args)] {
        for (index, text) in texts.iter_mut().enumerate() {
            stage.argument(text, 0, || format!("{list}[{index}]"));
        }
    }
    for (field, text) in [
        ("workingDir", &mut next.working_dir),
        ("networkMode", &mut next.network_mode),
        ("stopSignal", &mut next.stop_signal),
        ("hostname", &mut next.hostname),
        ("runtime", &mut next.runtime),
        ("resources.cpuset", &mut next.resources.cpuset),
    ] {
        if let Some(text) = text {
            stage.text(text, || field.to_owned());
        }
    }
    for (index, mount) in next.mounts.iter_mut().enumerate() {
        stage.text(&mut mount.path, || format!("mounts[{index}].path"));
        if let Some(path) = &mut mount.host_path {
            stage.text(path, || format!("mounts[{index}].hostPath"));
        }
        if let Some(volume) = &mut mount.volume {
            stage.text(volume, || format!("mounts[{index}].volume"));
        }
    }
    stage.host_parts(&mut next);
    for (kind, probe) in next.probes_mut() {
        stage.probe(probe, kind.field());
    }
    for (key, text) in &mut next.labels {
        stage.text(text, || format!("labels[{key:?}]"));
    }
    if stage.found.is_empty() {
        let mut found = Vec::new();
        template::validate(&next, "template", &mut found);
        let relative = |mut it: Violation| {
            it.path = it.path.trim_start_matches("template.").to_owned();
            it
        };
        stage.found.extend(found.into_iter().map(relative));
    }
    if stage.found.is_empty() { Ok(next) } else { Err(stage.found) }
}

struct Stage<'a> {
    names: &'a NodeNames<'a>,
    /// Variables declared so far, with their substituted values.
    env: BTreeMap<String, String>,
    /// How many bytes the remaining texts may take.
    room: usize,
    found: Vec<Violation>,
}

impl Stage<'_> {
    /// Substitutes what says what the container has of its host.
    fn host_parts(&mut self, next: &mut Template) {
        let options = &mut next.security_context.security_opt;
        for (list, texts) in [
            ("dns", &mut next.dns),
            ("devices", &mut next.devices),
            ("securityContext.securityOpt", options),
        ] {
            for (index, text) in texts.iter_mut().enumerate() {
                self.text(text, || format!("{list}[{index}]"));
            }
        }
        for (index, alias) in next.host_aliases.iter_mut().enumerate() {
            self.text(&mut alias.ip, || format!("hostAliases[{index}].ip"));
            for (nth, name) in alias.hostnames.iter_mut().enumerate() {
                self.text(name, || format!("hostAliases[{index}].hostnames[{nth}]"));
            }
        }
        for (index, sysctl) in next.sysctls.iter_mut().enumerate() {
            self.text(&mut sysctl.value, || format!("sysctls[{index}].value"));
        }
    }

    fn probe(&mut self, probe: &mut Probe, at: &str) {
        let Probe { http_get, tcp_socket, exec, .. } = probe;
        if let Some(get) = http_get {
            let texts = [("path", &mut get.path), ("host", &mut get.host)];
            for (field, text) in texts {
                text.iter_mut().for_each(|it| self.text(it, || format!("{at}.httpGet.{field}")));
            }
            for (index, header) in get.http_headers.iter_mut().enumerate() {
                let path = || format!("{at}.httpGet.httpHeaders[{index}].value");
                self.text(&mut header.value, path);
            }
        }
        for text in tcp_socket.iter_mut().filter_map(|tcp| tcp.host.as_mut()) {
            self.text(text, || format!("{at}.tcpSocket.host"));
        }
        for (index, text) in exec.iter_mut().flat_map(|exec| &mut exec.command).enumerate() {
            self.argument(text, 0, || format!("{at}.exec.command[{index}]"));
        }
    }

    fn text(&mut self, text: &mut String, path: impl Fn() -> String) {
        self.put_in(text, self.room, path);
    }

    /// Substitutes a text that the program is given, which takes `own` bytes beside its value.
    fn argument(&mut self, text: &mut String, own: usize, path: impl Fn() -> String) {
        self.put_in(text, TEXT_BYTES_MAX.saturating_sub(own).min(self.room), path);
    }

    /// Substitutes a text if the result has at most `most` bytes. The length is computed first:
    /// thirty variables that each contain the previous one twice would otherwise exhaust the
    /// agent's memory.
    fn put_in(&mut self, text: &mut String, most: usize, path: impl Fn() -> String) {
        if !self.found.is_empty() && self.room == 0 {
            return;
        }
        let pieces = pieces(text);
        let mut bytes = 0_usize;
        for piece in &pieces {
            bytes = bytes.saturating_add(match piece {
                Piece::Text(text) => text.len(),
                Piece::Escaped => 2,
                Piece::Variable { whole, name } => {
                    self.env.get(*name).map_or(whole.len(), String::len)
                }
                Piece::Ours(reference) => {
                    self.names.value(reference).map_or(0, |value| value.len())
                }
            });
            if bytes > most {
                let why = format!("after substitution it takes more than {most} bytes");
                let hint = "a program cannot be passed more; use a file";
                self.found.push(Violation::new(path(), why).hint(hint));
                // Later texts may refer to this one; they must not be reported for the same reason.
                self.room = 0;
                return;
            }
        }
        self.room -= bytes;
        if !text.contains("$(") {
            return;
        }
        let mut whole = String::with_capacity(bytes);
        for piece in pieces {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Escaped => whole.push_str("$("),
                Piece::Variable { whole: text, name } => {
                    whole.push_str(self.env.get(name).map_or(text, String::as_str));
                }
                Piece::Ours(reference) => match self.names.value(&reference) {
                    Some(value) => whole.push_str(&value),
                    None => {
                        let why = format!("{} has no value here", reference.whole);
                        self.found.push(Violation::new(path(), why));
                    }
                },
            }
        }
        *text = whole;
    }
}

/// Violations of texts that are too long for any program, whatever their names will mean on a node:
/// such names count as empty here, except for variables that the template declares. Only lengths
/// are added up; nothing is substituted.
pub(crate) fn too_long(template: &Template) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut env: BTreeMap<&str, usize> = BTreeMap::new();
    let least = |text: &str, env: &BTreeMap<&str, usize>| {
        pieces(text).iter().fold(0_usize, |bytes, piece| {
            bytes.saturating_add(match piece {
                Piece::Text(text) => text.len(),
                Piece::Escaped => 2,
                Piece::Variable { name, .. } => env.get(name).copied().unwrap_or(0),
                Piece::Ours(_) => 0,
            })
        })
    };
    let mut look = |bytes: usize, own: usize, path: String| {
        if bytes.saturating_add(own) > TEXT_BYTES_MAX {
            let why = format!(
                "{bytes} bytes after substitution; a program can be passed at most {}",
                TEXT_BYTES_MAX - own
            );
            found.push(Violation::new(path, why).hint("use a file"));
        }
    };
    for (index, variable) in template.env.iter().enumerate() {
        let bytes = least(&variable.value, &env);
        look(bytes, variable.name.len() + 1, format!("env[{index}].value"));
        // A variable that is too long is reported once, not again for each text that refers to it.
        env.insert(&variable.name, if bytes > TEXT_BYTES_MAX { 0 } else { bytes });
    }
    for (list, texts) in [("command", &template.command), ("args", &template.args)] {
        for (index, text) in texts.iter().enumerate() {
            look(least(text, &env), 0, format!("{list}[{index}]"));
        }
    }
    for (kind, probe) in template.probes() {
        for (index, text) in probe.exec.iter().flat_map(|exec| &exec.command).enumerate() {
            look(least(text, &env), 0, format!("{}.exec.command[{index}]", kind.field()));
        }
    }
    found
}
