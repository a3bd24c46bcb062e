//! Which pages there are, in which sections, and the words around their tables.

use api::KindId;

use super::parts::{CONDITIONS, PLACEMENT, RETRY, TEMPLATE};

/// A page that is made from the types.
pub(super) struct Page {
    /// Its file in `docs/`.
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    /// What it is about, in one paragraph.
    pub(super) intro: &'static str,
    /// The kind whose schema has its fields.
    pub(super) kind: KindId,
    pub(super) sections: &'static [Section],
}

impl Page {
    /// The kind that the page is of; nothing where it is of a part that several kinds share.
    pub(super) fn kind_of_page(&self) -> Option<KindId> {
        let is_of_kind = self.sections.iter().any(|it| matches!(it.part, "spec" | "status"));
        is_of_kind.then_some(self.kind)
    }
}

/// Fields that belong together.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// What they are for.
    pub(super) about: &'static str,
    /// The file in `docs/examples` that shows them, without its ending.
    pub(super) example: Option<&'static str>,
    /// Where the fields are: `spec`, `status`, `spec.template`.
    pub(super) part: &'static str,
    pub(super) fields: &'static [&'static str],
    /// Of these, the ones whose words are explained below the table.
    pub(super) values: &'static [&'static str],
    /// What follows all that, as it is.
    pub(super) note: &'static str,
}

/// The table of `api/src/job/change.rs`, which tests hold to it.
const ON_CHANGE: &str = "\
What a change does, by `onChange`:

| change | `Rerun` | `Ignore` | `Reject` |
|---|---|---|---|
| `template`, `target` | a new run | tasks that exist stay as they are | refused |
| one of `count`, `tasks`, `items`, `target` in place of another | a new run | refused, unless the job has \
no run yet | refused |
| `template` of a named task | that task runs again; after a run that failed, timed out or was cancelled: a \
new run | the task stays as it is | refused |
| `count`, entries added to or removed from `tasks` and `items` | in the current run: added tasks run, removed \
ones are stopped, the others continue | the same | the same |
| anything else | in place: running tasks continue, tasks that have no node yet use the change | the same | the same |

It makes no difference whether the run has ended, with one exception: a run that failed, timed out or was \
cancelled accepts no more tasks. `hctl rerun job/NAME` runs such a job again. With `Ignore`, a `target` with \
another partition set is refused; other `partitions` of the same set are added and removed as entries of \
`tasks` are. `hctl apply` says what a change does, for example `configured: run 4 replaces run 3; 2 running \
tasks are stopped`.
";

pub(super) const EMPTY: Section = Section {
    title: "",
    about: "",
    example: None,
    part: "spec",
    fields: &[],
    values: &[],
    note: "",
};

/// Fields of parts that users write are shown on one page alone, which others link to.
pub(super) const PAGES: [Page; 12] = [
    JOB,
    SERVICE,
    WORKFLOW,
    RUN,
    PARTITION_SET,
    TASK,
    TASK_TEMPLATE,
    NODE,
    TEMPLATE,
    PLACEMENT,
    RETRY,
    CONDITIONS,
];

