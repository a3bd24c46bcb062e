//! Every verb of `hctl` on every kind, against a real `heliox dev`: a session that is printed, and
//! compared with the one that was read and found good ([`SESSION`]).
//!
//! A new kind has no example here and does not compile; a new verb has no row and fails.

mod manifests;
mod outages;
mod people;
pub(crate) mod redact;
mod shells;
mod waits;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use api::KindId;
use clap::CommandFactory as _;
use ctl::args::Args;
use e2e::dev::{Dev, Said};
use e2e::fleet::until_async;
use expect_test::expect_file;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use redact::{aligned, redacted, without_progress};

/// The session.
const SESSION: &str = "session.txt";

/// One object of each kind that people make, and some of those that Heliox makes of them.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: team}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {key: value}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: correct-horse}
---
apiVersion: heliox.dev/v1
kind: PartitionSet
metadata: {name: set}
spec: {partitions: 2, stateModel: OnlineOffline, mode: Manual, assignment: {set-0: {node-1: ONLINE}, set-1: {node-1: ONLINE}}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: good}
spec: {template: {image: busybox, command: [sh, -c, "echo out; echo more"]}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: bad}
spec: {retry: {maxAttempts: 1}, template: {image: busybox, command: [sh, -c, "echo about to fail; exit 3"]}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: cannot}
spec: {retry: {maxAttempts: 1}, template: {image: busybox, command: [no-such-program]}}
---
apiVersion: heliox.dev/v1
kind: Job
metadata: {name: long}
spec: {template: {image: busybox, command: [sleep, "600"], terminationGracePeriodSeconds: 1}}
---
apiVersion: heliox.dev/v1
kind: Service
metadata: {name: web}
spec: {replicas: 2, template: {image: busybox, command: [sleep, "600"], terminationGracePeriodSeconds: 1}}
---
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: flow}
spec:
  params: [{name: word, default: hello}]
  jobs:
    - {name: a, template: {image: busybox, command: [echo, $(params.word)]}}
    - {name: b, dependsOn: [{job: a}], template: {image: busybox, command: ["true"]}}
"#;

/// An object of each kind that the API serves, and the namespace that it is in.
async fn example(dev: &Dev, kind: KindId) -> Option<(String, &'static str)> {
    let first = async |word: &str, namespace: &'static str| {
        let names = dev.done(&["get", word, "-n", namespace, "-o", "name"]).await;
        let name = names.lines().next().expect("there is one").split_once('/').unwrap().1;
        Some((name.to_owned(), namespace))
    };
    let named = |name: &str| Some((name.to_owned(), "default"));
    match kind {
        KindId::Namespace => named("team"),
        KindId::ConfigMap => named("config"),
        KindId::Secret => named("secret"),
        KindId::Event => first("events", "default").await,
        KindId::Lease => first("leases", "heliox-system").await,
        KindId::Node => named("node-1"),
        KindId::PartitionSet => named("set"),
        KindId::Workflow => named("flow"),
        KindId::WorkflowRun => named("flow-1"),
        KindId::Job => named("good"),
        KindId::Service => named("web"),
        KindId::TaskTemplate => first("tasktemplates", "default").await,
        KindId::Task => named("good-0"),
        KindId::NodeLease | KindId::CompletionChunk => None,
    }
}

/// A kind, and the object that stands for it.
#[derive(Debug, Clone)]
struct Example {
    kind: KindId,
    name: String,
    namespace: &'static str,
}

/// The verbs that `hctl` has, but for its help: those of a group by both words.
fn verbs() -> Vec<String> {
    let mut verbs = Vec::new();
    for verb in Args::command().get_subcommands() {
        let name = verb.get_name();
        let parts: Vec<&str> = verb.get_subcommands().map(clap::Command::get_name).collect();
        if !verb.is_subcommand_required_set() {
            verbs.push(name.to_owned());
        }
        verbs.extend(parts.iter().map(|part| format!("{name} {part}")));
    }
    verbs
}

