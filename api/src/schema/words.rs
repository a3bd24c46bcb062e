//! Hints for words that Heliox does not use: names that other systems have for a field, and fields
//! that are documented and not supported yet.

use serde_json::Value;

use crate::job::JobPhase;
use crate::kind::KindId;
use crate::violation::{Violation, nearest};

/// Which map of a document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// The document itself.
    Document,
    /// `metadata`.
    Metadata,
    /// A Job's spec, or a job of a workflow.
    Job,
    /// A Service's spec.
    Service,
    /// A service's rollout.
    Rollout,
    /// A Workflow's spec.
    Workflow,
    /// A template.
    Template,
    /// An environment variable.
    EnvVar,
    /// A port.
    Port,
    /// A probe.
    Probe,
    /// The HTTP request of a probe.
    HttpGet,
    /// A mount.
    Mount,
    /// A placement.
    Placement,
    /// What happens on the loss of a node.
    OnNodeLoss,
    /// A job's target.
    Target,
    /// A job's retry.
    Retry,
    /// A dependency on a job.
    Dependency,
    /// A PartitionSet's spec.
    PartitionSet,
    /// A Node's spec.
    Node,
    /// Anything else.
    Other,
}

/// Kinds with hints for the fields of their spec.
const SPECS: [(KindId, Section); 5] = [
    (KindId::Job, Section::Job),
    (KindId::Service, Section::Service),
    (KindId::Workflow, Section::Workflow),
    (KindId::PartitionSet, Section::PartitionSet),
    (KindId::Node, Section::Node),
];

impl Section {
    /// Which map these fields lead to.
    pub(super) fn of(kind: KindId, fields: &[&str]) -> Self {
        match fields {
            [] => Section::Document,
            ["metadata"] => Section::Metadata,
            ["metadata", ..] => Section::Other,
            ["spec"] => {
                let section = SPECS.into_iter().find(|(of, _)| *of == kind);
                section.map_or(Section::Other, |(_, section)| section)
            }
            ["spec", "rollout"] if kind == KindId::Service => Section::Rollout,
            ["spec", "jobs" | "defaults"] if kind == KindId::Workflow => Section::Job,
            [.., "template"] => Section::Template,
            [.., "template", "env"] => Section::EnvVar,
            [.., "template", "ports"] => Section::Port,
            [.., "template", "mounts"] => Section::Mount,
            [.., "template", "startupProbe" | "readinessProbe" | "livenessProbe"] => Section::Probe,
            [.., "startupProbe" | "readinessProbe" | "livenessProbe", "httpGet"] => {
                Section::HttpGet
            }
            [.., "placement"] => Section::Placement,
            [.., "placement", "onNodeLoss"] => Section::OnNodeLoss,
            [.., "target"] => Section::Target,
            [.., "retry"] => Section::Retry,
            [.., "dependsOn"] | [.., "dependsOn", "phases"] => Section::Dependency,
            _ => Section::Other,
        }
    }