const JOB: Page = Page {
    file: "job.md",
    title: "Job",
    intro: "A job is a set of tasks that run to completion. A task is one container on one node; if an \
            attempt of it fails, Heliox retries it. A change of the template runs the job again: its \
            next *run*. `hctl rerun job/NAME` does so without a change.",
    kind: KindId::Job,
    sections: &[
        Section {
            title: "Identical tasks",
            about: "Without `count`, `tasks`, `items` or `target` a job has one task.",
            example: Some("job-count"),
            fields: &["count", "parallelism", "maxPerNode"],
            ..EMPTY
        },
        Section {
            title: "Named tasks",
            about: "What a task sets is merged over the job's template or placement: maps \
                    are merged; `env` and `ports` are merged by name, `mounts` by path; any other \
                    value replaces the job's.",
            example: Some("job-tasks"),
            fields: &["tasks"],
            ..EMPTY
        },
        Section {
            title: "A task for each item",
            example: Some("job-items"),
            fields: &["items"],
            ..EMPTY
        },
        Section {
            title: "A task for each partition",
            about: "Brings the work to the data: each task runs on a node that holds a replica of its \
                    partition, and finds the partition's name in `$(task.partition)`.",
            example: Some("job-target"),
            fields: &["target"],
            ..EMPTY
        },
        Section {
            title: "What runs where",
            about: "These parts have their own pages: [Template](template.md) describes the container, \
                    [Placement](placement.md) which nodes it may run on, and [Retry](retry.md) what \
                    happens after a failure. [Substitution](substitution.md) lists the names, such as \
                    `$(task.index)`, that you can use in them.",
            fields: &["template", "placement", "retry"],
            ..EMPTY
        },
        Section {
            title: "Limits and priority",
            example: Some("job-limits"),
            fields: &["timeout", "attemptTimeout", "maxFailedTasks", "priority"],
            ..EMPTY
        },
        Section {
            title: "Suspending, changing, cleaning up",
            example: Some("job-lifecycle"),
            fields: &["suspend", "onChange", "keepTasks", "cancel", "cancelReason", "reruns"],
            values: &["onChange"],
            note: ON_CHANGE,
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by Heliox. `hctl describe job NAME` shows it together with the job's tasks \
                    and events.",
            part: "status",
            fields: &[
                "phase",
                "ending",
                "observedGeneration",
                "run",
                "revision",
                "total",
                "pending",
                "active",
                "succeeded",
                "failed",
                "cancelled",
                "retries",
                "retryReasons",
                "failures",
                "waiting",
                "indexes",
                "parts",
                "tasksFrom",
                "startedAt",
                "finishedAt",
                "suspendedAt",
                "suspendedSeconds",
                "message",
                "conditions",
            ],
            values: &["phase"],
            ..EMPTY
        },
    ],
};

const SERVICE: Page = Page {
    file: "service.md",
    title: "Service",
    intro: "A service is a set of tasks that stay up: a container is started again whatever it ends with, \
            and a task whose node is lost is started on another one. A change of `template`, \
            `placement` or `restart` is a new *revision*, which replaces the tasks step by step: a \
            *rollout*.",
    kind: KindId::Service,
    sections: &[
        Section {
            title: "How many tasks",
            example: Some("service"),
            fields: &["replicas"],
            ..EMPTY
        },
        Section {
            title: "A task on each node",
            about: "Each task is pinned to its node. A node that is lost or cordoned holds up no rollout: \
                    its task is replaced when the node accepts tasks again.",
            example: Some("service-per-node"),
            fields: &["perNode"],
            ..EMPTY
        },
        Section {
            title: "What runs where",
            about: "These parts have their own pages: [Template](template.md) describes the container, \
                    [Placement](placement.md) which nodes it may run on. All tasks of a service are \
                    alike: `$(task.count)` and `$(task.item)` have no meaning in them.",
            fields: &["template", "placement", "priority"],
            ..EMPTY
        },
        Section {
            title: "Rollouts",
            about: "Tasks that are not ready are replaced first, then the others in the order of their \
                    numbers or nodes. No ready task is stopped while fewer tasks are ready than \
                    `maxUnavailable` allows. A rollout that is changed goes straight to the newest \
                    revision.",
            example: Some("service-rollout"),
            fields: &["rollout", "maxUnavailable"],
            values: &["rollout.order", "rollout.onFailure"],
            ..EMPTY
        },
        Section {
            title: "Before a rollout, and canaries",
            about: "Both concern revisions that a change of the manifest makes: a service that goes back, or \
                    restarts, waits for neither. `rollout.before` is a job over the service's template, \
                    named `NAME-before-REVISION`; no task changes before it has succeeded, and if it fails, \
                    the rollout has failed. A change in the middle cancels it. With `rollout.canary` some \
                    tasks run the new revision first, with the label `heliox.dev/canary`; whatever takes \
                    the place of a failed one is a canary, too. Once all of them are available and the job \
                    `NAME-check-REVISION` has succeeded, the rollout goes on after `promoteAfter`, or with \
                    `hctl rollout promote service/NAME`.",
            example: Some("service-canary"),
            ..EMPTY
        },
        Section {
            title: "Following and steering a rollout",
            about: "`hctl rollout status service/NAME` waits until the newest revision is rolled out and fails \
                    if its rollout does; `hctl rollout history service/NAME` lists the revisions, and with \
                    `--revision N` shows what one of them runs. `hctl rollout pause` and `resume` set \
                    `rollout.suspend`. These change nothing in the spec, so that a manifest in a \
                    repository stays as it is:\n\n\
                    - `hctl rollout undo [--to-revision N]` rolls out, under a new number, what an earlier \
                    revision ran: the last good one if none is named. The service stays with it, whatever \
                    else of the manifest changes, until the manifest asks for another revision. \
                    `status.manifestRevision` says which one was undone.\n\
                    - `hctl rollout restart` replaces all tasks by others that run the same, as `rollout` \
                    says.\n\
                    - `hctl rollout abort` ends a rollout as failed: with `onFailure: Rollback` the service \
                    goes back, otherwise no further task is replaced.\n\
                    - `hctl rollout promote` lets it go on after its canaries.\n\n\
                    They are a POST of `{verb: Undo, toRevision: 3}` and the like to the subresource \
                    `rollout`. A request stands in `status.request` until the service controller has \
                    carried it out, in the write that takes it away. A change of the manifest that makes \
                    another revision ends what was asked before it.",
            ..EMPTY
        },
        Section {
            title: "Restarting, suspending, ending",
            example: Some("service-lifecycle"),
            fields: &["restart", "suspend", "expiresAt", "revisionHistoryLimit"],
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by Heliox. `hctl describe service NAME` shows it together with the service's \
                    tasks and events. Only tasks that the service has made count: one that was left behind \
                    by a deleted service of the same name is not taken over, whatever its labels are.",
            part: "status",
            fields: &[
                "phase",
                "observedGeneration",
                "replicas",
                "ready",
                "updated",
                "unavailable",
                "currentRevision",
                "updateRevision",
                "manifestRevision",
                "revisions",
                "rollout",
                "request",
                "selector",
                "suspendedAt",
                "message",
                "conditions",
            ],
            values: &["phase", "rollout.state"],
            ..EMPTY
        },
    ],
};

