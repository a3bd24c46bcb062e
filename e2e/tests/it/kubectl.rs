//! kubectl, which nobody here wrote: what README claims of it, with whichever version is installed.

use std::process::Output;
use std::time::Duration;

use e2e::dev::Dev;
use e2e::fleet::until_async;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

const JOB: &str = r"
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: a, labels: {app: demo}}
spec: {template: {image: busybox, command: [sleep, '600'], terminationGracePeriodSeconds: 30}}
";

struct Kubectl<'a>(&'a Dev);

impl Kubectl<'_> {
    /// A command that knows of no other cluster.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        let config = self.0.dir().join("no-kubeconfig");
        // What the server serves is kept in a folder of this test.
        command
            .arg(format!("--server={}", self.0.url()))
            .arg(format!("--cache-dir={}", self.0.dir().join("cache").display()))
            .args(words)
            .env("KUBECONFIG", config)
            .env("HOME", self.0.dir())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, words: &[&str]) -> Output {
        let output = tokio::time::timeout(PATIENCE, self.command(words).output()).await;
        let Ok(output) = output else {
            let held = self.0.hctl(&["get", "tasks,events", "-o", "yaml"]).await;
            panic!("kubectl {words:?} has no end: {held:#?}\n{}", self.0.log());
        };
        output.expect("kubectl is installed (Debian: kubernetes-client; `make prepare` does it)")
    }

    /// What a command prints, which must succeed.
    async fn says(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command complains about, which must fail.
    async fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words).await;
        assert!(!output.status.success(), "kubectl {words:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A cluster with a job whose task runs. It is made with our own client: kubectl asks for an OpenAPI
/// document first.
async fn cluster() -> Dev {
    let dev = Dev::start().await;
    dev.apply(JOB).await;
    task_runs(&dev).await;
    dev
}

/// Waits until the job's task runs; it may have to be made first.
async fn task_runs(dev: &Dev) {
    let wait = ["wait", "task/a-0", "--for", "ready", "--timeout", "60s"];
    until_async("the task runs", async || dev.hctl(&wait).await.code == 0).await;
}

#[tokio::test]
async fn kubectl_shows_our_kinds_in_every_form() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    let table = kubectl.says(&["get", "jobs.heliox.dev"]).await;
    assert!(table.starts_with("NAME") && table.contains("\na "), "{table}");
    let wide = kubectl.says(&["get", "nodes.heliox.dev", "-o", "wide"]).await;
    assert!(wide.contains("KERNEL") && wide.contains("Ready"), "{wide}");
    assert_eq!(kubectl.says(&["get", "job/a", "-o", "name"]).await, "job.heliox.dev/a\n");
    let path = "jsonpath={.spec.template.image}";
    assert_eq!(kubectl.says(&["get", "job/a", "-o", path]).await, "busybox");
    let yaml = kubectl.says(&["get", "job", "a", "-o", "yaml"]).await;
    assert!(yaml.contains("kind: Job") && yaml.contains("observedGeneration: 1"), "{yaml}");
    let json = kubectl.says(&["get", "jobs", "-l", "app=demo", "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["items"][0]["metadata"]["name"], "a");
    let selected = ["get", "tasks", "--field-selector", "status.phase=Running", "-o", "name"];
    assert_eq!(kubectl.says(&selected).await, "task.heliox.dev/a-0\n");
    let namespaces = kubectl.says(&["get", "ns", "--no-headers"]).await;
    assert!(namespaces.lines().all(|line| line.contains("Active")), "{namespaces}");
    let described = kubectl.says(&["describe", "job", "a"]).await;
    assert!(described.contains("Kind:         Job"), "{described}");
    assert!(described.contains("Events:"), "{described}");
    let why = kubectl.fails(&["get", "job", "none"]).await;
    assert!(why.contains("NotFound") && why.contains("not found"), "{why}");
    let all = kubectl.says(&["get", "all", "-o", "name"]).await;
    assert_eq!(all, "job.heliox.dev/a\ntask.heliox.dev/a-0\n");
    let kinds = kubectl.says(&["api-resources", "--api-group=heliox.dev"]).await;
    assert!(kinds.contains("partitionsets"), "{kinds}");
}

#[tokio::test]
async fn kubectl_waits_for_conditions() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    for (what, condition) in [("node.heliox.dev/node-1", "Ready"), ("task/a-0", "Ready")] {
        let wait = ["wait", what, &format!("--for=condition={condition}"), "--timeout=30s"];
        assert!(kubectl.says(&wait).await.contains("condition met"), "{what}");
    }
    let wait = ["wait", "job/a", "--for=condition=Reconciling", "--timeout=30s"];
    assert!(kubectl.says(&wait).await.contains("condition met"));
    let why = kubectl.fails(&["wait", "job/a", "--for=condition=Ready", "--timeout=1s"]).await;
    assert!(why.contains("timed out"), "{why}");
}

/// The identity of the job's task; empty between one and the next.
async fn uid_of_the_task(kubectl: &Kubectl<'_>) -> String {
    let path = "jsonpath={.metadata.uid}";
    kubectl.says(&["get", "task", "a-0", "--ignore-not-found", "-o", path]).await
}

/// Waits until the job has made another task in the place of `former`; its identity.
async fn another_task(kubectl: &Kubectl<'_>, former: &str) -> String {
    let is_another = |uid: &str| !uid.is_empty() && uid != former;
    let made = async || is_another(&uid_of_the_task(kubectl).await);
    until_async("its job makes another one", made).await;
    uid_of_the_task(kubectl).await
}

#[tokio::test]
async fn kubectl_deletes_a_task_with_the_grace_that_is_asked_for() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    let first = uid_of_the_task(&kubectl).await;
    // Without kubectl's own wait: up to 1.35 it may wait for the task of the same name that the job makes at
    // once (https://github.com/kubernetes/kubernetes/issues/135562, told of in docs/coming-from.md).
    kubectl.says(&["delete", "task", "a-0", "--now", "--wait=false"]).await;
    let second = another_task(&kubectl, &first).await;
    // Events are written a moment after what they tell of.
    let sorted = ["get", "events", "--sort-by=.lastTimestamp"];
    let told =
        async || kubectl.says(&sorted).await.contains("deleted by a user, running again: a-0");
    until_async("the event is shown", told).await;
    let described = kubectl.says(&["describe", "job", "a"]).await;
    assert!(described.contains("TaskDeleted"), "{described}");
    task_runs(&dev).await;
    kubectl.says(&["delete", "task", "a-0", "--force", "--grace-period=0", "--wait=false"]).await;
    another_task(&kubectl, &second).await;
    kubectl.says(&["delete", "job", "a", "--cascade=foreground", "--wait"]).await;
    assert_eq!(kubectl.says(&["get", "jobs,tasks", "-o", "name"]).await, "");
}

