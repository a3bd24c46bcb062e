//! What users are told of manifests that are wrong: every message, word for word.

use api::manifest;
use expect_test::{Expect, expect};

pub(crate) fn check(text: &str, expected: Expect) {
    let told = match manifest::read("a.yaml", text.as_bytes()) {
        Ok(documents) => format!("{} documents, nothing wrong\n", documents.len()),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    };
    expected.assert_eq(&told);
}

/// A Job with this after its template's image.
pub(crate) fn job(rest: &str) -> String {
    format!(
        "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: resize}}\nspec:\n  template:\n    image: busybox\n{rest}"
    )
}

/// A Workflow with this as its jobs.
pub(crate) fn workflow(rest: &str) -> String {
    format!("apiVersion: heliox.dev/v1\nkind: Workflow\nmetadata: {{name: load}}\nspec:\n{rest}")
}

/// A PartitionSet with this as its spec.
pub(crate) fn set(rest: &str) -> String {
    format!(
        "apiVersion: heliox.dev/v1\nkind: PartitionSet\nmetadata: {{name: mydb}}\nspec:\n{rest}"
    )
}

#[test]
fn a_good_manifest_is_read() {
    let text = format!(
        "# first\n---\n{}---\n{}",
        job("  count: 3\n"),
        workflow(
            "  params: [{name: date, default: $(run.date)}]\n  defaults: {template: {image: a}}\n  jobs:\n  - {name: a}\n  - {name: b, dependsOn: [{job: a}], template: {args: [$(params.date)]}}\n",
        )
    );
    check(
        &text,
        expect![[r#"
        2 documents, nothing wrong
    "#]],
    );
}

#[test]
fn files_of_other_systems_are_read() {
    check(
        &format!("\u{feff}{}", job("  count: 3\n")).replace('\n', "\r\n"),
        expect![[r#"
        1 documents, nothing wrong
    "#]],
    );
    let json = "\n{\"apiVersion\":\"heliox.dev/v1\",\n\t\"kind\":\"Job\",\"metadata\":{\"name\":\"a\"},\n\t\"spec\":{\"count\":\"3\",\"template\":{\"image\":\"\\/x\\ud83d\\ude00\"}}}\n";
    check(
        json,
        expect![[r#"
        a.yaml:4:10: spec.count: expected a whole number, found text
          hint: remove the quotes
    "#]],
    );
}

#[test]
fn everything_wrong_in_a_file_is_said_at_once() {
    check(
        &format!(
            "{}  paralelism: 3\n  retry: {{maxAttempts: 0}}\n---\nkind: Sevice\napiVersion: v1\n---\n{}",
            job("    containers: []\n"),
            workflow("  jobs: []\n")
        ),
        expect![[r#"
            a.yaml:7:5: spec.template.containers: unknown field
              hint: write its fields here: a template is one container
            a.yaml:8:3: spec.paralelism: unknown field
              hint: did you mean parallelism?
            a.yaml:9:11: spec.retry.maxAttempts: 0 would let nothing run
              hint: write 1 for no second attempt
            a.yaml:11:1: kind: unknown kind "Sevice"
              hint: did you mean Service?
            a.yaml:18:3: spec.jobs: at least one job is required
        "#]],
    );
}

#[test]
fn text_that_is_no_yaml() {
    check(
        "a: [1, 2\nb: 3\n",
        expect![[r#"
        a.yaml:2:2: illegal placement of ':' indicator
    "#]],
    );
    check(
        "a: 1\na: 2\n",
        expect![[r#"
            a.yaml:2:1: duplicate mapping key: a
        "#]],
    );
    check(
        "a: *b\n",
        expect![[r#"
        a.yaml:1:4: alias references unknown anchor
    "#]],
    );
    check(
        "a: !!python/object x\n",
        expect![[r#"
        a.yaml:1:20: unsupported tag `!!python/object`
    "#]],
    );
    check(
        "a: b: c\n",
        expect![[r#"
        a.yaml:1:5: mapping values are not allowed in this context
    "#]],
    );
    check(
        "\tb: c\n",
        expect![[r#"
            a.yaml:1:2: kind: is required
              hint: write for example kind: Job
        "#]],
    );
    check(
        "just text\n",
        expect![[r#"
        a.yaml:1:1: expected a map with apiVersion, kind, metadata and spec
          hint: separate documents with a line of ---
    "#]],
    );
    check(
        "- a\n- b\n",
        expect![[r#"
        a.yaml:1:1: expected a map with apiVersion, kind, metadata and spec
          hint: separate documents with a line of ---
    "#]],
    );
    check(
        "# nothing\n",
        expect![[r#"
        0 documents, nothing wrong
    "#]],
    );
}

#[test]
fn kinds_that_are_not_served() {
    for (kind, expected) in [
        (
            "apiVersion: v1\nkind: Pod\n",
            expect![[r#"
            a.yaml:2:1: kind: unknown kind "Pod"
              hint: write a Job
        "#]],
        ),
        (
            "apiVersion: heliox.dev/v1\nkind: Queue\n",
            expect![[r#"
            a.yaml:2:1: kind: Queue is not supported yet
        "#]],
        ),
        (
            "apiVersion: heliox.dev/v1\nkind: job\n",
            expect![[r#"
            a.yaml:2:1: kind: unknown kind "job"
              hint: did you mean Job?
        "#]],
        ),
        (
            "apiVersion: heliox.dev/v1\nkind: NodeLease\n",
            expect![[r#"
                a.yaml:2:1: kind: unknown kind "NodeLease"
                  hint: the kinds are Namespace, ConfigMap, Secret, Event, Lease, Node, Workflow, WorkflowRun, Job, Service, PartitionSet, TaskTemplate, Task
            "#]],
        ),
        (
            "kind: Job\n",
            expect![[r#"
                a.yaml:1:1: apiVersion: is required
                  hint: write for example apiVersion: heliox.dev/v1
            "#]],
        ),
        (
            "apiVersion: 1\nkind: Job\n",
            expect![[r#"
            a.yaml:1:1: apiVersion: expected text
        "#]],
        ),
        (
            "apiVersion: batch/v1\nkind: CronJob\n",
            expect![[r#"
            a.yaml:2:1: kind: unknown kind "CronJob"
              hint: write a Workflow with a schedule, which is not supported yet
        "#]],
        ),
    ] {
        check(kind, expected);
    }
}

#[test]
fn manifests_of_other_tools_are_known() {
    for (manifest, expected) in [
        (
            "apiVersion: batch/v1\nkind: Job\n",
            expect![[r#"
                a.yaml:1:1: apiVersion: "batch/v1" has no kind Job
                  hint: this is a Kubernetes Job: write apiVersion: heliox.dev/v1, move image, command, args and env of its container to spec.template, and write count for completions
            "#]],
        ),
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n",
            expect![[r#"
            a.yaml:1:1: apiVersion: "argoproj.io/v1alpha1" has no kind Workflow
              hint: this is an Argo Workflow: write apiVersion: heliox.dev/v1 and spec.jobs, with a job for each template and dependsOn between them
        "#]],
        ),
        (
            "services: {web: {image: nginx}}\n",
            expect![[r#"
                a.yaml:1:1: this is a Compose file
                  hint: write a Service for each: its image, command and environment go to spec.template, and ports to spec.template.ports
            "#]],
        ),
    ] {
        check(manifest, expected);
    }
}

#[test]
fn metadata_is_checked() {
    check(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ../etc\n  namespace: A\n  labels: {a b: c, app: é}\n  annotations: {'': x}\n  finalizers: [a/b]\ndata: {../x: y}\n",
        expect![[r#"
            a.yaml:4:3: metadata.name: '/' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:5:3: metadata.namespace: 'A' is not allowed; use a-z, 0-9 and '-'
            a.yaml:6:12: metadata.labels["a b"]: the key is not allowed: ' ' is not allowed; use letters, digits, '-', '_' and '.'
            a.yaml:6:20: metadata.labels["app"]: 'é' is not allowed; use letters, digits, '-', '_' and '.'
            a.yaml:7:17: metadata.annotations[""]: a key is required
            a.yaml:8:16: metadata.finalizers[0]: finalizer "a/b" is not supported yet
            a.yaml:9:8: data["../x"]: a key is a file's name: letters, digits, '-', '_' and '.'
        "#]],
    );
    check(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b, namespace: c}\n",
        expect![[r#"
        a.yaml:3:12: metadata.name: '.' is not allowed; use a-z, 0-9 and '-'
        a.yaml:3:23: metadata.namespace: a Namespace is not namespaced
          hint: leave it out
    "#]],
    );
    check(
        "apiVersion: v1\nkind: Secret\nmetadata: {}\ndata: {a: '%%'}\n",
        expect![[r#"
            a.yaml:3:1: metadata.name: a name is required
            a.yaml:4:8: data.a: it is not base64
        "#]],
    );
    check(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, creationTimestamp: null}\nstringData: {a: x}\n",
        expect![[r#"
            1 documents, nothing wrong
        "#]],
    );
}

#[test]
fn templates_are_checked() {
    check(
        &job(r#"    workingDir: srv
    terminationGracePeriodSeconds: 1000000
    stopSignal: TERM
    networkMode: none
    env: [{name: 1A, value: x}, {name: HELIOX_RUN}, {name: A}, {name: A}]
    resources:
      requests: {cpu: 2, memory: 100m, gpu: 0.5, disk: 5000T}
      limits: {cpu: 1, memory: 0, swap: 2000Ti}
    ports: [{name: a_b, containerPort: 0}, {name: b, hostPort: 80}, {name: c, hostPort: 80, hostIP: x}]
    mounts:
    - {path: data, hostPath: /srv/../etc}
    - {path: /tmp, tmpfs: {size: 0}, create: true}
    - {path: /tmp}
    - {path: /, hostPath: /a, tmpfs: {}}
    labels: {heliox.dev/job: x, a: "b c"}
"#),
        expect![[r#"
            a.yaml:7:5: spec.template.workingDir: "srv" is not an absolute path
            a.yaml:8:5: spec.template.terminationGracePeriodSeconds: at most 86400 seconds (a day) are allowed
            a.yaml:9:5: spec.template.stopSignal: "TERM" is not a signal that can stop a process
              hint: did you mean SIGTERM?
            a.yaml:11:12: spec.template.env[0].name: it must start with a letter or '_'
            a.yaml:11:34: spec.template.env[1].name: "HELIOX_RUN": variables that start with HELIOX_ are set by Heliox
            a.yaml:11:65: spec.template.env[3].name: "A" is a duplicate of env[2]
            a.yaml:13:18: spec.template.resources.requests.cpu: 2 is more than the limit 1
            a.yaml:13:26: spec.template.resources.requests.memory: 100m is more than the limit 0
            a.yaml:13:26: spec.template.resources.requests.memory: 100m is not a whole number of bytes
              hint: did you mean 100Mi?
            a.yaml:13:40: spec.template.resources.requests.gpu: 0.5 is not a whole number
            a.yaml:13:50: spec.template.resources.requests.disk: 5000T is more than any node can have
            a.yaml:14:24: spec.template.resources.limits.memory: a limit of 0 would let nothing run
              hint: leave it out for no limit
            a.yaml:14:35: spec.template.resources.limits.swap: 2000Ti is more than any node can have
            a.yaml:15:5: spec.template.ports: a container with networkMode none has no ports of its own
            a.yaml:15:14: spec.template.ports[0].name: '_' is not allowed; use a-z, 0-9 and '-'
            a.yaml:15:25: spec.template.ports[0].containerPort: a port is a number from 1 to 65535
            a.yaml:15:93: spec.template.ports[2].hostIP: "x" is not an IP address
            a.yaml:17:8: spec.template.mounts[0].path: "data" is not an absolute path
            a.yaml:17:20: spec.template.mounts[0].hostPath: '..' is not allowed in "/srv/../etc"
            a.yaml:18:28: spec.template.mounts[1].tmpfs.size: a size of 0 holds nothing
            a.yaml:18:38: spec.template.mounts[1].create: only a hostPath can be created
            a.yaml:19:7: spec.template.mounts[2]: one of hostPath, volume and tmpfs is required
            a.yaml:19:8: spec.template.mounts[2].path: "/tmp" is a duplicate of mounts[1]
            a.yaml:20:7: spec.template.mounts[3]: only one of hostPath, volume and tmpfs is allowed
            a.yaml:20:8: spec.template.mounts[3].path: the root directory cannot be a mount point
            a.yaml:21:14: spec.template.labels["heliox.dev/job"]: labels of heliox.dev are set by Heliox
            a.yaml:21:33: spec.template.labels["a"]: ' ' is not allowed; use letters, digits, '-', '_' and '.'
        "#]],
    );
    check(
        &job("    networkMode: host\n    ports: [{name: a, containerPort: 80, hostPort: 81}]\n"),
        expect![[r#"
            a.yaml:8:42: spec.template.ports[0].hostPort: with networkMode host, 80 and 81 cannot differ
        "#]],
    );
}

#[test]
fn placements_are_checked() {
    check(
        &job(r#"  placement:
    nodes: [n1, n1, N2]
    constraints: ["zone in a", "gen >= 3"]
    preferences: [{weight: 0, constraint: "x ="}, {weight: 101, constraint: gpu}]
    near: [{}, {partitionSet: a, job: b}, {job: a, states: [LEADER]}, {partitionSet: a, states: [leeder]}]
    onNodeLoss: {action: Replace, after: 5s}
"#),
        expect![[r#"
            a.yaml:8:17: spec.placement.nodes[1]: "n1" is a duplicate of nodes[0]
            a.yaml:8:21: spec.placement.nodes[2]: 'N' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:9:19: spec.placement.constraints[0]: "zone in a" is not a constraint
              hint: write for example "zone in (a, b)", "disk = ssd", "gen >= 3" or "!spot"
            a.yaml:10:20: spec.placement.preferences[0].weight: 0 is not a whole number from 1 to 100
            a.yaml:10:31: spec.placement.preferences[0].constraint: "x =" is not a constraint
              hint: write for example "zone in (a, b)", "disk = ssd", "gen >= 3" or "!spot"
            a.yaml:10:52: spec.placement.preferences[1].weight: 101 is not a whole number from 1 to 100
            a.yaml:11:12: spec.placement.near[0]: one of partitionSet and job is required
            a.yaml:11:16: spec.placement.near[1]: only one of partitionSet and job is allowed
            a.yaml:11:52: spec.placement.near[2].states: states apply to a partitionSet only, not to a job
            a.yaml:11:98: spec.placement.near[3].states[0]: "leeder" is not a state of any model
              hint: did you mean LEADER?
            a.yaml:12:35: spec.placement.onNodeLoss.after: 5s is less than 8s
              hint: a node is not declared lost before that
        "#]],
    );
    check(
        &job("  placement: {onNodeLoss: {action: Wait, after: 1m}}\n"),
        expect![[r#"
        a.yaml:7:42: spec.placement.onNodeLoss.after: not allowed with action Wait, which lasts until the node is back
          hint: leave it out, or write action: Replace
    "#]],
    );
    check(
        &job("  placement: {onNodeLoss: {action: Fence}, tolerations: [{value: x}], spread: []}\n"),
        expect![[r#"
            a.yaml:7:28: spec.placement.onNodeLoss.action: Fence is not supported yet
              hint: write one of Replace, Wait
            a.yaml:7:58: spec.placement.tolerations[0].key: required with operator Equal
              hint: to tolerate every taint, write operator: Exists
            a.yaml:7:71: spec.placement.spread: not supported yet
        "#]],
    );
}

#[test]
fn jobs_are_checked() {
    check(
        &job(r#"  count: 20000000
  items: [a, [b], {c: {d: e}}, 18446744073709551616, {id: -20261128000000000001}, 7.5]
  target: {partitionSet: A, partitions: [p, p], states: [LEEDER]}
  maxPerNode: 0
  timeout: 0s
  attemptTimeout: 0s
  retry:
    maxAttempts: 0
    backoff: {initial: 10m, factor: 0, max: 1m}
    rules:
    - {action: Retry}
    - {exitCodes: [0, 300], reasons: [OOM], action: Ignore}
    - {reasons: [OOMkilled, sunspots], action: FailTask}
"#),
        expect![[r#"
            a.yaml:4:1: spec: only one of count and items and target is allowed
              hint: each of them determines which tasks there are
            a.yaml:7:3: spec.count: 20000000 tasks; at most 10000000 are allowed
            a.yaml:8:14: spec.items[1]: an item must be text, a number, true or false, or a map of these
            a.yaml:8:19: spec.items[2]: an item must be text, a number, true or false, or a map of these
            a.yaml:8:32: spec.items[3]: the number is too large to be kept exactly
              hint: write it in quotes, as text
            a.yaml:8:55: spec.items[4].id: the number is too large to be kept exactly
              hint: write it in quotes, as text
            a.yaml:9:12: spec.target.partitionSet: 'A' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:9:45: spec.target.partitions[1]: "p" is a duplicate of partitions[0]
            a.yaml:9:58: spec.target.states[0]: "LEEDER" is not a state of any model
              hint: did you mean LEADER?
            a.yaml:10:3: spec.maxPerNode: 0 would let nothing run
              hint: leave it out for no limit
            a.yaml:11:3: spec.timeout: 0s would let nothing run
              hint: leave it out for no limit
            a.yaml:12:3: spec.attemptTimeout: 0s would let nothing run
              hint: leave it out for no limit
            a.yaml:14:5: spec.retry.maxAttempts: 0 would let nothing run
              hint: write 1 for no second attempt
            a.yaml:15:15: spec.retry.backoff.initial: 10m is more than max, 1m
            a.yaml:15:15: spec.retry.backoff.initial: no second attempt would begin: the job's timeout is 0s
            a.yaml:15:29: spec.retry.backoff.factor: 0 is not allowed
              hint: write 1 for equal waits
            a.yaml:17:7: spec.retry.rules[0]: one of exitCodes and reasons is required
            a.yaml:18:7: spec.retry.rules[1]: only one of exitCodes and reasons is allowed
            a.yaml:18:20: spec.retry.rules[1].exitCodes[0]: 0 is success and needs no rule
            a.yaml:18:23: spec.retry.rules[1].exitCodes[1]: 300 is not an exit code: they are 1 to 255
            a.yaml:18:39: spec.retry.rules[1].reasons[0]: "OOM" is not a reason for a failed attempt
              hint: write one of OOMKilled, Timeout, ImagePull, CannotRun, MountFailed, PortTaken, NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost, Preempted, Drained, Signal, ContainerGone, Restored
            a.yaml:19:18: spec.retry.rules[2].reasons[0]: "OOMkilled" is not a reason for a failed attempt
              hint: did you mean OOMKilled?
            a.yaml:19:29: spec.retry.rules[2].reasons[1]: "sunspots" is not a reason for a failed attempt
              hint: write one of OOMKilled, Timeout, ImagePull, CannotRun, MountFailed, PortTaken, NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost, Preempted, Drained, Signal, ContainerGone, Restored
        "#]],
    );
    check(
        &job(
            "  tasks:\n  - {name: a}\n  - {name: a, template: {image: '', pots: []}}\n  - {name: B, template: {args: [1]}, placement: {onNodeLoss: {after: 1s}}}\n",
        ),
        expect![[r#"
            a.yaml:9:6: spec.tasks[1].name: "a" is a duplicate of tasks[0]
            a.yaml:9:26: spec.tasks[1].template.image: an image is required
            a.yaml:9:37: spec.tasks[1].template.pots: unknown field
              hint: did you mean ports?
            a.yaml:10:6: spec.tasks[2].name: 'B' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:10:33: spec.tasks[2].template.args[0]: expected text, found a number
              hint: quote it: "1"
            a.yaml:10:63: spec.tasks[2].placement.onNodeLoss.after: 1s is less than 8s
              hint: a node is not declared lost before that
        "#]],
    );
}

#[test]
fn an_empty_list_of_tasks_is_not_one_task() {
    check(
        &job("  tasks: []\n"),
        expect![[r#"
        a.yaml:7:3: spec.tasks: at least 1 is required
          hint: leave the field out
    "#]],
    );
}

#[test]
fn fields_of_later_and_of_neighbours_are_named() {
    check(
        &job(r#"    envFrom: []
    volumeMounts: []
    environment: {}
    restart: unless-stopped
    env: [{name: A, valueFrom: {}}]
    mounts: [{path: /a, configMap: b}, {mountPath: /a}]
  backoffLimit: 3
  withItems: []
  depends_on: []
  max_parallel: 3
  schedule: {}
  replicas: 2
  gang: true
  target: {partitionSet: a, per: Replica}
"#),
        expect![[r#"
            a.yaml:7:5: spec.template.envFrom: not supported yet
            a.yaml:8:5: spec.template.volumeMounts: unknown field
              hint: write mounts
            a.yaml:9:5: spec.template.environment: unknown field
              hint: write env: [{name: NAME, value: VALUE}]
            a.yaml:10:5: spec.template.restart: unknown field
              hint: write retry, beside the template: each start is an attempt
            a.yaml:11:21: spec.template.env[0].valueFrom: not supported yet
            a.yaml:12:25: spec.template.mounts[0].configMap: not supported yet
            a.yaml:12:40: spec.template.mounts[1].path: is required
            a.yaml:12:41: spec.template.mounts[1].mountPath: unknown field
              hint: write path
            a.yaml:13:3: spec.backoffLimit: unknown field
              hint: write retry.maxAttempts, which counts the first attempt, too
            a.yaml:14:3: spec.withItems: unknown field
              hint: write items
            a.yaml:15:3: spec.depends_on: unknown field
              hint: make it a job of a Workflow, whose jobs have dependsOn
            a.yaml:16:3: spec.max_parallel: unknown field
              hint: write parallelism
            a.yaml:17:3: spec.schedule: unknown field
              hint: write a Workflow with a schedule, which is not supported yet
            a.yaml:18:3: spec.replicas: unknown field
              hint: write count
            a.yaml:19:3: spec.gang: not supported yet
            a.yaml:20:29: spec.target.per: not supported yet
        "#]],
    );
    check(
        &workflow(
            "  schedule: {cron: '0 2 * * *'}\n  onExit: {}\n  entrypoint: a\n  jobs: [{name: a, when: x, template: {image: a}}]\n",
        ),
        expect![[r#"
            a.yaml:5:3: spec.schedule: not supported yet
            a.yaml:6:3: spec.onExit: not supported yet
            a.yaml:7:3: spec.entrypoint: unknown field
              hint: write jobs: those that depend on nothing start first
            a.yaml:8:20: spec.jobs[0].when: not supported yet
        "#]],
    );
}

#[test]
fn wrong_types_and_words_are_named() {
    check(
        &job(
            "    args: -c\n    env: {A: b}\n    labels: {v: 1.10, w: true}\n    imagePullPolicy: always\n  count: many\n  suspend: yes\n  items:\n  timeout: 5 parsecs\n  keepTasks: 24\n  maxFailedTasks: 110%\n  parallelism: -1\n  priority: 99999999999\n  onChange: rerun\n",
        ),
        expect![[r#"
            a.yaml:7:5: spec.template.args: expected a list, found text
              hint: write it as a list: [-c]
            a.yaml:8:5: spec.template.env: expected a list, found a map
              hint: write it as a list: each entry begins with -
            a.yaml:9:14: spec.template.labels.v: expected text, found a number
              hint: quote it
            a.yaml:9:23: spec.template.labels.w: expected text, found true
              hint: quote it: "true"
            a.yaml:10:5: spec.template.imagePullPolicy: "always" is not one of IfNotPresent, Always, Never
              hint: did you mean Always?
            a.yaml:11:3: spec.count: expected a whole number, found text
            a.yaml:12:3: spec.suspend: expected true or false, found text
              hint: write true
            a.yaml:14:3: spec.timeout: "5 parsecs" is not a duration
              hint: write for example 30s, 10m or 1h30m
            a.yaml:15:3: spec.keepTasks: expected text, found a number
              hint: write its unit, for example 24s
            a.yaml:16:3: spec.maxFailedTasks: "110%" is not a share
              hint: write a number, or for example "10%"
            a.yaml:17:3: spec.parallelism: -1 is not a whole number of at least 0
            a.yaml:18:3: spec.priority: 99999999999 is not a whole number from -2147483648 to 2147483647
            a.yaml:19:3: spec.onChange: "rerun" is not one of Rerun, Ignore, Reject
              hint: did you mean Rerun?
        "#]],
    );
    check(
        "apiVersion: heliox.dev/v1\nkind: WorkflowRun\nmetadata: {name: a}\nspec: {workflow: w, params: {version: 1.10, on: true, ok: '1.10'}}\n",
        expect![[r#"
            a.yaml:4:30: spec.params.version: expected text, found a number
              hint: quote it
            a.yaml:4:45: spec.params.on: expected text, found true
              hint: quote it: "true"
        "#]],
    );
    check(
        "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\n",
        expect![[r#"
        a.yaml:1:1: spec: is required
    "#]],
    );
    check(
        "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {name: a}\nspec: {template: {}}\n",
        expect![[r#"
            a.yaml:4:8: spec.template.image: is required
        "#]],
    );
}