    /// Fields of this map that are documented and not supported yet.
    fn later(self) -> &'static [&'static str] {
        match self {
            Section::Job => &[
                "approval",
                "discovery",
                "gang",
                "itemsFrom",
                "outputs",
                "perNode",
                "preemption",
                "queue",
                "startAt",
                "startDelay",
                "successWhen",
                "when",
            ],
            Section::Workflow => {
                &["concurrencyPolicy", "exclusiveNodes", "maxRunningJobs", "onExit", "schedule"]
            }
            Section::Service => &["discovery"],
            Section::Rollout => &[],
            Section::Template => &["envFrom", "imagePullSecrets", "init", "sidecars"],
            Section::EnvVar => &["valueFrom"],
            Section::Mount => &["configMap", "key", "mode", "secret"],
            Section::Probe => &["grpc", "terminationGracePeriodSeconds"],
            Section::Placement => &["apartFrom", "spread", "togetherWith"],
            Section::Target => &["follow", "per"],
            Section::PartitionSet => &[
                "discovery",
                "faultDomain",
                "participant",
                "perNode",
                "placement",
                "preferenceLists",
                "rebalance",
                "suspend",
                "weights",
            ],
            Section::Document
            | Section::Metadata
            | Section::Node
            | Section::Port
            | Section::HttpGet
            | Section::OnNodeLoss
            | Section::Retry
            | Section::Dependency
            | Section::Other => &[],
        }
    }

    /// What other systems call a field of this map, and what to write instead.
    fn neighbours(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Section::Document => &[("jobs", "spec.jobs"), ("template", "spec.template")],
            Section::Metadata => &[("label", "labels"), ("annotation", "annotations")],
            Section::Job => JOB_WORDS,
            Section::Service => SERVICE_WORDS,
            Section::Rollout => ROLLOUT_WORDS,
            Section::Workflow => WORKFLOW_WORDS,
            Section::Template => TEMPLATE_WORDS,
            Section::EnvVar => &[("key", "name"), ("val", "value")],
            Section::Port => &[
                ("port", "containerPort"),
                ("internalPort", "containerPort"),
                ("target", "containerPort"),
                ("targetPort", "containerPort"),
                ("externalPort", "hostPort"),
                ("published", "hostPort"),
            ],
            Section::Mount => &[
                ("mountPath", "path"),
                ("target", "path"),
                ("source", "hostPath"),
                ("readonly", "readOnly"),
                ("emptyDir", "tmpfs: {}"),
                ("ramdisk", "tmpfs"),
            ],
            Section::Probe => PROBE_WORDS,
            Section::HttpGet => &[
                ("headers", "httpHeaders: [{name: NAME, value: VALUE}]"),
                ("method", "nothing: the request is a GET"),
                ("protocol", "scheme"),
                ("url", "path and port"),
            ],
            Section::Placement => PLACEMENT_WORDS,
            Section::OnNodeLoss => &[("delay", "after"), ("grace", "after")],
            Section::Target => &[
                ("targetResource", "partitionSet"),
                ("resource", "partitionSet"),
                ("targetPartitions", "partitions"),
                ("targetPartitionStates", "states"),
            ],
            Section::Retry => &[
                ("limit", "maxAttempts"),
                ("attempts", "maxAttempts"),
                ("retries", "maxAttempts"),
                ("backoffLimit", "maxAttempts"),
                ("delay", "backoff.initial"),
                ("interval", "backoff.initial"),
                ("expression", "rules"),
            ],
            Section::Dependency => &[("name", "job"), ("status", "phases"), ("on", "phases")],
            Section::PartitionSet => &[
                ("numPartitions", "partitions"),
                ("stateModelDefRef", "stateModel"),
                ("rebalanceMode", "mode"),
                ("mapFields", "assignment"),
            ],
            Section::Node => &[("cordoned", "unschedulable")],
            Section::Other => &[],
        }
    }
}