/// What is tried of a verb with an object; nothing for a verb that is of no object.
fn lines(verb: &str, example: &Example) -> Vec<String> {
    let Example { kind, name, namespace } = example;
    let (plural, singular) = (kind.info().plural, kind.info().singular);
    let lines: Vec<String> = match verb {
        "get" => {
            let fields = kind.selectable_fields();
            let by =
                |field: &&str| format!("get {plural} -A -o name --field-selector {field}=no-such");
            let forms = ["wide", "yaml", "json", "name"];
            [format!("get {plural}"), format!("get {singular}/{name}")]
                .into_iter()
                .chain(forms.iter().map(|form| format!("get {plural} {name} -o {form}")))
                .chain(fields.iter().map(by))
                .collect()
        }
        "events" => vec![
            format!("events --for {singular}/{name} -o name"),
            format!("events {singular}/{name} -o name"),
            format!("events {singular} {name} -o name"),
        ],
        "wait" => ["succeeded", "failed", "done", "ready", "deleted"]
            .map(|goal| format!("wait {singular}/{name} --for {goal} --timeout 0s"))
            .into(),
        "delete" => vec![
            format!("delete {singular}/no-such"),
            format!("delete {singular}/{name} --wait --timeout 60s"),
        ],
        "exec" => vec![format!("exec {singular}/{name} -- true")],
        "scale" => vec![format!("scale {singular}/{name} --replicas 1")],
        "rollout status" => vec![format!("rollout status {singular}/{name} -w=false")],
        "logs" | "cancel" | "suspend" | "resume" | "evict" | "cordon" | "uncordon"
            if matches!(kind, KindId::Job | KindId::Task | KindId::Node) =>
        {
            vec![format!("{verb} {singular}/{name}"), format!("{verb} {singular} {name}")]
        }
        "label" => vec![
            format!("label {singular}/{name} tier=front"),
            format!("label {singular}/{name} tier=front"),
            format!("label {singular}/{name} tier=back"),
            format!("label {singular}/{name} tier-"),
        ],
        "taint" => vec![format!("taint {singular}/{name} tier=front:NoSchedule")],
        // What a drain moves, and when, differs from run to run: `drains` has it.
        "drain" if *kind == KindId::Node => Vec::new(),
        "drain" => vec![format!("drain {singular}/{name} --no-wait")],
        "describe" | "logs" | "cancel" | "suspend" | "resume" | "evict" | "cordon" | "uncordon"
        | "run" | "rerun" | "history" | "rollout history" | "rollout undo" | "rollout pause"
        | "rollout resume" | "rollout restart" | "rollout promote" | "rollout abort" => {
            vec![format!("{verb} {singular}/{name}")]
        }
        "apply" | "deploy" | "top nodes" | "top tasks" | "cluster" | "cluster confirm"
        | "debug bundle" | "version" | "completion" => Vec::new(),
        other => panic!("{other} has no row: say what is tried of it with an object"),
    };
    let place = if *namespace == "default" { String::new() } else { format!("-n {namespace} ") };
    lines.into_iter().map(|line| format!("{place}{line}")).collect()
}

