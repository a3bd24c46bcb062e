//! Installs and starts what the tests need and the machine does not have, or says what to install.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program or a file, and the Debian package that contains it.
type Need = (&'static str, &'static str);

/// What containers need: the engine, and a static program for an image.
const FOR_DOCKER: [Need; 2] = [("dockerd", "docker.io"), ("busybox", "busybox-static")];
/// What the build and the tests need apart from that.
const FOR_TESTS: [Need; 9] = [
    ("awk", "mawk"),
    ("docker-registry", "docker-registry"),
    ("etcd", "etcd-server"),
    ("fish", "fish"),
    ("kubectl", "kubernetes-client"),
    ("openssl", "openssl"),
    ("protoc", "protobuf-compiler"),
    ("/usr/include/google/protobuf/descriptor.proto", "libprotobuf-dev"),
    ("zsh", "zsh"),
];

/// Installs and starts everything.
pub(crate) fn prepare() -> Result<()> {
    install_missing(&FOR_TESTS)?;
    if !is_there("cargo-nextest") {
        run(Command::new("cargo").args(["install", "--locked", "cargo-nextest"]))?;
    }
    docker()
}

/// Installs and starts what containers need.
pub(crate) fn docker() -> Result<()> {
    install_missing(&FOR_DOCKER)?;
    start_docker()
}

fn install_missing(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Whether a file exists, or a program is in the path or in root's path.
pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/local/bin"])
        .any(|dir| Path::new(dir).join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_there("apt-get") {
        bail!("{list} (Debian's names) is needed: install it and run this again");
    }
    let mut apt = if is_root() {
        Command::new("apt-get")
    } else if is_there("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        bail!("{list} is needed: run `apt-get install {list}` as root, and this again");
    };
    let program = apt.get_program().to_owned();
    let first: Vec<_> = apt.get_args().map(ToOwned::to_owned).collect();
    run(Command::new(&program).args(&first).args(["update", "-qq"]))?;
    apt.args(["install", "-y", "-qq"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt)
}

/// Runs a command. If it fails, the error names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// Whether a Docker Engine answers.
pub(crate) fn docker_answers() -> bool {
    let version = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Starts a Docker Engine unless one answers. It keeps running when this program ends.
fn start_docker() -> Result<()> {
    if docker_answers() {
        return Ok(());
    }
    if !is_root() {
        bail!("no Docker Engine answers: start dockerd (as root), and run this again");
    }
    let log = std::env::temp_dir().join("heliox-dockerd.log");
    let file = std::fs::File::create(&log).with_context(|| format!("make {}", log.display()))?;
    Command::new("setsid")
        .arg("dockerd")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("start dockerd")?;
    // Docker's own client waits between tries; ours asks until it answers.
    for _ in 0..60 {
        if docker_answers() {
            return Ok(());
        }
        run(Command::new("sleep").arg("1"))?;
    }
    bail!("dockerd was started and does not answer; its log is {}", log.display())
}