const JOB_WORDS: &[(&str, &str)] = &[
    ("activeDeadlineSeconds", "timeout"),
    ("affinity", "placement"),
    ("args", "template.args"),
    ("arguments", "tasks or items"),
    ("backoffLimit", "retry.maxAttempts, which counts the first attempt, too"),
    ("command", "template.command"),
    ("completions", "count"),
    ("concurrency", "parallelism"),
    ("constraints", "placement.constraints"),
    ("containers", "template, which is one container"),
    ("cron", "a Workflow with a schedule, which is not supported yet"),
    ("depends", "dependsOn: [{job: NAME}]"),
    ("dependencies", "dependsOn: [{job: NAME}]"),
    ("dependsOn", "dependsOn: [{job: NAME}]"),
    ("depends_on", "dependsOn: [{job: NAME}]"),
    ("env", "template.env"),
    ("failureThreshold", "maxFailedTasks"),
    ("group", "count and template"),
    ("image", "template.image"),
    ("instances", "count"),
    ("maxAttemptsPerTask", "retry.maxAttempts"),
    ("max_parallel", "parallelism"),
    ("needs", "dependsOn: [{job: NAME}]"),
    ("nodeSelector", "placement.nodeSelector"),
    ("numberOfTasks", "count"),
    ("parents", "dependsOn: [{job: NAME}]"),
    ("podFailurePolicy", "retry.rules"),
    ("podReplacementPolicy", "placement.onNodeLoss"),
    ("ConcurrentTasksPerInstance", "maxPerNode"),
    ("replicas", "count"),
    ("resources", "template.resources"),
    ("restart", "retry: each start is an attempt, and nothing restarts in section"),
    ("restartPolicy", "retry: each start is an attempt, and nothing restarts in section"),
    ("retries", "retry.maxAttempts, which counts the first attempt, too"),
    ("retryStrategy", "retry"),
    ("schedule", "a Workflow with a schedule, which is not supported yet"),
    ("selector", "nothing: a job finds its tasks by itself"),
    ("targetResource", "target.partitionSet"),
    ("timeoutPerPartition", "attemptTimeout"),
    ("tolerations", "placement.tolerations"),
    ("ttlSecondsAfterFinished", "keepTasks"),
    ("withItems", "items"),
    ("withParam", "items"),
];

const SERVICE_WORDS: &[(&str, &str)] = &[
    ("affinity", "placement"),
    ("args", "template.args"),
    ("command", "template.command"),
    ("constraints", "placement.constraints"),
    ("containers", "template, which is one container"),
    ("count", "replicas"),
    ("deploy", "replicas, placement and rollout"),
    ("env", "template.env"),
    ("expires", "expiresAt"),
    ("global", "perNode"),
    ("healthCheck", "template.readinessProbe"),
    ("hosts", "placement.nodes"),
    ("image", "template.image"),
    ("instances", "replicas"),
    ("minReadySeconds", "rollout.minReadySeconds"),
    ("nodeSelector", "placement.nodeSelector"),
    ("parallelism", "rollout.parallelism"),
    ("paused", "rollout.suspend"),
    ("ports", "template.ports"),
    ("progressDeadlineSeconds", "rollout.timeout"),
    ("resources", "template.resources"),
    ("restartPolicy", "restart"),
    ("rolloutOptions", "rollout"),
    ("scale", "replicas"),
    ("selector", "nothing: a service finds its tasks by itself"),
    ("strategy", "rollout"),
    ("update", "rollout"),
    ("updateStrategy", "rollout"),
    ("update_config", "rollout"),
];

const ROLLOUT_WORDS: &[(&str, &str)] = &[
    ("auto_promote", "canary.promoteAfter"),
    ("auto_revert", "onFailure: Rollback"),
    ("failureThreshold", "maxFailedTasks"),
    ("failure_action", "onFailure"),
    ("healthy_deadline", "timeout"),
    ("ignoreFailures", "onFailure: Continue"),
    ("maxSurge", "order: StartFirst, and parallelism"),
    ("maxUnavailable", "maxUnavailable beside rollout, and parallelism"),
    ("max_failure_ratio", "maxFailedTasks"),
    ("max_parallel", "parallelism"),
    ("min_healthy_time", "minReadySeconds"),
    ("monitor", "minReadySeconds"),
    ("overlap", "order: StartFirst"),
    ("paused", "suspend"),
    ("progressDeadlineSeconds", "timeout"),
    ("progress_deadline", "timeout"),
    ("rollingUpdate", "its fields here"),
    ("stagger", "minReadySeconds"),
];

const WORKFLOW_WORDS: &[(&str, &str)] = &[
    ("activeDeadlineSeconds", "timeout"),
    ("arguments", "params"),
    ("cron", "schedule.cron, which is not supported yet"),
    ("dag", "jobs with dependsOn"),
    ("entrypoint", "jobs: those that depend on nothing start first"),
    ("failureThreshold", "maxFailedJobs"),
    ("inputs", "params"),
    ("parallelJobs", "maxRunningJobs, which is not supported yet"),
    ("parallelism", "parallelism in a job"),
    ("parameters", "params"),
    ("stages", "jobs with dependsOn"),
    ("steps", "jobs with dependsOn"),
    ("tasks", "jobs"),
    ("template", "defaults.template, or template in a job"),
    ("templates", "jobs"),
    ("ttlStrategy", "history"),
    ("volumes", "mounts in a template"),
];

