//! The pages of what several kinds have in common: templates, placement, retry, conditions.

use api::KindId;

use super::pages::{EMPTY, Page, Section};

/// What the tables of probes do not say.
const PROBES: &str = "\
How probes behave:

- A task is not ready before its probes have succeeded. A container that ends, waits for its restart or is being \
stopped is not ready. A restarted agent keeps what was decided, but not the counts: a task that was ready stays ready \
until its probe has failed `failureThreshold` times again, and one that was not has to succeed first.
- A probe that cannot be made, for example while Docker does not answer, counts neither as a success nor as a failure.
- The result of an HTTP probe is the status of the answer: its body is not read and a redirect is not followed.
- A command that takes longer than `timeoutSeconds` is stopped, and the next one begins only after it has ended.
- A task whose readiness keeps changing is ready again only after a pause, which grows from 1 to 30 seconds. A minute \
without a change ends that.
- With the process runtime, ports are those of the node and commands run in the task's directory. In the simulated \
runtime, `args` say what probes find: `ready=5s`, `unready=20s`, `flap=3s`, `unhealthy=60s` and `hang=60s`, counted \
from the start of the container.
";

pub(super) const TEMPLATE: Page = Page {
    file: "template.md",
    title: "Template: the container",
    intro: "The template says what a task runs. It is `spec.template` of a [Job](job.md), and in part that \
            of a job's named tasks, of a workflow's jobs and of a workflow's `defaults`.",
    kind: KindId::Job,
    sections: &[
        Section {
            title: "Image and command",
            about: "The command is executed without a shell. For pipes and variables, write \
                    `command: [sh, -c, \"...\"]`.",
            example: Some("template-image"),
            part: "spec.template",
            fields: &["image", "imagePullPolicy", "command", "args", "workingDir"],
            values: &["imagePullPolicy"],
            note: "",
        },
        Section {
            title: "Environment",
            about: "Heliox adds the variables listed under [Environment](substitution.md#environment).",
            example: Some("template-env"),
            part: "spec.template",
            fields: &["env"],
            ..EMPTY
        },
        Section {
            title: "Resources",
            about: "Quantities are written as in Kubernetes: `500m` is half a processor, `64Mi` is 64 \
                    mebibytes. A request of `cpu` is also the container's share of a busy processor, and a \
                    limit the time that it gets at most. A container may use no swap beyond its memory limit, \
                    unless `memory-swap` allows it.",
            example: Some("template-resources"),
            part: "spec.template",
            fields: &["resources"],
            ..EMPTY
        },
        Section {
            title: "Ports",
            about: "A program that listens on `$(ports.NAME)` works with every `networkMode` and with the \
                    process runtime: it is always the right port to listen on.",
            example: Some("template-ports"),
            part: "spec.template",
            fields: &["ports"],
            ..EMPTY
        },
        Section {
            title: "Mounts",
            example: Some("template-mounts"),
            part: "spec.template",
            fields: &["mounts"],
            ..EMPTY
        },
        Section {
            title: "Probes",
            about: "The node's agent checks a container while it runs. Fields and defaults are those of \
                    Kubernetes. What a probe finds is in WHY of `hctl get tasks`, for example `startup \
                    probe 3 of 30: connection refused` or `readiness probe fails: GET / answered 503`.",
            example: Some("template-probes"),
            part: "spec.template",
            fields: &["startupProbe", "readinessProbe", "livenessProbe"],
            note: PROBES,
            ..EMPTY
        },
        Section {
            title: "Stopping",
            about: "A task that is cancelled, evicted, drained or deleted is not ready any more at once. \
                    After `drainDelay` it gets the stop signal, and it is killed when the grace period is \
                    over. A task that timed out gets the signal at once.",
            example: Some("template-stop"),
            part: "spec.template",
            fields: &["drainDelay", "stopSignal", "terminationGracePeriodSeconds"],
            ..EMPTY
        },
        Section {
            title: "Network and labels",
            about: "With `networkMode: container:NAME` the host name, the name servers and `/etc/hosts` are \
                    those of the other container.",
            example: Some("template-network"),
            part: "spec.template",
            fields: &["networkMode", "hostname", "dns", "hostAliases", "labels"],
            ..EMPTY
        },
        Section {
            title: "Rights",
            about: "The process runtime refuses what it cannot give or withhold.",
            example: Some("template-rights"),
            part: "spec.template",
            fields: &["securityContext", "hostPID", "devices"],
            ..EMPTY
        },
        Section {
            title: "Kernel and runtime",
            example: Some("template-kernel"),
            part: "spec.template",
            fields: &["runtime", "sysctls", "ulimits"],
            ..EMPTY
        },
        Section {
            title: "Logs",
            about: "`hctl logs` shows what a container wrote, also after its end. See [Logs](logs.md).",
            example: Some("template-logs"),
            part: "spec.template",
            fields: &["logs"],
            ..EMPTY
        },
    ],
};

