//! The laws on the Docker Engine of this machine, and what only it can show.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use api::exec::ExecRequest;
use base::{Clock, Rng};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::RenameContainerOptionsBuilder;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt as _};
use node_agent::engine::conformance::{self, Bench, Program, ended, hold, state, text};
use node_agent::engine::docker::{self, DockerConfig, DockerEngine, busybox};
use node_agent::engine::logs::Output;
use node_agent::engine::{
    ContainerSpec, ContainerState, Engine, EngineError, LABEL_CLUSTER, LogOptions, Mount,
    MountSource, Port, Protocol, PullPolicy, PullProgress, Reason, Resources, Scope, Signal,
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::process::set_shell_program;

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
const REPOSITORY: &str = "heliox-test/busybox";
/// The image that the tests' containers run.
pub(crate) const IMAGE: &str = "heliox-test/busybox:1";

/// A cluster of its own on the machine's engine; its containers go with it.
pub(crate) struct DockerBench {
    cluster: String,
    state: TempDir,
}

pub(crate) async fn bench() -> DockerBench {
    let docker = docker::connect(SOCKET).await.unwrap_or_else(|error| panic!("{error}"));
    busybox::import(&docker, REPOSITORY, "1").await.unwrap_or_else(|error| panic!("{error}"));
    DockerBench { cluster: Rng::from_machine().uuid(), state: tempfile::tempdir().unwrap() }
}

impl DockerBench {
    /// Where the host's credentials for registries would be.
    pub(crate) fn docker_config(&self) -> std::path::PathBuf {
        self.state.path().join("config.json")
    }
}

impl Bench for DockerBench {
    fn engine<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Arc<dyn Engine>> {
        let config = DockerConfig {
            scope: Scope::new(&self.cluster, node).unwrap(),
            socket: SOCKET.to_owned(),
            state_dir: self.state.path().join(node),
            default_host_ip: Some(Ipv4Addr::LOCALHOST.into()),
            docker_config: Some(self.docker_config()),
            clock: Clock::system(),
        };
        async move {
            let engine: Arc<dyn Engine> = Arc::new(DockerEngine::connect(config).await.unwrap());
            engine
        }
        .boxed()
    }

    fn set_program(&self, spec: &mut ContainerSpec, program: Program<'_>) {
        spec.image = format!("{REPOSITORY}:1");
        set_shell_program(spec, program);
    }
}

node_agent::conformance_suite!(bench(), tokio::test);
node_agent::shell_suite!(bench(), tokio::test);

pub(crate) fn says(bench: &DockerBench, script: &str) -> ContainerSpec {
    let mut spec = conformance::spec(bench, "script", Program::Exit(0));
    spec.command = ["sh", "-c", script].map(str::to_owned).into();
    spec
}

/// What a program that runs to its end writes to stdout.
async fn output(engine: &dyn Engine, spec: &ContainerSpec) -> String {
    engine.create_and_start(spec).await.unwrap();
    ended(engine, &spec.identity).await;
    let lines = conformance::all_logs(engine, &spec.identity, LogOptions::default()).await;
    text(&lines, Output::Stdout)
}

/// Why a container is refused; it must leave nothing behind.
async fn refusal(engine: &dyn Engine, spec: &ContainerSpec) -> (Reason, String) {
    let refused = engine.create_and_start(spec).await;
    assert_eq!(state(engine, &spec.identity).await, None, "{refused:?}");
    match refused {
        Err(EngineError::Refused { reason, message }) => (reason, message),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn inspect(
    bench: &DockerBench,
    node: &str,
    spec: &ContainerSpec,
) -> ContainerInspectResponse {
    let name = Scope::new(&bench.cluster, node).unwrap().container_name(&spec.identity);
    docker::connect(SOCKET).await.unwrap().inspect_container(&name, None).await.unwrap()
}

/// Otherwise each run of the tests would leave as many nameless images as it has tests.
#[tokio::test]
async fn an_image_that_is_there_is_not_imported_again() {
    let docker = docker::connect(SOCKET).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        busybox::import(&docker, REPOSITORY, "again").await.unwrap();
        seen.push(docker.inspect_image(&format!("{REPOSITORY}:again")).await.unwrap().id.unwrap());
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn an_image_that_is_not_there_is_refused_by_name() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut spec = says(bench, "true");
        // No registry has this address: nothing is fetched from elsewhere.
        spec.image = "127.0.0.1:1/no/such:image".to_owned();
        for policy in [PullPolicy::Never, PullPolicy::IfNotPresent, PullPolicy::Always] {
            spec.pull_policy = policy;
            let mut refused = engine.create_and_start(&spec).await.err();
            if policy != PullPolicy::Never {
                assert_eq!(refused, Some(EngineError::NeedsImage));
                refused = engine.pull(&spec.image, &PullProgress::default()).await.err();
            }
            let Some(EngineError::Refused { reason: Reason::ImagePull, message }) = refused else {
                panic!("{refused:?}");
            };
            assert!(message.contains("127.0.0.1:1/no/such:image"), "{message}");
        }
        spec.image = format!("{REPOSITORY}:1");
        spec.pull_policy = PullPolicy::Never;
        engine.create_and_start(&spec).await.unwrap();
        assert!(engine.images().await.unwrap().contains(&spec.image));
    })
    .await;
}

/// While the engine removes a container it knows it still, and its log is gone. The agent has kept it.
#[tokio::test]
async fn a_log_that_the_engine_has_deleted_is_read_from_what_was_kept() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = says(bench, "echo one; echo two; echo three");
        assert_eq!(output(&*engine, &spec).await, "one\ntwo\nthree\n");
        let log = inspect(bench, "a", &spec).await.log_path.unwrap();
        let name = format!("{}.log", spec.identity.file_stem());
        std::fs::copy(&log, bench.state.path().join("a/logs").join(name)).unwrap();
        std::fs::remove_file(&log).unwrap();
        let last = LogOptions { tail: Some(1), ..LogOptions::default() };
        let lines = conformance::all_logs(&*engine, &spec.identity, last).await;
        assert_eq!(text(&lines, Output::Stdout), "three\n");
    })
    .await;
}

