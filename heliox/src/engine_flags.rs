//! The flags of `heliox agent` about its container engine, checked before anything is started.

use std::path::PathBuf;

use api::Violation;
use api::resource::Resource as _;
use api::task_template::{TaskTemplate, TaskTemplateSpec};
use api::template::{HostAlias, Template};
use clap::Args;
use node_agent::Added;
use node_agent::engine::{Mount, MountSource};

/// Where Docker's socket is.
pub const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Flags about the container engine.
#[derive(Debug, Clone, Default, Args)]
pub struct EngineArgs {
    /// Socket of the Docker Engine, a path with or without unix:// [default: /var/run/docker.sock].
    #[arg(long, env = "DOCKER_HOST", value_name = "SOCKET")]
    pub docker_host: Option<String>,
    /// File with credentials of registries, as `docker login` writes it [default:
    /// ~/.docker/config.json].
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
    /// Environment variable of every container on this node; templates take precedence. May be
    /// repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Directory or file of this host that is mounted into every container. May be repeated.
    #[arg(long = "mount", value_name = "HOSTPATH:PATH[:ro]")]
    pub mounts: Vec<String>,
    /// Name server of containers whose template names none. May be repeated.
    #[arg(long, value_name = "IP")]
    pub dns: Vec<String>,
    /// Further name in /etc/hosts of every container. May be repeated.
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub add_hosts: Vec<String>,
}

/// Which engine to use, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Its socket.
    pub socket: String,
    /// Credentials of registries.
    pub docker_config: Option<PathBuf>,
    /// What every container is given.
    pub added: Added,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            socket: DOCKER_SOCKET.to_owned(),
            docker_config: default_docker_config(),
            added: Added::default(),
        }
    }
}

/// Where `docker login` writes credentials.
fn default_docker_config() -> Option<PathBuf> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    dir.or_else(home).map(|dir| dir.join("config.json"))
}

/// Checks the flags.
pub fn checked(args: &EngineArgs, problems: &mut Vec<String>) -> EngineOptions {
    let mut added = Added { dns: args.dns.clone(), ..Added::default() };
    for text in &args.env {
        match text.split_once('=') {
            Some((name, value)) => added.env.push((name.to_owned(), value.to_owned())),
            None => problems.push(format!("--env {text:?}: must be NAME=VALUE")),
        }
    }
    for text in &args.mounts {
        match mount(text) {
            Some(mount) => added.mounts.push(mount),
            None => problems.push(format!(
                "--mount {text:?}: must be HOSTPATH:PATH or HOSTPATH:PATH:ro, with absolute paths"
            )),
        }
    }
    for text in &args.add_hosts {
        // An IPv6 address has colons of its own.
        match text.split_once(':') {
            Some((name, ip)) => added
                .host_aliases
                .push(HostAlias { ip: ip.to_owned(), hostnames: vec![name.to_owned()] }),
            None => problems.push(format!("--add-host {text:?}: must be NAME:IP")),
        }
    }
    problems.extend(refused(&added));
    let docker_config = args.docker_config.clone().or_else(default_docker_config);
    EngineOptions { docker_config, added, ..EngineOptions::default() }
}

impl EngineOptions {
    /// Uses the socket of the flag or of `DOCKER_HOST`, which many set for other programs: it is only
    /// looked at where Docker may run the tasks.
    pub fn take_socket(&mut self, docker_host: Option<&str>, problems: &mut Vec<String>) {
        let Some(docker_host) = docker_host.filter(|host| !host.is_empty()) else { return };
        let socket = docker_host.strip_prefix("unix://").unwrap_or(docker_host);
        if !socket.starts_with('/') {
            problems.push(format!(
                "--docker-host {docker_host:?}: only a unix socket is supported; write for example \
                 unix://{DOCKER_SOCKET}"
            ));
        }
        socket.clone_into(&mut self.socket);
    }
}