const WORKFLOW: Page = Page {
    file: "workflow.md",
    title: "Workflow",
    intro: "A workflow is a DAG of jobs. It is executed by [runs](workflowrun.md): one for each applied \
            revision (unless `runOnApply` is false), and one whenever `hctl run NAME` asks for it. A \
            run keeps its copy of the workflow, so that later changes affect later runs only.",
    kind: KindId::Workflow,
    sections: &[
        Section {
            title: "Jobs and dependencies",
            about: "A job starts as soon as all jobs it depends on have ended in one of the accepted \
                    phases.",
            example: Some("workflow-jobs"),
            fields: &["jobs"],
            ..EMPTY
        },
        Section {
            title: "Parameters",
            about: "A run gets its values from `hctl run NAME -p KEY=VALUE`. Values are text: quote what \
                    YAML would read as a number or a boolean.",
            example: Some("workflow-params"),
            fields: &["params"],
            ..EMPTY
        },
        Section {
            title: "Defaults",
            about: "The defaults apply to every job: maps are merged; `env` and `ports` are merged by \
                    name, `mounts` by path; any other value of the job replaces the default.",
            example: Some("workflow-defaults"),
            fields: &["defaults"],
            ..EMPTY
        },
        Section {
            title: "Runs",
            example: Some("workflow-runs"),
            fields: &["runOnApply", "timeout", "maxFailedJobs", "suspend", "history"],
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by Heliox. `hctl get runs` lists the runs.",
            part: "status",
            fields: &[
                "phase",
                "observedGeneration",
                "revision",
                "lastRunNumber",
                "lastRun",
                "deployedRun",
                "active",
                "conditions",
            ],
            ..EMPTY
        },
    ],
};

const RUN: Page = Page {
    file: "workflowrun.md",
    title: "WorkflowRun",
    intro: "A run is one execution of a [workflow](workflow.md). Heliox creates one for each new revision \
            of the workflow; `hctl run` and `hctl rerun` create others. A run belongs to its workflow: it \
            is deleted with it, and counts in its `history`.",
    kind: KindId::WorkflowRun,
    sections: &[
        Section {
            title: "Spec",
            example: Some("workflowrun"),
            fields: &["workflow", "params", "suspend", "cancel"],
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by Heliox. `hctl describe run NAME` shows it as a table of jobs.",
            part: "status",
            fields: &[
                "phase",
                "observedGeneration",
                "workflow",
                "revision",
                "params",
                "total",
                "pending",
                "active",
                "succeeded",
                "failed",
                "cancelled",
                "startedAt",
                "finishedAt",
                "suspendedAt",
                "suspendedSeconds",
                "message",
                "waiting",
                "conditions",
            ],
            values: &["phase"],
            ..EMPTY
        },
        Section {
            title: "Status of each job",
            about: "The phases of a job are explained with the [Job](job.md#status).",
            part: "status",
            fields: &["jobs"],
            ..EMPTY
        },
    ],
};