#[tokio::test]
async fn a_host_path_is_mounted_as_it_says() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let dir = bench.state.path().join("data/set");
        let mount = |read_only, create| Mount {
            path: "/data".into(),
            source: MountSource::HostPath { host_path: dir.clone(), read_only, create },
        };
        let mut spec = says(bench, "echo kept > /data/file && cat /data/file");
        spec.mounts = vec![mount(false, false)];
        let (reason, message) = refusal(&*engine, &spec).await;
        assert_eq!(reason, Reason::Mount);
        assert!(message.contains(dir.to_str().unwrap()), "{message}");

        spec.mounts = vec![mount(false, true)];
        assert_eq!(output(&*engine, &spec).await, "kept\n");
        assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "kept\n");

        for create in [false, true] {
            let mut spec = says(bench, "cat /data/file; touch /data/other || echo refused");
            spec.mounts = vec![mount(true, create)];
            assert_eq!(output(&*engine, &spec).await, "kept\nrefused\n");
        }
    })
    .await;
}

#[tokio::test]
async fn a_command_at_a_terminal_writes_any_bytes() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = conformance::spec(bench, "tty", Program::Forever);
        engine.create_and_start(&spec).await.unwrap();
        let script =
            r#"printf '\001\000\000\000\000\000\377\377'; read line; printf "\002$line"; exit 5"#;
        let command = ["sh", "-c", script].map(str::to_owned).into();
        let request = ExecRequest { command, stdin: true, tty: true };
        let mut exec = engine.exec(&spec.identity, &request).await.unwrap();
        let mut written = Vec::new();
        // The terminal echoes at once what is typed: only what was written before that comes first.
        while written.len() < 8 {
            let read = exec.output.next().await.expect("it has more to say");
            written.extend_from_slice(&read.unwrap().1);
        }
        exec.input.unwrap().write_all(b"hi\n").await.unwrap();
        while let Some(read) = exec.output.next().await {
            written.extend_from_slice(&read.unwrap().1);
        }
        let expected: &[u8] = b"\x01\0\0\0\0\0\xff\xffhi\r\n\x02hi";
        assert_eq!(written, expected, "{}", String::from_utf8_lossy(&written));
        assert_eq!(exec.control.exit_code().await, Ok(5));
        let nothing = ExecRequest { command: vec!["/no/such".to_owned()], ..request };
        let refused = engine.exec(&spec.identity, &nothing).await;
        let code = match refused {
            Err(error) => panic!("docker starts what is not there, and tells by its code: {error}"),
            Ok(exec) => exec.control.exit_code().await,
        };
        assert!(matches!(code, Ok(126 | 127)), "{code:?}");
    })
    .await;
}