fn mount(text: &str) -> Option<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host_path, path, read_only) = match parts.as_slice() {
        [host_path, path] => (*host_path, *path, false),
        [host_path, path, "ro"] => (*host_path, *path, true),
        _ => return None,
    };
    let is_absolute = |path: &str| path.starts_with('/') && path.len() > 1;
    let host_path = Some(host_path).filter(|path| is_absolute(path)).map(PathBuf::from)?;
    let source = MountSource::HostPath { host_path, read_only, create: false };
    is_absolute(path).then(|| Mount { path: path.into(), source })
}

/// What a template with the same content would be refused for: by the rules of the API, so that no
/// container is made for which those would not let a template ask.
fn refused(added: &Added) -> Vec<String> {
    let env = added
        .env
        .iter()
        .map(|(name, value)| api::template::EnvVar { name: name.clone(), value: value.clone() });
    let template = Template {
        image: "any".to_owned(),
        env: env.collect(),
        dns: added.dns.clone(),
        host_aliases: added.host_aliases.clone(),
        ..Template::default()
    };
    let spec = TaskTemplateSpec { template, ..TaskTemplateSpec::default() };
    let found = TaskTemplate::new("", "any-name", spec).validate();
    let flag = |violation: &Violation| {
        let path = violation.path.strip_prefix("spec.template.")?;
        let flag =
            ["env", "dns", "hostAliases"].into_iter().find(|field| path.starts_with(field))?;
        let flag = if flag == "hostAliases" { "add-host" } else { flag };
        Some(format!("--{flag}: {}", violation.message))
    };
    found.iter().filter_map(flag).collect()
}

/// Why plain processes cannot be given what is added; nothing if they can.
pub fn problem_for_processes(added: &Added) -> Option<&'static str> {
    let is_set = [
        ("--mount", !added.mounts.is_empty()),
        ("--dns", !added.dns.is_empty()),
        ("--add-host", !added.host_aliases.is_empty()),
    ];
    is_set.into_iter().find(|(_, is_set)| *is_set).map(|(flag, _)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_said_with_its_flag() {
        let words = |them: &[&str]| them.iter().map(|&word| word.to_owned()).collect();
        let args = EngineArgs {
            docker_host: Some("tcp://10.0.0.1:2376".to_owned()),
            env: words(&["A", "HELIOX_X=1", "B=1"]),
            mounts: words(&["/a", "a:/b", "/a:/b:rw", "/a:/b:ro"]),
            dns: words(&["db"]),
            add_hosts: words(&["db", "db:10.0.0.1", "db:x"]),
            ..EngineArgs::default()
        };
        let mut problems = Vec::new();
        checked(&args, &mut problems).take_socket(args.docker_host.as_deref(), &mut problems);
        expect_test::expect![[r#"
            --env "A": must be NAME=VALUE
            --mount "/a": must be HOSTPATH:PATH or HOSTPATH:PATH:ro, with absolute paths
            --mount "a:/b": must be HOSTPATH:PATH or HOSTPATH:PATH:ro, with absolute paths
            --mount "/a:/b:rw": must be HOSTPATH:PATH or HOSTPATH:PATH:ro, with absolute paths
            --add-host "db": must be NAME:IP
            --env: "HELIOX_X": variables that start with HELIOX_ are set by Heliox
            --dns: "db" is not an IP address
            --add-host: "x" is not an IP address
            --docker-host "tcp://10.0.0.1:2376": only a unix socket is supported; write for example unix:///var/run/docker.sock
        "#]]
        .assert_eq(&(problems.join("\n") + "\n"));
    }

    #[test]
    fn what_is_right_is_taken() {
        let args = EngineArgs {
            docker_host: Some("unix:///run/podman.sock".to_owned()),
            docker_config: Some("/etc/logins.json".into()),
            mounts: vec!["/etc/ssl:/certs:ro".to_owned()],
            add_hosts: vec!["db:::1".to_owned()],
            ..EngineArgs::default()
        };
        let mut problems = Vec::new();
        let mut options = checked(&args, &mut problems);
        options.take_socket(args.docker_host.as_deref(), &mut problems);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(options.socket, "/run/podman.sock");
        assert_eq!(options.added.host_aliases[0].ip, "::1");
        assert_eq!(problem_for_processes(&options.added), Some("--mount"));
        assert_eq!(problem_for_processes(&Added::default()), None);
    }
}
