//! What users are told of workflows and partition sets that are wrong, word for word.

use expect_test::expect;

use crate::bad_manifests::{check, job, set, workflow};

#[test]
fn workflows_are_checked() {
    check(
        &workflow(
            r#"  params: [{name: size, default: xl, enum: [s, l]}, {name: size}, {name: 1x}]
  timeout: 0s
  defaults: {retry: {maxAttempts: 0}, template: {image: busybox, env: [{name: A, value: "$(params.dat)"}]}}
  jobs:
  - {name: extract, dependsOn: [{job: load}]}
  - {name: transform, dependsOn: [{job: extract}, {job: extract}]}
  - {name: load, dependsOn: [{job: transform, phases: [Running]}, {job: trnsform}]}
  - {name: load, dependsOn: [{job: nothing-like-it}]}
  - {name: self.ish, dependsOn: [{job: self.ish}], placement: {near: [{job: self.ish}, {job: lod}]}}
  - {name: parts, template: {mounts: [{path: data}]}, tasks: [{name: x, template: {ports: [{name: y, hostPort: 0}]}}]}
"#,
        ),
        expect![[r#"
            a.yaml:4:1: spec.runOnApply: a new revision is run at once, and parameters size and 1 more have no default: the run would fail
              hint: set runOnApply: false and start runs with hctl run, or give the parameter a default
            a.yaml:5:25: spec.params[0].default: "xl" is not one of s, l
              hint: did you mean l?
            a.yaml:5:54: spec.params[1].name: "size" is a duplicate of params[0]
            a.yaml:5:68: spec.params[2].name: it must start with a letter or '_'
            a.yaml:6:3: spec.timeout: 0s would let nothing run
              hint: leave it out for no limit
            a.yaml:7:22: spec.defaults.retry.maxAttempts: 0 would let nothing run
              hint: write 1 for no second attempt
            a.yaml:7:82: spec.defaults.template.env[0].value: $(params.dat) is not known: there is no parameter "dat"
              hint: there is 1x, size
            a.yaml:9:21: spec.jobs[0].dependsOn: these jobs wait for each other: extract -> load -> transform -> extract
            a.yaml:10:52: spec.jobs[1].dependsOn[1].job: "extract" is a duplicate of dependsOn[0]
            a.yaml:11:56: spec.jobs[2].dependsOn[0].phases[0]: Running is not how a job ends
              hint: write Succeeded, Skipped, Failed, TimedOut or Cancelled
            a.yaml:11:68: spec.jobs[2].dependsOn[1].job: "trnsform" is not a job of this workflow
              hint: did you mean transform?
            a.yaml:12:6: spec.jobs[3].name: "load" is a duplicate of jobs[2]
            a.yaml:12:31: spec.jobs[3].dependsOn[0].job: "nothing-like-it" is not a job of this workflow
              hint: the jobs are extract, transform, self.ish, parts
            a.yaml:13:6: spec.jobs[4].name: '.' is not allowed; use a-z, 0-9 and '-'
            a.yaml:13:22: spec.jobs[4].dependsOn: these jobs wait for each other: self.ish -> self.ish
            a.yaml:13:72: spec.jobs[4].placement.near[0].job: a job cannot be near its own tasks, which have not run yet
            a.yaml:13:89: spec.jobs[4].placement.near[1].job: "lod" is not a job of this workflow
              hint: did you mean load?
            a.yaml:14:39: spec.jobs[5].template.mounts[0]: one of hostPath, volume and tmpfs is required
            a.yaml:14:40: spec.jobs[5].template.mounts[0].path: "data" is not an absolute path
            a.yaml:14:102: spec.jobs[5].tasks[0].template.ports[0].hostPort: a port is a number from 1 to 65535
        "#]],
    );
}

#[test]
fn defaults_of_parameters_are_checked() {
    check(
        &workflow(
            r#"  params:
  - {name: a, default: $(run.naem)}
  - {name: b, default: $(params.a)}
  - {name: c, default: x-$(task.index)}
  - {name: d, default: $(run.scheduledTime)}
  - {name: e, default: $(date), enum: [x, y]}
  - {name: f, default: "$(run.date) $$(task.name) $(date)"}
  jobs: [{name: a, template: {image: busybox}}]
"#,
        ),
        expect![[r#"
            a.yaml:6:15: spec.params[0].default: $(run.naem) is not known: there is no name under run "naem"
              hint: did you mean name?
            a.yaml:7:15: spec.params[1].default: $(params.a) cannot be used in a default, which is set when a run begins
              hint: it may contain $(run.name) and $(run.date)
            a.yaml:8:15: spec.params[2].default: $(task.index) cannot be used in a default, which is set when a run begins
              hint: it may contain $(run.name) and $(run.date)
            a.yaml:9:15: spec.params[3].default: $(run.scheduledTime) is not supported yet
            a.yaml:10:15: spec.params[4].default: "$(date)" is not one of x, y
        "#]],
    );
    check(
        &workflow("  jobs:\n  - {name: a}\n"),
        expect![[r#"
        a.yaml:6:5: spec.jobs[0].template: is required
    "#]],
    );
}

#[test]
fn names_to_substitute_are_checked() {
    check(
        &workflow(
            r#"  params: [{name: date, default: "$(run.date)"}, {name: cpu}, {name: mem, default: lots}]
  jobs:
  - name: a
    items: [{path: x}, {pth: y}]
    placement: {nodes: ["$(node.name)"], constraints: ["zone = $(params.zone)"]}
    template:
      image: "app:$(task.index)"
      args: ["$(params.dat) $(run.nam) $(run.scheduledTime) $(jobs.load.outputs.rows) $(task.indx)"]
      command: ["$(task.item.path) $(task.partition) $(ports.htp) $$(params.x) $(date) $(node.name)"]
      ports: [{name: http}]
      labels: {node: "$(node.name)"}
      resources: {requests: {cpu: "$(params.cpu)", memory: "$(params.mem)"}}
"#,
        ),
        expect![[r#"
            a.yaml:4:1: spec.runOnApply: a new revision is run at once, and parameter cpu has no default: the run would fail
              hint: set runOnApply: false and start runs with hctl run, or give the parameter a default
            a.yaml:9:25: spec.jobs[0].placement.nodes[0]: $(node.name) cannot be used in a placement
              hint: a node is chosen before
            a.yaml:9:56: spec.jobs[0].placement.constraints[0]: $(params.zone) is not known: there is no parameter "zone"
              hint: there is cpu, date, mem
            a.yaml:11:7: spec.jobs[0].template.image: $(task.index) cannot be used in an image
              hint: all tasks of a job have one image
            a.yaml:12:14: spec.jobs[0].template.args[0]: $(jobs.load.outputs.rows) is not supported yet
            a.yaml:12:14: spec.jobs[0].template.args[0]: $(params.dat) is not known: there is no parameter "dat"
              hint: did you mean date?
            a.yaml:12:14: spec.jobs[0].template.args[0]: $(run.nam) is not known: there is no name under run "nam"
              hint: did you mean name?
            a.yaml:12:14: spec.jobs[0].template.args[0]: $(run.scheduledTime) is not supported yet
            a.yaml:12:14: spec.jobs[0].template.args[0]: $(task.indx) is not known: there is no name under task "indx"
              hint: did you mean index?
            a.yaml:13:17: spec.jobs[0].template.command[0]: $(ports.htp) is not known: there is no port "htp"
              hint: did you mean http?
            a.yaml:13:17: spec.jobs[0].template.command[0]: $(task.item.path) is not known: items[1] has no path
            a.yaml:13:17: spec.jobs[0].template.command[0]: $(task.partition) is not known: the job has no target
            a.yaml:15:16: spec.jobs[0].template.labels.node: $(node.name) cannot be used in a label, which the task has before its node
            a.yaml:16:52: spec.jobs[0].template.resources.requests.memory: "lots" is not a quantity
              hint: write for example 2, 500m, 64Mi or 1.5Gi
        "#]],
    );
    check(
        &job("    args: ['$(params.x) $(run.name) $(task.item) $(transition.to)']\n"),
        expect![[r#"
            a.yaml:7:12: spec.template.args[0]: $(params.x) is not known: a job of its own has no parameters
              hint: make it a job of a Workflow
            a.yaml:7:12: spec.template.args[0]: $(run.name) is not known: the job is in no run
              hint: make it a job of a Workflow
            a.yaml:7:12: spec.template.args[0]: $(task.item) is not known: the job has no items
            a.yaml:7:12: spec.template.args[0]: $(transition.to) is not supported yet
        "#]],
    );
}

#[test]
fn partition_sets_are_checked() {
    check(
        &set(
            "  stateModel: LeaderStandbye\n  replicas: 0\n  partitionNames: [A, a, a]\n  partitions: 3\n  rebalance: {}\n",
        ),
        expect![[r#"
            a.yaml:4:1: spec.mode: Auto, the default, is not supported yet
              hint: write mode: Manual and an assignment
            a.yaml:5:3: spec.stateModel: "LeaderStandbye" is not a built-in state model, and custom ones are not supported yet
              hint: did you mean LeaderStandby?
            a.yaml:6:3: spec.replicas: must be at least 1
            a.yaml:7:20: spec.partitionNames[0]: 'A' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:7:26: spec.partitionNames[2]: "a" is a duplicate of partitionNames[1]
            a.yaml:9:3: spec.rebalance: not supported yet
        "#]],
    );
    check(
        &set(
            "  stateModel: LeaderStandbye\n  replicas: 0\n  partitionNames: [A, a, a]\n  partitions: 3\n",
        ),
        expect![[r#"
            a.yaml:4:1: spec: only one of partitions and partitionNames is allowed
            a.yaml:4:1: spec.mode: Auto, the default, is not supported yet
              hint: write mode: Manual and an assignment
            a.yaml:5:3: spec.stateModel: "LeaderStandbye" is not a built-in state model, and custom ones are not supported yet
              hint: did you mean LeaderStandby?
            a.yaml:6:3: spec.replicas: must be at least 1
            a.yaml:7:20: spec.partitionNames[0]: 'A' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:7:26: spec.partitionNames[2]: "a" is a duplicate of partitionNames[1]
        "#]],
    );
    check(
        &set(
            "  stateModel: LeaderStandby\n  mode: Manual\n  partitions: 2\n  replicas: 2\n  assignment:\n    mydb-0: {n1: LEADER, n2: LEADER, n3: STANDBY}\n    mydb-1: {n1: leader, N2: BOSS}\n    mydb-2: {}\n",
        ),
        expect![[r#"
            a.yaml:10:5: spec.assignment.mydb-0: 2 replicas are LEADER; LeaderStandby allows 1
            a.yaml:10:5: spec.assignment.mydb-0: 3 replicas; spec.replicas is 2
              hint: set spec.replicas to 3
            a.yaml:11:14: spec.assignment.mydb-1.n1: "leader" is not a state of LeaderStandby
              hint: did you mean LEADER?
            a.yaml:11:26: spec.assignment.mydb-1.N2: "BOSS" is not a state of LeaderStandby
              hint: the states are LEADER, STANDBY, OFFLINE, DROPPED
            a.yaml:11:26: spec.assignment.mydb-1.N2: 'N' is not allowed; use a-z, 0-9, '-' and '.'
            a.yaml:12:5: spec.assignment.mydb-2: "mydb-2" is not a partition of this set
              hint: did you mean mydb-0?
        "#]],
    );
    check(
        &set("  stateModel: OnlineOffline\n  mode: Manual\n"),
        expect![[r#"
        a.yaml:4:1: spec: one of partitions and partitionNames is required
    "#]],
    );
}

#[test]
fn a_mistyped_field_hides_no_broken_rule() {
    check(
        &workflow(
            "  jbos: []\n  jobs:\n  - {name: a, dependsOn: [{job: b}], template: {image: x, arg: []}}\n  - {name: b, depends_on: [], dependsOn: [{job: a}], template: {image: x}, count: two}\n",
        ),
        expect![[r#"
            a.yaml:5:3: spec.jbos: unknown field
              hint: did you mean jobs?
            a.yaml:7:15: spec.jobs[0].dependsOn: these jobs wait for each other: a -> b -> a
            a.yaml:7:59: spec.jobs[0].template.arg: unknown field
              hint: did you mean args?
            a.yaml:8:15: spec.jobs[1].depends_on: unknown field
              hint: write dependsOn: [{job: NAME}]
            a.yaml:8:76: spec.jobs[1].count: expected a whole number, found text
        "#]],
    );
    check(
        &job("  dependsOn: [{job: a}]\n  depends_on: a\n"),
        expect![[r#"
        a.yaml:7:3: spec.dependsOn: unknown field
          hint: make it a job of a Workflow, whose jobs have dependsOn
        a.yaml:8:3: spec.depends_on: unknown field
          hint: make it a job of a Workflow, whose jobs have dependsOn
    "#]],
    );
}

/// Each part is right by itself; together they never happen.
#[test]
fn what_can_never_happen_is_refused() {
    check(
        &workflow(
            r#"  timeout: 10m
  defaults: {template: {image: busybox}}
  jobs:
  - {name: a, timeout: 1h}
  - {name: b, dependsOn: [{job: a}], attemptTimeout: 6m, timeout: 5m}
  - {name: c, dependsOn: [{job: a, phases: [Skipped]}]}
  - {name: d, dependsOn: [{job: b, phases: [Skipped]}]}
  - {name: e, dependsOn: [{job: d, phases: [TimedOut]}]}
  - {name: f, dependsOn: [{job: a, phases: [Failed]}, {job: b}]}
  - {name: g, dependsOn: [{job: f}]}
  - {name: h, dependsOn: [{job: a, phases: [Failed]}, {job: b, phases: [Skipped, Succeeded]}]}
  - {name: i, placement: {near: [{job: j, required: true}, {job: a}]}, retry: {backoff: {initial: 2m}}, timeout: 1m}
  - {name: j, dependsOn: [{job: i}]}
  - {name: k, retry: {maxAttempts: 1, backoff: {initial: 1m}, rules: [{exitCodes: [1, 2], action: Retry}, {reasons: [Timeout], action: FailJob}, {exitCodes: [2], action: FailJob}]}}
"#,
        ),
        expect![[r#"
            a.yaml:8:15: spec.jobs[0].timeout: 1h is never reached: the workflow's timeout is 10m
            a.yaml:9:38: spec.jobs[1].attemptTimeout: 6m is never reached: the job's timeout is 5m
            a.yaml:10:36: spec.jobs[2].dependsOn[0].phases: job a is never Skipped: it waits for no other job
              hint: this job would never run: name another phase
            a.yaml:12:36: spec.jobs[4].dependsOn[0].phases: job d is never TimedOut: it has no timeout
              hint: this job would never run: name another phase
            a.yaml:13:15: spec.jobs[5].dependsOn: the job waits for job a both to succeed and to fail, at once or through others
              hint: this job would never run
            a.yaml:16:35: spec.jobs[8].placement.near[0].job: job j waits for this one: none of its tasks has run then
            a.yaml:16:90: spec.jobs[8].retry.backoff.initial: no second attempt would begin: the job's timeout is 1m
            a.yaml:18:146: spec.jobs[10].retry.rules[2]: never applies: rules[0] already matches everything that it names
        "#]],
    );
}

#[test]
fn placements_that_no_node_can_have_are_refused() {
    let placement = |constraints: &str| {
        format!(
            "    args: []\n  placement: {{nodes: [n1, n2], nodeSelector: {{zone: a}}, constraints: [{constraints}]}}\n"
        )
    };
    check(
        &job(&placement(
            r#""zone in (a, b)", "name != n1", "gen >= 3", "gen <= 3", "disk", "disk notin (hdd)", "!spot", "!spot""#,
        )),
        expect![[r#"
            1 documents, nothing wrong
        "#]],
    );
    check(
        &job(&placement(
            r#""zone = b", "name = n3", "gen > 3", "gen <= 3.0", "disk = ssd", "disk != ssd", "!spot", "exists spot", "kernel > five""#,
        )),
        expect![[r#"
            a.yaml:8:71: spec.placement.constraints[0]: no zone is both this and "zone = a"
              hint: no node would ever match
            a.yaml:8:83: spec.placement.constraints[1]: no name is both this and "nodes"
              hint: no node would ever match
            a.yaml:8:107: spec.placement.constraints[3]: no gen is both this and "gen > 3"
              hint: no node would ever match
            a.yaml:8:135: spec.placement.constraints[5]: no disk is both this and "disk = ssd"
              hint: no node would ever match
            a.yaml:8:159: spec.placement.constraints[7]: no spot is both this and "!spot"
              hint: no node would ever match
            a.yaml:8:174: spec.placement.constraints[8]: "five" is neither a number nor a version, so it cannot be compared
        "#]],
    );
}

#[test]
fn a_hint_is_what_to_write_instead() {
    check(
        &workflow(
            r#"  params: [{name: day}, {name: day}]
  activeDeadlineSeconds: 60
  jobs:
  - {name: a, ttlSecondsAfterFinished: 100, template: {image: x, command: echo hi, args: "-c 'a b'"}}
  - {name: b, activeDeadlineSeconds: soon, template: {image: x, command: "sleep 5", args: -v}}
  - {name: c, dependsOn: [{job: a, phases: [succeeded]}], template: {image: x}}
"#,
        ),
        expect![[r#"
            a.yaml:4:1: spec.runOnApply: a new revision is run at once, and parameter day has no default: the run would fail
              hint: set runOnApply: false and start runs with hctl run, or give the parameter a default
            a.yaml:5:26: spec.params[1].name: "day" is a duplicate of params[0]
            a.yaml:6:3: spec.activeDeadlineSeconds: unknown field
              hint: write timeout: 60s
            a.yaml:8:15: spec.jobs[0].ttlSecondsAfterFinished: unknown field
              hint: write keepTasks: 100s
            a.yaml:8:66: spec.jobs[0].template.command: expected a list, found text
              hint: write it as a list: [echo, hi]
            a.yaml:8:84: spec.jobs[0].template.args: expected a list, found text
              hint: write it as a list: each entry begins with -
            a.yaml:9:15: spec.jobs[1].activeDeadlineSeconds: unknown field
              hint: write timeout
            a.yaml:9:65: spec.jobs[1].template.command: expected a list, found text
              hint: write it as a list: [sleep, "5"]
            a.yaml:9:85: spec.jobs[1].template.args: expected a list, found text
              hint: write it as a list: [-v]
            a.yaml:10:45: spec.jobs[2].dependsOn[0].phases[0]: "succeeded" is not one of Succeeded, Failed, TimedOut, Cancelled, Skipped
              hint: did you mean Succeeded?
        "#]],
    );
}
