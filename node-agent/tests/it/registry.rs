//! Images from a real registry on this machine, which asks for a login.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Tasks;
use bollard::auth::DockerCredentials;
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptions,
};
use futures_util::TryStreamExt as _;
use node_agent::engine::conformance::{Bench as _, Program, ended, hold, spec};
use node_agent::engine::docker;
use node_agent::engine::{Engine, EngineError, PullProgress, Reason};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Duration, sleep, timeout};

use crate::docker::{DockerBench, SOCKET, bench, inspect, says};

/// `user:secret`, as htpasswd writes it.
const LOGINS: &str = "user:$2b$04$2M0QU7WTMQM0kk5GcgElOeCESMAARU5kGAJXVOvhjwu0xmcpvXoQ.\n";
/// `user:secret`, as `docker login` writes it.
const RIGHT: &str = "dXNlcjpzZWNyZXQ=";
/// `user:wrong`, in the same form.
const WRONG: &str = "dXNlcjp3cm9uZw==";
/// How long a test waits for what is to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of an image a slow registry tells before it pauses.
const BYTES_BEFORE_PAUSE: u64 = 400_000;

const NO_OPTIONS: Option<RemoveImageOptions> = None;

/// A registry; it ends with the test.
struct Registry {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}

impl Registry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = base::reserved_port().unwrap();
        let (logins, config) = (dir.path().join("logins"), dir.path().join("config.yml"));
        std::fs::write(&logins, LOGINS).unwrap();
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {logins}}}}}\n",
            root = dir.path().join("data").display(),
            logins = logins.display(),
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's package docker-registry is installed");
        let registry = Self { process, port, _dir: dir };
        let answers = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, answers).await.expect("the registry answers");
        registry
    }

    /// The name of a repository of it, as reached at a port.
    fn name(port: u16) -> String {
        format!("127.0.0.1:{port}/team/app")
    }

    /// Pushes an image that has a layer of its own, of which nothing is left here.
    async fn push(&self, bench: &DockerBench) -> String {
        let (docker, engine) = (docker::connect(SOCKET).await.unwrap(), bench.engine("b").await);
        let spec = says(bench, "head -c 2000000 /dev/urandom > /data");
        engine.create_and_start(&spec).await.unwrap();
        ended(&*engine, &spec.identity).await;
        let name = Self::name(self.port);
        let container = inspect(bench, "b", &spec).await.id.unwrap();
        let options =
            CommitContainerOptionsBuilder::new().container(&container).repo(&name).tag("1");
        docker.commit_container(options.build(), ContainerConfig::default()).await.unwrap();
        engine.remove(&spec.identity).await.unwrap();
        let credentials = DockerCredentials {
            username: Some("user".to_owned()),
            password: Some("secret".to_owned()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::new().tag("1").build();
        let pushed = docker.push_image(&name, Some(options), Some(credentials));
        pushed.try_collect::<Vec<_>>().await.unwrap();
        let whole = format!("{name}:1");
        docker.remove_image(&whole, NO_OPTIONS, None).await.unwrap();
        whole
    }
}

/// Writes the host's credentials for a registry.
fn log_in(bench: &DockerBench, port: u16, auth: &str) {
    let text = format!(r#"{{ "auths": {{ "127.0.0.1:{port}": {{ "auth": "{auth}" }} }} }}"#);
    std::fs::write(bench.docker_config(), text).unwrap();
}

async fn refusal(engine: &dyn Engine, image: &str) -> String {
    match engine.pull(image, &PullProgress::default()).await {
        Err(EngineError::Refused { reason: Reason::ImagePull, message }) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_image_is_fetched_with_the_hosts_credentials_and_failures_are_told_apart() {
    hold(bench().await, async |bench| {
        let (docker, registry) = (docker::connect(SOCKET).await.unwrap(), Registry::start().await);
        let image = registry.push(bench).await;
        let engine = bench.engine("a").await;
        let login = "the registry refuses the login";
        assert!(refusal(&*engine, &image).await.contains(login), "nobody has logged in");
        log_in(bench, registry.port, WRONG);
        assert!(refusal(&*engine, &image).await.contains(login), "with a wrong password");
        log_in(bench, registry.port, RIGHT);
        engine.pull(&image, &PullProgress::default()).await.unwrap();
        let mut runs = spec(bench, "runs", Program::Forever);
        (runs.image, runs.wants_digest) = (image.clone(), true);
        let digest = engine.create_and_start(&runs).await.unwrap().digest.unwrap();
        let again = engine.create_and_start(&runs).await.unwrap();
        assert!(again.adopted && again.digest.as_ref() == Some(&digest), "{again:?}");
        engine.remove(&runs.identity).await.unwrap();
        assert!(engine.images().await.unwrap().contains(&image));
        docker.remove_image(&image, NO_OPTIONS, None).await.unwrap();

        // The same image, whatever the tag means by now.
        let other = registry.push(bench).await;
        assert_eq!(other, image);
        let pinned = format!("{}@{digest}", Registry::name(registry.port));
        engine.pull(&pinned, &PullProgress::default()).await.unwrap();
        runs.image.clone_from(&pinned);
        let first = engine.create_and_start(&runs).await.unwrap().digest;
        engine.remove(&runs.identity).await.unwrap();
        assert_eq!(first, Some(digest));
        docker.remove_image(&pinned, NO_OPTIONS, None).await.unwrap();
        let gone = format!("{}@sha256:{}", Registry::name(registry.port), "0".repeat(64));
        let gone = refusal(&*engine, &gone).await;
        assert!(gone.contains("push it again, or roll out another revision"), "{gone}");
        // What no registry knows has none.
        let mut local = spec(bench, "local", Program::Forever);
        local.wants_digest = true;
        assert_eq!(engine.create_and_start(&local).await.unwrap().digest, None);

        let missing = refusal(&*engine, &format!("{}:2", Registry::name(registry.port))).await;
        assert!(missing.contains("the registry has no such image or tag"), "{missing}");
        let nowhere = refusal(&*engine, "127.0.0.1:1/team/app:1").await;
        assert!(nowhere.contains("the registry cannot be reached"), "{nowhere}");
        std::fs::write(bench.docker_config(), "{").unwrap();
        let damaged = refusal(&*engine, &image).await;
        let path = bench.docker_config();
        assert!(
            damaged.contains(path.to_str().unwrap()) && damaged.contains("not JSON"),
            "{damaged}"
        );
    })
    .await;
}

/// Passes on to a registry at `to`, until so many bytes of it were passed back and `go_on` is not set.
async fn slow(tasks: &Tasks, to: u16, go_on: watch::Receiver<bool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let passed = Arc::new(AtomicU64::new(0));
    let each = tasks.spawner();
    tasks.spawn("slow registry", async move {
        while let Ok((client, _)) = listener.accept().await {
            let (passed, mut go_on) = (Arc::clone(&passed), go_on.clone());
            each.spawn("slow answer", async move {
                let registry = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_registry, mut to_registry) = registry.into_split();
                let asks = tokio::io::copy(&mut from_client, &mut to_registry);
                let answers = async {
                    let mut buffer = vec![0; 16 << 10];
                    loop {
                        let read = from_registry.read(&mut buffer).await.unwrap_or(0);
                        if read == 0 {
                            return;
                        }
                        let before = passed.fetch_add(read as u64, Ordering::Relaxed);
                        if before > BYTES_BEFORE_PAUSE
                            && go_on.wait_for(|go_on| *go_on).await.is_err()
                        {
                            return;
                        }
                        if to_client.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = asks => (),
                    () = answers => (),
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_slow_pull_tells_how_far_it_is_and_delays_nothing_else() {
    hold(bench().await, async |bench| {
        let (docker, registry) = (docker::connect(SOCKET).await.unwrap(), Registry::start().await);
        registry.push(bench).await;
        let (go_on, is_let_go) = watch::channel(false);
        let tasks = Tasks::new("test");
        let port = slow(&tasks, registry.port, is_let_go).await;
        log_in(bench, port, RIGHT);
        let image = format!("{}:1", Registry::name(port));
        let engine = bench.engine("a").await;
        let (progress, mut seen) = PullProgress::watched();
        let meanwhile = async {
            let some = seen.wait_for(|percent| percent.is_some_and(|percent| percent > 0));
            let percent = *timeout(PATIENCE, some).await.unwrap().unwrap();
            assert!(percent.is_some_and(|percent| percent < 100), "{percent:?}");
            let other = spec(bench, "other", Program::Forever);
            engine.create_and_start(&other).await.unwrap();
            go_on.send(true).unwrap();
        };
        let pull = timeout(PATIENCE, engine.pull(&image, &progress));
        let (pulled, ()) = tokio::join!(pull, meanwhile);
        pulled.unwrap().unwrap();
        docker.remove_image(&image, NO_OPTIONS, None).await.unwrap();
    })
    .await;
}