/// It runs, as everybody sees: that it does not would send people looking in the wrong place.
#[tokio::test]
async fn a_container_that_was_paused_says_so_where_a_command_is_to_run() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = conformance::spec(bench, "paused", Program::Forever);
        engine.create_and_start(&spec).await.unwrap();
        let name = Scope::new(&bench.cluster, "a").unwrap().container_name(&spec.identity);
        let docker = docker::connect(SOCKET).await.unwrap();
        docker.pause_container(&name).await.unwrap();
        let request = ExecRequest { command: vec!["true".to_owned()], stdin: false, tty: false };
        let refused = engine.exec(&spec.identity, &request).await;
        docker.unpause_container(&name).await.unwrap();
        let why = refused.map(drop).unwrap_err().to_string();
        assert!(why.contains("is paused; docker unpause"), "{why}");
        engine.exec(&spec.identity, &request).await.map(drop).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_tmpfs_has_its_size() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut spec = says(bench, "grep ' /scratch ' /proc/mounts");
        let size_bytes = Some(1 << 20);
        spec.mounts =
            vec![Mount { path: "/scratch".into(), source: MountSource::Tmpfs { size_bytes } }];
        let mounted = output(&*engine, &spec).await;
        assert!(mounted.starts_with("tmpfs") && mounted.contains("size=1024k"), "{mounted}");
    })
    .await;
}

#[tokio::test]
async fn a_port_is_reachable_on_the_default_address_and_taken_once() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let host_port = base::reserved_port().unwrap();
        let mut spec = says(bench, "echo hello | nc -l -p 8080; sleep 1000");
        spec.ports = vec![Port {
            name: "http".to_owned(),
            container_port: 8080,
            host_port: Some(host_port),
            host_ip: None,
            protocol: Protocol::Tcp,
        }];
        engine.create_and_start(&spec).await.unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, host_port));
        let greeting = tokio::task::spawn_blocking(move || {
            // Docker's proxy accepts before the program listens, and then says nothing.
            loop {
                let mut text = String::new();
                let mut stream = TcpStream::connect(address).unwrap();
                if stream.read_to_string(&mut text).is_ok() && !text.is_empty() {
                    return text;
                }
            }
        });
        assert_eq!(greeting.await.unwrap(), "hello\n");
        let bindings = inspect(bench, "a", &spec).await.host_config.unwrap().port_bindings.unwrap();
        let binding = bindings["8080/tcp"].as_ref().unwrap()[0].clone();
        assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));

        let mut second = says(bench, "true");
        second.ports = spec.ports.clone();
        let (reason, message) = refusal(&*engine, &second).await;
        assert_eq!(reason, Reason::PortTaken, "{message}");
        assert!(message.contains(&host_port.to_string()), "{message}");
    })
    .await;
}

#[tokio::test]
async fn limits_and_labels_reach_the_engine() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let mut spec = says(bench, "sleep 1000");
        spec.labels = [("app", "web"), (LABEL_CLUSTER, "another")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        spec.resources = Resources {
            cpu_request_millis: Some(500),
            cpu_limit_millis: Some(1_500),
            memory_limit_bytes: Some(64 << 20),
            ..Resources::default()
        };
        engine.create_and_start(&spec).await.unwrap();
        let inspected = inspect(bench, "a", &spec).await;
        let host = inspected.host_config.unwrap();
        assert_eq!(
            (host.cpu_shares, host.nano_cpus, host.memory),
            (Some(512), Some(1_500_000_000), Some(64 << 20))
        );
        let labels = inspected.config.unwrap().labels.unwrap();
        assert_eq!(labels["app"], "web");
        assert_eq!(labels[LABEL_CLUSTER], bench.cluster, "a user cannot give a container away");
    })
    .await;
}

#[tokio::test]
async fn a_container_of_another_cluster_is_never_touched() {
    hold(bench().await, async |bench| {
        let other = DockerBench {
            cluster: Rng::from_machine().uuid(),
            state: tempfile::tempdir().unwrap(),
        };
        hold(other, async |other| {
            let (ours, theirs) = (bench.engine("a").await, other.engine("a").await);
            // The same node name and the same identity: the same container name.
            let spec = conformance::spec(bench, "same", Program::Forever);
            ours.create_and_start(&spec).await.unwrap();
            let (reason, message) = refusal(&*theirs, &spec).await;
            assert_eq!(reason, Reason::NameTaken, "{message}");
            assert_eq!(theirs.kill(&spec.identity).await, Err(EngineError::Gone));
            assert_eq!(theirs.remove(&spec.identity).await, Err(EngineError::Gone));
            let running = state(&*ours, &spec.identity).await;
            assert!(matches!(running, Some(ContainerState::Running { .. })), "{running:?}");
        })
        .await;
    })
    .await;
}

async fn rename(bench: &DockerBench, spec: &ContainerSpec, name: &str) {
    let id = inspect(bench, "a", spec).await.id.unwrap();
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    docker::connect(SOCKET).await.unwrap().rename_container(&id, options).await.unwrap();
}