const TEMPLATE_WORDS: &[(&str, &str)] = &[
    ("affinity", "placement, beside the template"),
    ("cap_add", "securityContext.capabilities.add"),
    ("cap_drop", "securityContext.capabilities.drop"),
    ("cmd", "args"),
    ("constraints", "placement.constraints, beside the template"),
    ("containers", "its fields here: a template is one container"),
    ("cpu", "resources.requests.cpu"),
    ("cpus", "resources.requests.cpu"),
    ("entrypoint", "command"),
    ("environment", "env: [{name: NAME, value: VALUE}]"),
    ("extra_hosts", "hostAliases: [{ip: IP, hostnames: [NAME]}]"),
    ("gracePeriod", "drainDelay"),
    ("health", "readinessProbe"),
    ("healthCheck", "readinessProbe, which decides whether the task is ready"),
    ("healthcheck", "livenessProbe: {exec: {command: [...]}}, or readinessProbe"),
    ("lifecycle", "drainDelay in place of a preStop that sleeps"),
    ("liveness", "livenessProbe"),
    ("readiness", "readinessProbe"),
    ("hostNetwork", "networkMode: host"),
    ("initContainers", "a job that others depend on"),
    ("logging", "logs: {maxSize: 10Mi}"),
    ("max_parallel", "parallelism, beside the template"),
    ("mem_limit", "resources.limits.memory"),
    ("memory", "resources.requests.memory"),
    ("metadata", "labels"),
    ("name", "nothing: tasks are named after their job"),
    ("network", "networkMode"),
    ("network_mode", "networkMode"),
    ("nodeName", "placement.nodes, beside the template"),
    ("nodeSelector", "placement.nodeSelector, beside the template"),
    ("pid", "hostPID: true"),
    ("placement", "placement beside the template"),
    ("privileged", "securityContext.privileged"),
    ("pids_limit", "resources.limits.pids"),
    ("ramdisks", "mounts: [{path: PATH, tmpfs: {size: 16Mi}}]"),
    ("read_only", "securityContext.readOnlyRootFilesystem"),
    ("restart", "retry, beside the template: each start is an attempt"),
    ("restartPolicy", "retry, beside the template: each start is an attempt"),
    ("secondsToWaitBeforeKill", "terminationGracePeriodSeconds"),
    ("security_opt", "securityContext.securityOpt"),
    ("spec", "its fields here: a template is one container"),
    ("stop_grace_period", "terminationGracePeriodSeconds"),
    ("stop_signal", "stopSignal"),
    ("tolerations", "placement.tolerations, beside the template"),
    ("user", "securityContext.runAsUser"),
    ("volumeMounts", "mounts"),
    ("volumes", "mounts"),
    ("workdir", "workingDir"),
    ("working_dir", "workingDir"),
];

const PROBE_WORDS: &[(&str, &str)] = &[
    ("command", "exec.command"),
    ("delay", "initialDelaySeconds"),
    ("failures_before_critical", "failureThreshold"),
    ("http", "httpGet"),
    ("interval", "periodSeconds"),
    ("path", "httpGet.path"),
    ("period", "periodSeconds"),
    ("port", "tcpSocket.port, or httpGet.port"),
    ("retries", "failureThreshold"),
    ("start_period", "a startupProbe, or initialDelaySeconds"),
    ("success_before_passing", "successThreshold"),
    ("tcp", "tcpSocket"),
    ("test", "exec.command"),
    ("timeout", "timeoutSeconds"),
    ("type", "one of httpGet, tcpSocket and exec"),
];