pub(super) const PLACEMENT: Page = Page {
    file: "placement.md",
    title: "Placement",
    intro: "The placement says which nodes a task may run on, and which of them it prefers. It is \
            `spec.placement` of a [Job](job.md), and in part that of a job's named tasks, of a workflow's \
            jobs and of a workflow's `defaults`. If no node fits, `hctl describe job NAME` says why.",
    kind: KindId::Job,
    sections: &[
        Section {
            title: "By name",
            example: Some("placement-nodes"),
            part: "spec.placement",
            fields: &["nodes"],
            ..EMPTY
        },
        Section {
            title: "By label",
            about: "`hctl get nodes --show-labels` lists the labels of the nodes. Numbers and dotted \
                    versions are compared part by part: `kernel >= 5.10` holds for 5.15.",
            example: Some("placement-labels"),
            part: "spec.placement",
            fields: &["nodeSelector", "constraints", "preferences"],
            ..EMPTY
        },
        Section {
            title: "Close to data",
            example: Some("placement-near"),
            part: "spec.placement",
            fields: &["near"],
            ..EMPTY
        },
        Section {
            title: "Nodes with taints",
            about: "A taint keeps tasks away that do not tolerate it: `hctl taint node-1 \
                    dedicated=gpu:NoSchedule`, or the agent's flag `--taint`. The forms are those of \
                    Kubernetes. A toleration does not draw a task to the node; combine it with a label. With \
                    effect NoExecute the tasks that run on the node are evicted, which does not count as a \
                    failure. [Nodes](nodes.md#taints) has more.",
            example: Some("placement-tolerations"),
            part: "spec.placement",
            fields: &["tolerations"],
            values: &["tolerations[].operator", "tolerations[].effect"],
            note: "",
        },
        Section {
            title: "If the node is lost",
            about: "A node is lost when its agent has not been heard from for 6 seconds.",
            example: Some("placement-loss"),
            part: "spec.placement",
            fields: &["onNodeLoss"],
            values: &["onNodeLoss.action"],
            note: "",
        },
    ],
};

pub(super) const RETRY: Page = Page {
    file: "retry.md",
    title: "Retry",
    intro: "The retry policy says what happens after an attempt of a task has failed. It is `spec.retry` of \
            a [Job](job.md) and of a workflow's jobs; a workflow's `defaults.retry` applies to jobs that \
            have none. An attempt that was interrupted because its node was lost or drained is repeated \
            and does not count.",
    kind: KindId::Job,
    sections: &[
        Section {
            title: "Attempts and delays",
            example: Some("retry"),
            part: "spec.retry",
            fields: &["maxAttempts", "backoff", "avoidFailedNodes", "countDisruptions"],
            ..EMPTY
        },
        Section {
            title: "Rules",
            about: "The reasons are explained in [Troubleshooting](troubleshooting.md#reasons).",
            example: Some("retry-rules"),
            part: "spec.retry",
            fields: &["rules"],
            values: &["rules[].action"],
            note: "",
        },
    ],
};

pub(super) const CONDITIONS: Page = Page {
    file: "conditions.md",
    title: "Conditions",
    intro: "Jobs, workflows, runs and partition sets have the conditions that Flux and `kubectl wait` \
            understand; exactly one of them is `True`. `Ready`: the object matches its spec; a job or run \
            has succeeded. `Reconciling`: Heliox is working on it. `Stalled`: it will not become Ready \
            without a change, for example because the job failed. `hctl wait` uses them, too.",
    kind: KindId::Job,
    sections: &[Section {
        title: "Fields",
        part: "status.conditions[]",
        fields: &[
            "type",
            "status",
            "reason",
            "message",
            "lastTransitionTime",
            "observedGeneration",
        ],
        ..EMPTY
    }],
};