#[tokio::test]
async fn what_the_engine_will_never_do_is_refused_with_a_sentence() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let at = |dir: String| {
            let mut spec = says(bench, "true");
            spec.working_dir = Some(dir);
            spec
        };
        let runs = |command: &str| {
            let mut spec = says(bench, "true");
            spec.command = vec![command.to_owned()];
            spec
        };
        let long = "a".repeat(300);
        let mut shares = says(bench, "true");
        shares.resources.cpu_request_millis = Some(1_000_000);
        let mut env = says(bench, "true");
        env.env = vec![("A".to_owned(), "a".repeat(200_000))];
        let mut elsewhere = says(bench, "true");
        elsewhere.ports = vec![Port {
            name: "http".to_owned(),
            container_port: 80,
            host_port: Some(base::reserved_port().unwrap()),
            host_ip: Some(Ipv4Addr::new(10, 99, 99, 99).into()),
            protocol: Protocol::Tcp,
        }];
        let mut onto_a_file = says(bench, "true");
        onto_a_file.mounts = vec![Mount {
            path: "/bin/busybox".into(),
            source: MountSource::Tmpfs { size_bytes: None },
        }];
        let cases = [
            (at("/bin/busybox".to_owned()), Reason::Invalid, "workingDir /bin/busybox: "),
            (at("/bin/busybox/below".to_owned()), Reason::Invalid, "workingDir /bin/busybox/below"),
            (at(format!("/{long}")), Reason::Invalid, "file name too long"),
            (at("relative".to_owned()), Reason::Invalid, "'relative'"),
            (runs("/tmp"), Reason::CannotRun, "/tmp"),
            (runs("/bin/busybox/below"), Reason::Invalid, "/bin/busybox/below"),
            (runs(&long), Reason::CannotRun, "executable file not found"),
            (shares, Reason::Invalid, "cpu-shares"),
            (env, Reason::CannotRun, "argument list too long"),
            (elsewhere, Reason::Invalid, "10.99.99.99"),
            (onto_a_file, Reason::Mount, "/bin/busybox"),
        ];
        for (spec, wanted, part) in cases {
            let (reason, message) = refusal(&*engine, &spec).await;
            assert_eq!(reason, wanted, "{message}");
            assert!(message.contains(part), "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_renamed_container_is_still_the_tasks() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        for is_fresh in [false, true] {
            let spec = conformance::spec(bench, "renamed", Program::Forever);
            engine.create_and_start(&spec).await.unwrap();
            let name = format!("by-hand-{}", spec.identity.uid());
            rename(bench, &spec, &name).await;
            // What an agent has after its restart knows no container yet.
            let engine = if is_fresh { bench.engine("a").await } else { Arc::clone(&engine) };
            assert!(engine.create_and_start(&spec).await.unwrap().adopted, "not doubled");
            let seen = engine.inspect(&spec.identity).await.unwrap();
            assert!(matches!(seen, Some(ContainerState::Running { .. })), "{seen:?}");
            let request =
                ExecRequest { command: vec!["true".to_owned()], stdin: false, tty: false };
            let exec = engine.exec(&spec.identity, &request).await.unwrap();
            assert_eq!(exec.control.exit_code().await, Ok(0));
            engine.signal(&spec.identity, Signal::TERM).await.unwrap();
            assert_eq!(ended(&*engine, &spec.identity).await, (143, Some(15)));
            engine.remove(&spec.identity).await.unwrap();
            assert_eq!(state(&*engine, &spec.identity).await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn two_containers_of_one_identity_are_one_and_both_go() {
    hold(bench().await, async |bench| {
        let engine = bench.engine("a").await;
        let spec = conformance::spec(bench, "twins", Program::Forever);
        engine.create_and_start(&spec).await.unwrap();
        // As a former agent made them: the first was renamed, and so it made a second.
        let docker = docker::connect(SOCKET).await.unwrap();
        let labels = inspect(bench, "a", &spec).await.config.unwrap().labels;
        let body = ContainerCreateBody {
            image: Some(spec.image.clone()),
            entrypoint: Some(spec.command.clone()),
            labels,
            ..ContainerCreateBody::default()
        };
        let twin = docker.create_container(None, body).await.unwrap().id;
        docker.start_container(&twin, None).await.unwrap();
        let engine = bench.engine("a").await;
        state(&*engine, &spec.identity).await;
        engine.signal(&spec.identity, Signal::TERM).await.unwrap();
        assert_eq!(ended(&*engine, &spec.identity).await, (143, Some(15)), "both have ended");
        engine.remove(&spec.identity).await.unwrap();
        let gone = docker.inspect_container(&twin, None).await.unwrap_err().to_string();
        assert!(gone.contains("404"), "{gone}");
    })
    .await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_says_what_to_install() {
    let absent = docker::connect("/no/such/docker.sock").await.unwrap_err().to_string();
    assert!(absent.contains("install docker.io") && absent.contains("dockerd"), "{absent}");
}