const PLACEMENT_WORDS: &[(&str, &str)] = &[
    ("affinity", "constraints, preferences or near"),
    ("hosts", "nodes"),
    ("nodeAffinity", "constraints and preferences"),
    ("nodeName", "nodes"),
    ("podAffinity", "togetherWith, which is not supported yet"),
    ("podAntiAffinity", "apartFrom, which is not supported yet"),
    ("topologySpreadConstraints", "spread, which is not supported yet"),
];

/// A field of a workflow's jobs that a Job does not have.
const DEPENDS_ON: &str = "dependsOn";

/// The violation of an unknown field, with what to write instead.
pub(super) fn unknown_field(
    section: Section,
    path: &str,
    (field, value): (&str, &Value),
    known: &[&str],
) -> Violation {
    if section.later().contains(&field) {
        return Violation::new(path, "not supported yet");
    }
    let neighbour = section.neighbours().iter().find(|(word, _)| *word == field);
    let violation = Violation::new(path, "unknown field");
    if let Some((_, ours)) = neighbour {
        if ours.starts_with(DEPENDS_ON) && !known.contains(&DEPENDS_ON) {
            return violation.hint("make it a job of a Workflow, whose jobs have dependsOn");
        }
        // Other systems use a number of seconds where Heliox has a duration with a unit.
        let seconds = value.as_u64().filter(|_| field.contains("Seconds"));
        let value = seconds.map(|seconds| format!(": {seconds}s")).unwrap_or_default();
        return violation.hint(format!("write {ours}{value}"));
    }
    let mut all = known.to_vec();
    all.extend(section.later());
    match meant(field, &all) {
        Some(meant) => violation.hint(format!("did you mean {meant}?")),
        None => violation,
    }
}

/// The violation of a value that is none of the allowed words.
pub(super) fn unknown_word(section: Section, path: &str, word: &str, words: &[&str]) -> Violation {
    let later = match section {
        Section::OnNodeLoss => word == "Fence",
        Section::HttpGet => word == "HTTPS",
        Section::Document
        | Section::Metadata
        | Section::Job
        | Section::Service
        | Section::Rollout
        | Section::Workflow
        | Section::Template
        | Section::EnvVar
        | Section::Port
        | Section::Mount
        | Section::Placement
        | Section::Target
        | Section::Retry
        | Section::Dependency
        | Section::PartitionSet
        | Section::Node
        | Section::Probe
        | Section::Other => false,
    };
    // The schema allows every phase of a job, but a dependency can only wait for a final one.
    let ends = |word: &&str| {
        let phase = serde_json::from_value::<JobPhase>(Value::from(*word));
        section != Section::Dependency || phase.is_ok_and(JobPhase::is_final)
    };
    let words: &[&str] = &words.iter().copied().filter(ends).collect::<Vec<_>>();
    let short: String = word.chars().take(100).collect();
    if later {
        return Violation::new(path, format!("{short} is not supported yet"))
            .hint(format!("write one of {}", words.join(", ")));
    }
    let violation = Violation::new(path, format!("{short:?} is not one of {}", words.join(", ")));
    match meant(word, words) {
        Some(meant) => violation.hint(format!("did you mean {meant}?")),
        None => violation,
    }
}

/// Kinds that are documented and not supported yet.
const LATER_KINDS: [&str; 8] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "NodePool",
    "Queue",
    "Role",
    "RoleBinding",
    "Source",
    "StateModel",
];

/// Kinds of other systems, and the kind to write instead.
const NEIGHBOUR_KINDS: [(&str, &str); 6] = [
    ("CronJob", "a Workflow with a schedule, which is not supported yet"),
    ("CronWorkflow", "a Workflow with a schedule, which is not supported yet"),
    ("Deployment", "a Service"),
    ("Pod", "a Job"),
    ("StatefulSet", "a Service"),
    ("DaemonSet", "a Service with perNode: true"),
];