#[tokio::test]
async fn kubectl_watches() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    let mut watch = kubectl.command(&["get", "jobs", "-w", "-o", "name"]);
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut seen = async |name: &str| {
        let found = async { while lines.next_line().await.unwrap().unwrap() != name {} };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{name}"));
    };
    seen("job.heliox.dev/a").await;
    dev.apply(&JOB.replace("name: a", "name: b")).await;
    seen("job.heliox.dev/b").await;
    watch.kill().await.unwrap();
}

#[tokio::test]
async fn kubectl_makes_and_changes_objects() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    let patch = r#"{"metadata":{"labels":{"x":"y"}}}"#;
    kubectl.says(&["patch", "job", "a", "--type=merge", "-p", patch]).await;
    kubectl.says(&["label", "job", "a", "z=1"]).await;
    kubectl.says(&["annotate", "job", "a", "note=here"]).await;
    // What kubectl would check against is not served yet; the server checks every field itself.
    let file = dev.dir().join("b.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, JOB.replace("name: a", "name: b")).unwrap();
    kubectl.says(&["create", "-f", path, "--validate=false"]).await;
    kubectl.says(&["apply", "-f", path, "--validate=false"]).await;
    std::fs::write(&file, JOB.replace("template:", "templat:")).unwrap();
    let why = kubectl.fails(&["apply", "-f", path, "--validate=false"]).await;
    assert!(why.contains("templat"), "{why}");
    let labels = kubectl.says(&["get", "job", "a", "-o", "jsonpath={.metadata.labels}"]).await;
    assert!(labels.contains(r#""x":"y""#) && labels.contains(r#""z":"1""#), "{labels}");
}

/// kubectl writes kinds that it has built in, in forms that are not taken: `docs/coming-from.md` says so, and
/// what to do instead.
#[tokio::test]
async fn kubectl_makes_and_replaces_its_own_kinds_from_manifests_alone() {
    let dev = cluster().await;
    let kubectl = Kubectl(&dev);
    let literal = "--from-literal=mode=fast";
    for words in [
        &["create", "namespace", "team"][..],
        &["create", "configmap", "settings", literal],
        &["create", "secret", "generic", "secret", literal],
    ] {
        let why = kubectl.fails(words).await;
        assert!(why.contains("protobuf"), "{words:?}: {why}");
    }
    let words = ["create", "configmap", "settings", literal, "--dry-run=client", "-o", "json"];
    let settings = kubectl.says(&words).await;
    let file = dev.dir().join("settings.json");
    let path = file.to_str().unwrap();
    std::fs::write(&file, &settings).unwrap();
    kubectl.says(&["create", "--validate=false", "-f", path]).await;
    std::fs::write(&file, settings.replace("fast", "slow")).unwrap();
    kubectl.fails(&["apply", "--validate=false", "-f", path]).await;
    kubectl.says(&["replace", "--validate=false", "-f", path]).await;
    let mode = kubectl.says(&["get", "configmap", "settings", "-o", "jsonpath={.data.mode}"]).await;
    assert_eq!(mode, "slow");
}