/// What is tried of a verb beside what is tried with an object of each kind.
const MORE_LINES: &[(&str, &[&str])] = &[
    (
        "get",
        &[
            "get jobs,runs -A",
            "get tasks --job good",
            "get tasks --phase failed",
            "get jobs,nodes --phase Bound",
            "get job/no-such",
            "get job/no-such --watch",
            "get all",
            "get all --phase succeeded",
            "get job,task good",
            "get runs --sort-by .metadata.creationTimestamp --no-headers",
            "get tasks --sort-by size",
            "get job/bad job/good --sort-by status --show-labels",
            "get jobs --show-labels -o name",
        ],
    ),
    (
        "deploy",
        &[
            "deploy busybox --name nowhere --on no-such=label -- sleep 600",
            "deploy busybox --name other --replicas 2 --port http=80/sctp",
            "deploy busybox --name other --replicas 2 --dry-run -o yaml",
            "deploy busybox --name other",
            "delete service/nowhere",
        ],
    ),
    (
        "describe",
        &[
            "describe job bad",
            "describe job/good job/no-such job/long",
            "describe job/good -o name",
            "-n team describe job/no-such",
        ],
    ),
    (
        "logs",
        &[
            "logs job/bad --failed",
            "logs run/flow-1",
            "logs good-0 --tail 1",
            "logs no-such",
            "logs job/bad --previous",
            "logs job/cannot",
            "logs -f job/cannot",
            "get job/cannot",
        ],
    ),
    ("exec", &["exec long-0 -- sh -c 'exit 7'", "exec no-such -- true"]),
    (
        "top nodes",
        &["top nodes", "top nodes node/node-1", "top nodes -o name", "top nodes no-such"],
    ),
    ("top tasks", &["top tasks -o name", "top tasks no-such"]),
    (
        "wait",
        &[
            "wait job/bad --timeout 5s",
            "wait job/good job/bad job/no-such workflow/flow --timeout 5s",
            "wait job/long --timeout 0s",
            "wait job good -o json",
            "wait job good -o name",
        ],
    ),
    (
        "rerun",
        &[
            "wait job/good --timeout 60s",
            "rerun job/bad",
            "wait job/bad --for failed --timeout 60s",
            "get tasks --job bad --run 1",
            "get tasks --job bad --run 2 --phase failed",
            "get tasks --job bad --run 1 -o name",
            "get tasks --job bad --run 7",
            "get tasks --run 1",
            "logs job/bad --run 1 --failed",
            "rerun job/long",
            "rerun job/flow-1-a",
            "rerun job/bad -p word=x",
            "rerun run/flow-1 -p word=other --wait --timeout 60s",
            "rerun run/flow-1 -p no-such=x",
            "get run/flow-2",
        ],
    ),
    (
        "run",
        &[
            "run workflow flow -p no-such=x",
            "run flow --name second -p word=again --wait --timeout 60s",
            "run flow --name second",
            "run flow -p no-such=x",
        ],
    ),
    (
        "scale",
        &[
            "wait service/web --for ready --timeout 60s",
            "wait service/web --timeout 5s",
            "scale service/web --replicas 3",
            "scale service web --replicas 3 -o name",
            "wait service/web --for ready --timeout 60s",
            "scale job/flow-1-a --replicas 2",
            "scale node/node-1 --replicas 2",
            "scale service/no-such --replicas 2",
            "suspend service/web",
            "cancel service/web",
            "resume service/web",
            "wait service/web --for ready --timeout 60s",
        ],
    ),
    (
        "rollout undo",
        &[
            "apply -f web-2.yaml",
            "rollout status web --timeout 60s",
            "rollout undo web",
            "rollout status web --timeout 60s",
            "get service/web",
            "apply -f web-2.yaml",
            "rollout undo web --to-revision 77",
            "rollout undo web --to-revision 2",
            "rollout status web --timeout 60s",
            "rollout undo web --to-revision 2",
            "rollout undo no-such",
        ],
    ),
    ("rollout pause", &["rollout pause web"]),
    ("rollout resume", &["rollout resume web"]),
    (
        "rollout restart",
        &[
            "rollout status web --timeout 60s",
            "rollout status web --revision 1",
            "get tasks -l heliox.dev/service=web",
        ],
    ),
    (
        "rollout abort",
        &[
            "rollout pause web",
            "apply -f web-3.yaml",
            "rollout abort web",
            "rollout status web",
            "rollout abort web",
            "rollout resume web",
            "rollout undo web",
            "rollout status web --timeout 60s",
            "rollout history web",
            "rollout history web --revision 2",
            "rollout history web --revision 77",
        ],
    ),
    ("suspend", &["suspend workflow/flow", "suspend job/flow-1-a"]),
    ("drain", &["drain node-1 --force", "drain no-such"]),
    (
        "taint",
        &[
            "taint nodes node-1 tier=front:NoSchedule",
            "taint node-1 tier=back:NoSchedule",
            "taint node-1 tier=back:NoSchedule --overwrite",
            "taint node-1 tier:NoSchedule- -o name",
            "taint node-1 tier-",
            "taint node-1 tier",
            "taint node-1 tier=front:Never",
            "taint no-such tier:NoSchedule",
        ],
    ),
    ("evict", &["evict long-0", "wait task/long-0 --for ready --timeout 60s"]),
    (
        "cancel",
        &[
            "cancel job/no-such job/long",
            "wait job/long --for failed --timeout 60s",
            "cancel job/long",
            // Another run of it is not cancelled by that.
            "apply -f changed.yaml",
            "wait job/long --timeout 60s",
        ],
    ),
    (
        "delete",
        &[
            "delete jobs",
            "delete jobs good --all",
            "delete configmaps -l app=no-such",
            "delete -f manifest.yaml --wait --timeout 60s",
            "delete job/bad",
            "delete secrets --all",
        ],
    ),
    (
        "apply",
        &[
            "apply -f manifest.yaml",
            "apply -f manifest.yaml --dry-run",
            "apply -f no-such.yaml",
            "apply -f reworded.yaml",
            "apply -f labelled.yaml --dry-run",
            "apply -f labelled.yaml",
            "apply -f large.yaml",
            "apply -f large.yaml",
        ],
    ),
    ("cluster", &["cluster"]),
    ("cluster confirm", &["cluster confirm --yes"]),
    ("debug bundle", &["debug bundle -f bundle.tar.gz", "debug bundle -f bundle.tar.gz"]),
    ("version", &["version"]),
    ("completion", &["completion bash"]),
];