/// Kinds of other systems that have the name of one of ours, and what has to be changed besides
/// `apiVersion`.
const NAMESAKES: [(&str, &str, &str); 3] = [
    (
        "batch/v1",
        "Job",
        "this is a Kubernetes Job: write apiVersion: heliox.dev/v1, move image, command, args and env \
         of its container to spec.template, and write count for completions",
    ),
    (
        "argoproj.io/v1alpha1",
        "Workflow",
        "this is an Argo Workflow: write apiVersion: heliox.dev/v1 and spec.jobs, with a job for each \
         template and dependsOn between them",
    ),
    (
        "v1",
        "Service",
        "this is a Kubernetes Service, which has no counterpart: tasks are reached at their nodes' ports. \
         A Service of heliox.dev/v1 is what a Deployment is there",
    ),
];

/// The violation of a document without a kind that is recognised, by its fields, as another tool's
/// file.
pub fn another_tools_file<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Violation> {
    let is_compose = fields.any(|field| field == "services");
    is_compose.then(|| {
        let hint = "write a Service for each: its image, command and environment go to \
                    spec.template, and ports to spec.template.ports";
        Violation::new("", "this is a Compose file").hint(hint)
    })
}

/// Our kind for another system's word: `pods` are tasks.
pub fn neighbours_word(word: &str) -> Option<KindId> {
    let lower = word.to_ascii_lowercase();
    Some(match lower.as_str() {
        "po" | "pod" | "pods" | "container" | "containers" | "alloc" | "allocs" | "allocation"
        | "allocations" => KindId::Task,
        "deploy" | "deployment" | "deployments" | "sts" | "statefulset" | "statefulsets" | "ds"
        | "daemonset" | "daemonsets" | "rs" | "replicaset" | "replicasets" => KindId::Service,
        "cj" | "cronjob" | "cronjobs" | "dag" | "dags" | "cwf" | "cronworkflow"
        | "cronworkflows" => KindId::Workflow,
        "host" | "hosts" | "machine" | "machines" | "client" | "clients" | "agent" | "agents" => {
            KindId::Node
        }
        _ => return None,
    })
}

/// The violation of an `apiVersion` and `kind` that name no kind that is served.
pub fn unknown_kind(api_version: &str, kind: &str) -> Violation {
    let short: String = kind.chars().take(100).collect();
    let written = || KindId::ALL.into_iter().filter(|id| !id.info().internal);
    let same = |(version, word, _): &&(&str, &str, &str)| *version == api_version && *word == kind;
    if let Some((_, _, hint)) = NAMESAKES.iter().find(same) {
        return Violation::new("apiVersion", format!("{api_version:?} has no kind {short}"))
            .hint(*hint);
    }
    if let Some(id) = written().find(|id| id.info().kind == kind) {
        let version: String = api_version.chars().take(100).collect();
        return Violation::new("apiVersion", format!("{version:?} has no kind {short}"))
            .hint(format!("write apiVersion: {}", id.api_version()));
    }
    if LATER_KINDS.contains(&kind) {
        return Violation::new("kind", format!("{short} is not supported yet"));
    }
    let violation = Violation::new("kind", format!("unknown kind {short:?}"));
    if let Some((_, ours)) = NEIGHBOUR_KINDS.iter().find(|(word, _)| *word == kind) {
        return violation.hint(format!("write {ours}"));
    }
    let names: Vec<&str> = written().map(|id| id.info().kind).collect();
    match meant(kind, &names) {
        Some(meant) => violation.hint(format!("did you mean {meant}?")),
        None => violation.hint(format!("the kinds are {}", names.join(", "))),
    }
}

/// The known word that the writer of `word` probably meant, ignoring case and dashes.
pub(super) fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |word: &str| {
        word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let wanted = plain(word);
    let same = known.iter().copied().find(|known| plain(known) == wanted);
    // Comparing very long words is slow and finds nothing.
    same.or_else(|| (word.len() <= 64).then(|| nearest(word, known.iter().copied())).flatten())
}