const PARTITION_SET: Page = Page {
    file: "partitionset.md",
    title: "PartitionSet",
    intro: "A partition set tells Heliox where the partitions of a system, for example the shards of a \
            database, have their replicas, and in which states. Tasks use it to run beside the data: as \
            the [target](job.md#a-task-for-each-partition) of a job, or in \
            [`placement.near`](placement.md#close-to-data).",
    kind: KindId::PartitionSet,
    sections: &[
        Section {
            title: "Spec",
            example: Some("partitionset"),
            fields: &[
                "partitions",
                "partitionNames",
                "replicas",
                "stateModel",
                "mode",
                "assignment",
            ],
            values: &["mode"],
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by Heliox.",
            part: "status",
            fields: &["phase", "observedGeneration", "missingNodes", "conditions"],
            ..EMPTY
        },
    ],
};

const TASK: Page = Page {
    file: "task.md",
    title: "Task",
    intro: "A task is one container on one node at a time. Its name is stable; each execution of it is an \
            *attempt*, counted from 1. Jobs create tasks, so you do not write them by hand. To see them, \
            use `hctl get tasks`, `hctl describe task NAME` and `hctl logs NAME`.",
    kind: KindId::Task,
    sections: &[
        Section {
            title: "Status",
            about: "Written by the node's agent. [Troubleshooting](troubleshooting.md) explains each \
                    reason.",
            part: "status",
            fields: &[
                "phase",
                "attempt",
                "nodeName",
                "ready",
                "readySince",
                "exitCode",
                "reason",
                "message",
                "startedAt",
                "finishedAt",
                "ports",
                "restarts",
                "lastExit",
                "restartAt",
                "imageDigest",
                "state",
                "binding",
                "bootId",
                "loss",
                "conditions",
            ],
            values: &["phase"],
            ..EMPTY
        },
        Section { title: "Earlier attempts", part: "status", fields: &["attempts"], ..EMPTY },
        Section {
            title: "Spec",
            about: "Written by the job's controller.",
            fields: &[
                "template",
                "overrides",
                "index",
                "count",
                "run",
                "attempt",
                "nextAttempt",
                "failures",
                "notBefore",
                "imageDigest",
                "avoid",
                "priority",
                "queue",
                "recorded",
            ],
            ..EMPTY
        },
        Section {
            title: "Scheduling and stopping",
            about: "Written by the scheduler, or when somebody asks the task to stop.",
            fields: &["nodeName", "binding", "unschedulable", "refusals", "stop"],
            values: &["stop.reason"],
            ..EMPTY
        },
    ],
};

const TASK_TEMPLATE: Page = Page {
    file: "tasktemplate.md",
    title: "TaskTemplate",
    intro: "A task template is an immutable revision of what the tasks of a job run. The job's controller \
            creates one for each run; it is kept so that tasks and their logs can be explained later.",
    kind: KindId::TaskTemplate,
    sections: &[Section {
        title: "Spec",
        about: "Written by the job's controller.",
        fields: &[
            "template",
            "placement",
            "target",
            "owner",
            "run",
            "maxPerNode",
            "attemptTimeout",
            "restart",
        ],
        ..EMPTY
    }],
};

const NODE: Page = Page {
    file: "node.md",
    title: "Node",
    intro: "A node is a host that runs tasks. The agent on the host registers it and reports its state; \
            [Nodes](nodes.md) says how labels, taints and maintenance are used.",
    kind: KindId::Node,
    sections: &[
        Section {
            title: "Spec",
            fields: &["unschedulable", "drain", "taints"],
            values: &["taints[].effect"],
            ..EMPTY
        },
        Section {
            title: "Status",
            about: "Written by the agent, except `phase`, `lost`, `silentSince`, `held` and `drain`.",
            part: "status",
            fields: &[
                "phase",
                "problem",
                "trouble",
                "lost",
                "silentSince",
                "held",
                "drain",
                "readySince",
                "address",
                "capacity",
                "allocatable",
                "portRange",
                "info",
                "images",
                "leftovers",
                "conditions",
                "agentLabels",
                "agentTaints",
                "agent",
                "bootId",
            ],
            values: &["phase", "trouble", "drain.state"],
            ..EMPTY
        },
    ],
};