/// The words of a line, of which some are in quotes.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('\'').enumerate();
    let parts = quoted.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
        _ => vec![part.to_owned()],
    });
    parts.collect()
}

async fn said(dev: &Dev, line: &str) -> Said {
    let words = words(line);
    dev.hctl(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Prints a line and what it came to.
async fn walk(dev: &Dev, line: &str, session: &mut String) {
    let Said { code, out, err } = said(dev, line).await;
    let err = without_progress(&err);
    assert!(!err.contains("panicked"), "hctl {line}: {err}");
    for secret in ["correct-horse", "Y29ycmVjdC1ob3JzZQ"] {
        let is_asked_for = line.starts_with("get secrets secret -o") && secret.starts_with("Y29");
        assert!(is_asked_for || !out.contains(secret), "hctl {line} shows a secret: {out}");
    }
    assert_eq!(aligned(&out), None, "hctl {line}: a cell is not below its heading:\n{out}");
    let out = if line.starts_with("delete -f") {
        // Which of several is gone first is not said.
        let mut lines: Vec<&str> = out.lines().collect();
        lines.sort_unstable();
        lines.iter().map(|line| format!("{line}\n")).collect()
    } else if line.starts_with("completion") {
        format!("{}...\n", out.chars().take_while(|c| *c != '(').collect::<String>())
    } else if line.contains("-o json") || line.contains("-o yaml") {
        shape(&out)
    } else {
        out
    };
    let code = if code == 0 { String::new() } else { format!("[exit {code}]\n") };
    let _infallible = write!(session, "$ hctl {}", redacted("", line));
    session.push_str(&redacted(line, &format!("{out}{err}{code}")));
}

/// What a document is of, without what is in it: `Job: apiVersion kind metadata spec status`.
fn shape(text: &str) -> String {
    let json: Result<Value, _> = serde_json::from_str(text);
    let document = json.unwrap_or_else(|_| serde_saphyr::from_str(text).expect("it is YAML"));
    let fields: BTreeSet<&String> =
        document.as_object().into_iter().flat_map(|it| it.keys()).collect();
    let fields: Vec<&str> = fields.into_iter().map(String::as_str).collect();
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    format!("{} {name}: {}\n", document["kind"].as_str().unwrap_or_default(), fields.join(" "))
}

/// The rows of a watch until it shows as many as a table.
async fn watched(dev: &Dev, line: &str, rows: usize) -> String {
    let line = format!("{line} --watch");
    let words = words(&line);
    let mut command = dev.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    while text.lines().count() < rows {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("hctl {words:?} shows no more than {text}"));
        text.push_str(&line.unwrap().expect("a watch has no end"));
        text.push('\n');
    }
    text
}

/// A watch begins with what there is.
async fn watch_shows_the_table(dev: &Dev, Example { kind, namespace, .. }: &Example) {
    let line = format!("get {} -n {namespace}", kind.info().plural);
    let first = |text: &str| -> BTreeSet<String> {
        let word = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        text.lines().map(word).collect()
    };
    let table = said(dev, &line).await.out;
    let shown = watched(dev, &line, table.lines().count()).await;
    assert_eq!(
        aligned(&shown),
        None,
        "hctl {line} --watch: a cell is not below its heading:\n{shown}"
    );
    // Events may come meanwhile.
    if *kind != KindId::Event {
        assert_eq!(first(&shown), first(&table), "hctl {line} --watch");
    }
}

/// What is shown can be applied again and changes nothing; nothing for kinds that people do not make.
async fn is_applied_again(dev: &Dev, Example { kind, name, namespace }: &Example) {
    let line = format!("get {} {name} -o yaml -n {namespace}", kind.info().singular);
    let text = said(dev, &line).await.out;
    std::fs::write(dev.dir().join("again.yaml"), &text).unwrap();
    let again = said(dev, "apply -f again.yaml").await;
    assert!(again.out.ends_with(" unchanged\n"), "{kind}: {again:?}\n{text}");
}

/// The same of many objects, which are shown as a list.
async fn are_applied_again(dev: &Dev) {
    let text = said(dev, "get workflows,jobs,configmaps,secrets -o yaml").await.out;
    std::fs::write(dev.dir().join("list.yaml"), &text).unwrap();
    let again = said(dev, "apply -f list.yaml").await;
    assert!(again.out.lines().count() > 5, "{again:?}");
    assert!(again.out.lines().all(|line| line.ends_with(" unchanged")), "{again:?}");
}

/// What was applied has ended, or runs.
async fn has_settled(dev: &Dev) {
    for line in [
        "wait job/good workflow/flow --timeout 60s",
        "wait job/bad job/cannot --for failed --timeout 60s",
        "wait task/long-0 --for ready --timeout 60s",
        "wait service/web --for ready --timeout 60s",
    ] {
        // The tasks of a job are not there at once.
        until_async(line, async || said(dev, line).await.code == 0).await;
    }
}

#[tokio::test]
async fn every_verb_does_with_every_kind_what_was_read_and_found_good() {
    let dev = Dev::start().await;
    dev.apply(MANIFEST).await;
    has_settled(&dev).await;
    manifests::write(&dev);
    let mut examples = Vec::new();
    for kind in KindId::ALL.into_iter().filter(|kind| !kind.info().internal) {
        let (name, namespace) = example(&dev, kind).await.expect("the API serves it");
        examples.push(Example { kind, name, namespace });
    }
    for example in &examples {
        watch_shows_the_table(&dev, example).await;
        if !matches!(example.kind, KindId::Event | KindId::Lease | KindId::Node | KindId::Task) {
            is_applied_again(&dev, example).await;
        }
    }
    are_applied_again(&dev).await;
    // Those that take something away come last.
    let last = ["evict", "cancel", "delete"];
    let mut verbs = verbs();
    verbs.sort_by_key(|verb| last.iter().position(|it| it == verb));
    let unknown = MORE_LINES.iter().find(|(of, _)| !verbs.iter().any(|verb| verb == of));
    assert_eq!(unknown, None, "no such verb");
    let mut session = String::new();
    for verb in &verbs {
        let _infallible = write!(session, "\n## {verb}\n");
        // What is in others goes before them.
        for example in examples.iter().rev() {
            for line in lines(verb, example) {
                walk(&dev, &line, &mut session).await;
            }
        }
        for (_, lines) in MORE_LINES.iter().filter(|(of, _)| of == verb) {
            for line in *lines {
                walk(&dev, line, &mut session).await;
            }
        }
    }
    expect_file![SESSION].assert_eq(&session);
}
