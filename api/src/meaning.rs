//! The canonical form of a spec: amounts and durations in one form, default values left out, keys
//! in one order.
//!
//! Revisions are computed from this form, so that a manifest that says the same in other words does
//! not run anything again. It works on documents and not on types, because parts of workflows
//! contain parameters and cannot be typed. A spec that is written in canonical form already stays
//! the same byte for byte, so its hash equals the one that earlier versions computed.

mod probes;

use serde_json::{Map, Value, json};

use crate::amounts::Quantity;
use crate::duration::Duration;
use crate::every_kind::WithType;
use crate::kind::KindId;
use crate::placement::{Constraint, REPLACE_AFTER};
use crate::resource::Resource;
use crate::service::{HISTORY as HISTORY_OF_SERVICE, ROLLOUT_TIMEOUT, min_ready_seconds};
use crate::template::{GRACE_SECONDS, ProbeKind};
use crate::workflow::HISTORY;

type Document = Map<String, Value>;

/// The fields of a template in the order of its type. A test compares the two.
const TEMPLATE: [&str; 27] = [
    "image",
    "imagePullPolicy",
    "command",
    "args",
    "workingDir",
    "env",
    "resources",
    "ports",
    "mounts",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "drainDelay",
    "terminationGracePeriodSeconds",
    "stopSignal",
    "networkMode",
    "hostname",
    "dns",
    "hostAliases",
    "hostPID",
    "runtime",
    "devices",
    "sysctls",
    "ulimits",
    "securityContext",
    "logs",
    "labels",
];
const ENV: [&str; 2] = ["name", "value"];
const RESOURCES: [&str; 3] = ["requests", "limits", "cpuset"];
const PORT: [&str; 5] = ["name", "containerPort", "hostPort", "hostIP", "protocol"];
const MOUNT: [&str; 6] = ["path", "hostPath", "volume", "tmpfs", "readOnly", "create"];
const HOST_ALIAS: [&str; 2] = ["ip", "hostnames"];
const SYSCTL: [&str; 2] = ["name", "value"];
const ULIMIT: [&str; 3] = ["name", "soft", "hard"];
const SECURITY: [&str; 5] =
    ["runAsUser", "readOnlyRootFilesystem", "privileged", "capabilities", "securityOpt"];
const CAPABILITIES: [&str; 2] = ["add", "drop"];
const LOGS: [&str; 2] = ["maxSize", "keep"];
const PLACEMENT: [&str; 7] =
    ["nodes", "nodeSelector", "constraints", "preferences", "near", "tolerations", "onNodeLoss"];
const TOLERATION: [&str; 5] = ["key", "operator", "value", "effect", "tolerationSeconds"];
const PREFERENCE: [&str; 2] = ["weight", "constraint"];
const NEAR: [&str; 4] = ["partitionSet", "states", "job", "required"];
const ON_NODE_LOSS: [&str; 2] = ["action", "after"];

/// The canonical form of the spec of an object: two specs mean the same if these are equal.
pub fn spec(kind: KindId, spec: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(document) = spec.as_object_mut() else { return spec };
    kind.with_type(Simplify(document));
    spec
}

/// Brings the spec of one kind into its canonical form.
struct Simplify<'a>(&'a mut Document);

impl WithType for Simplify<'_> {
    type Output = ();

    fn of<K: Resource>(self) {
        K::simplify(self.0);
    }
}

/// A PartitionSet's spec.
pub(crate) fn partition_set(document: &mut Document) {
    leave_out(document, &[("replicas", json!(1)), ("mode", json!("Auto"))], &Map::new());
}

/// A Job's spec.
pub(crate) fn job_spec(document: &mut Document) {
    job(document, &Map::new());
}

/// How containers are started again.
pub fn restart(document: &mut Document) {
    let parts = [
        ("backoff", vec![("initial", json!("1s")), ("factor", json!(2)), ("max", json!("5m"))]),
        ("flapping", vec![("runs", json!(10)), ("within", json!("1m"))]),
    ];
    for (part, defaults) in parts {
        if let Some(own) = document.get_mut(part).and_then(Value::as_object_mut) {
            for field in ["initial", "max", "within"] {
                own.get_mut(field).into_iter().for_each(duration);
            }
            leave_out(own, &defaults, &Map::new());
        }
    }
    document.get_mut("rescheduleAfter").into_iter().for_each(duration);
    let defaults =
        [("backoff", json!({})), ("flapping", json!({})), ("rescheduleAfter", json!("5m"))];
    leave_out(document, &defaults, &Map::new());
    document.sort_keys();
}

/// A Service's spec.
pub(crate) fn service(document: &mut Document) {
    if let Some(own) = document.get_mut("template").and_then(Value::as_object_mut) {
        template(own, &Map::new());
    }
    if let Some(own) = document.get_mut("placement").and_then(Value::as_object_mut) {
        placement(own, &Map::new());
    }
    if let Some(own) = document.get_mut("restart").and_then(Value::as_object_mut) {
        restart(own);
    }
    let is_probed = document.get("template").is_some_and(|it| it.get("readinessProbe").is_some());
    if let Some(rollout) = document.get_mut("rollout").and_then(Value::as_object_mut) {
        rollout.get_mut("timeout").into_iter().for_each(duration);
        let canary = rollout.get_mut("canary").and_then(Value::as_object_mut);
        canary.and_then(|it| it.get_mut("promoteAfter")).into_iter().for_each(duration);
        let timeout = ROLLOUT_TIMEOUT.to_string();
        let defaults = [
            ("parallelism", json!(1)),
            ("batches", json!(false)),
            ("order", json!("StopFirst")),
            ("timeout", json!(timeout)),
            ("minReadySeconds", json!(min_ready_seconds(is_probed))),
            ("maxFailedTasks", json!(0)),
            ("onFailure", json!("Pause")),
            ("suspend", json!(false)),
        ];
        leave_out(rollout, &defaults, &Map::new());
    }
    let is_per_node = document.get("perNode") == Some(&json!(true));
    if !is_per_node {
        leave_out(document, &[("replicas", json!(1))], &Map::new());
    }
    let defaults = [
        ("perNode", json!(false)),
        ("placement", json!({})),
        ("restart", json!({})),
        ("priority", json!(0)),
        ("rollout", json!({})),
        ("suspend", json!(false)),
        ("revisionHistoryLimit", json!(HISTORY_OF_SERVICE)),
    ];
    leave_out(document, &defaults, &Map::new());
}

/// A Workflow's spec.
pub fn workflow(document: &mut Document) {
    let mut defaults = document.get("defaults").and_then(Value::as_object).cloned();
    if let Some(defaults) = &mut defaults {
        job(defaults, &Map::new());
        document.insert("defaults".to_owned(), Value::Object(defaults.clone()));
    }
    let under = defaults.unwrap_or_default();
    let jobs = document.get_mut("jobs").and_then(Value::as_array_mut);
    for wanted in jobs.into_iter().flatten().filter_map(Value::as_object_mut) {
        job(wanted, &under);
    }
    if let Some(history) = document.get_mut("history").and_then(Value::as_object_mut) {
        leave_out(
            history,
            &[("succeeded", json!(HISTORY)), ("failed", json!(HISTORY))],
            &Map::new(),
        );
    }
    let defaults = [
        ("runOnApply", json!(true)),
        ("maxFailedJobs", json!(0)),
        ("suspend", json!(false)),
        ("history", json!({})),
    ];
    leave_out(document, &defaults, &Map::new());
}

/// The spec of a Job, a workflow's job, or the defaults of a workflow. `under` holds the defaults
/// that apply where the document says nothing: a field that `under` sets is kept even if it has the
/// built-in default, because leaving it out would mean the value of `under`.
fn job(document: &mut Document, under: &Document) {
    if let Some(own) = document.get_mut("template").and_then(Value::as_object_mut) {
        template(own, &part(under, "template"));
    }
    if let Some(own) = document.get_mut("placement").and_then(Value::as_object_mut) {
        placement(own, &part(under, "placement"));
    }
    let tasks = document.get_mut("tasks").and_then(Value::as_array_mut);
    for task in tasks.into_iter().flatten() {
        if let Some(own) = task.get_mut("template").and_then(Value::as_object_mut) {
            template_part(own);
        }
        if let Some(own) = task.get_mut("placement").and_then(Value::as_object_mut) {
            placement(own, &PLACEMENT.iter().map(|it| ((*it).to_owned(), json!(1))).collect());
        }
    }
    if let Some(retry) = document.get_mut("retry").and_then(Value::as_object_mut) {
        let retry_under = part(under, "retry");
        if let Some(backoff) = retry.get_mut("backoff").and_then(Value::as_object_mut) {
            let defaults = [("initial", json!("10s")), ("factor", json!(2)), ("max", json!("5m"))];
            leave_out(backoff, &defaults, &part(&retry_under, "backoff"));
        }
        let defaults = [
            ("maxAttempts", json!(crate::job::MAX_ATTEMPTS)),
            ("backoff", json!({})),
            ("avoidFailedNodes", json!(true)),
            ("countDisruptions", json!(false)),
        ];
        leave_out(retry, &defaults, &retry_under);
    }
    let keep = crate::job::KEEP_TASKS.to_string();
    let defaults = [
        ("maxFailedTasks", json!(0)),
        ("priority", json!(0)),
        ("suspend", json!(false)),
        ("onChange", json!("Rerun")),
        ("keepTasks", json!(keep)),
    ];
    leave_out(document, &defaults, under);
    // An empty part changes nothing.
    for part in ["template", "placement", "retry"] {
        if document.get(part).and_then(Value::as_object).is_some_and(Map::is_empty) {
            document.shift_remove(part);
        }
    }
    if !["tasks", "items", "target"].iter().any(|way| document.contains_key(*way)) {
        leave_out(document, &[("count", json!(1))], under);
    }
}

/// What a listed task changes in its job's template. The job and the workflow may set any field
/// beneath it, so no field can be left out as a default.
pub fn template_part(document: &mut Document) {
    template(document, &TEMPLATE.iter().map(|it| ((*it).to_owned(), json!(1))).collect());
}

/// A template, or a partial one that is merged over `under`.
pub fn template(document: &mut Document, under: &Document) {
    let is_free = |field: &str| !under.contains_key(field);
    if let Some(resources) = document.get_mut("resources").and_then(Value::as_object_mut) {
        for list in RESOURCES {
            if let Some(map) = resources.get_mut(list).and_then(Value::as_object_mut) {
                map.values_mut().for_each(quantity);
                map.sort_keys();
            }
        }
        order(resources, &RESOURCES);
    }
    for entry in entries(document, "env") {
        order(entry, &ENV);
    }
    let free = is_free("ports");
    for entry in entries(document, "ports") {
        if free {
            leave_out(entry, &[("protocol", json!("TCP"))], &Map::new());
        }
        order(entry, &PORT);
    }
    let free = is_free("mounts");
    for entry in entries(document, "mounts") {
        if let Some(size) = entry.get_mut("tmpfs").and_then(|tmpfs| tmpfs.get_mut("size")) {
            quantity(size);
        }
        if free {
            let defaults = [("readOnly", json!(false)), ("create", json!(false))];
            leave_out(entry, &defaults, &Map::new());
        }
        order(entry, &MOUNT);
    }
    host_parts(document, under);
    if let Some(labels) = document.get_mut("labels").and_then(Value::as_object_mut) {
        labels.sort_keys();
    }
    for field in ProbeKind::ALL.map(ProbeKind::field) {
        let free = is_free(field);
        if let Some(own) = document.get_mut(field).and_then(Value::as_object_mut) {
            probes::probe(own, free);
        }
    }
    document.get_mut("drainDelay").into_iter().for_each(duration);
    let defaults = [
        ("imagePullPolicy", json!("IfNotPresent")),
        ("terminationGracePeriodSeconds", json!(GRACE_SECONDS)),
        ("drainDelay", json!("0s")),
        ("stopSignal", json!("SIGTERM")),
        ("networkMode", json!("bridge")),
        ("command", json!([])),
        ("args", json!([])),
        ("env", json!([])),
        ("ports", json!([])),
        ("mounts", json!([])),
        ("dns", json!([])),
        ("hostAliases", json!([])),
        ("hostPID", json!(false)),
        ("devices", json!([])),
        ("sysctls", json!([])),
        ("ulimits", json!([])),
        ("securityContext", json!({})),
        ("logs", json!({})),
        ("labels", json!({})),
    ];
    leave_out(document, &defaults, under);
    order(document, &TEMPLATE);
}

/// A map in a document; empty if it is not there.
fn part(document: &Document, field: &str) -> Document {
    document.get(field).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The parts of a template that say what a container has of its host.
fn host_parts(document: &mut Document, under: &Document) {
    for (list, fields) in
        [("hostAliases", &HOST_ALIAS[..]), ("sysctls", &SYSCTL[..]), ("ulimits", &ULIMIT[..])]
    {
        entries(document, list).for_each(|entry| order(entry, fields));
    }
    let below = part(under, "securityContext");
    if let Some(security) = document.get_mut("securityContext").and_then(Value::as_object_mut) {
        if let Some(own) = security.get_mut("capabilities").and_then(Value::as_object_mut) {
            let defaults = [("add", json!([])), ("drop", json!([]))];
            leave_out(own, &defaults, &part(&below, "capabilities"));
            order(own, &CAPABILITIES);
        }
        let defaults = [
            ("readOnlyRootFilesystem", json!(false)),
            ("privileged", json!(false)),
            ("capabilities", json!({})),
            ("securityOpt", json!([])),
        ];
        leave_out(security, &defaults, &below);
        order(security, &SECURITY);
    }
    if let Some(logs) = document.get_mut("logs").and_then(Value::as_object_mut) {
        logs.get_mut("maxSize").into_iter().for_each(quantity);
        logs.get_mut("keep").into_iter().for_each(duration);
        order(logs, &LOGS);
    }
}

/// A placement, or a partial one that is merged over `under`.
pub fn placement(document: &mut Document, under: &Document) {
    let constraints = document.get_mut("constraints").and_then(Value::as_array_mut);
    constraints.into_iter().flatten().for_each(constraint);
    for entry in entries(document, "preferences") {
        entry.get_mut("constraint").into_iter().for_each(constraint);
        order(entry, &PREFERENCE);
    }
    for entry in entries(document, "near") {
        leave_out(entry, &[("required", json!(false)), ("states", json!([]))], &Map::new());
        order(entry, &NEAR);
    }
    for entry in entries(document, "tolerations") {
        let defaults = [("key", json!("")), ("operator", json!("Equal")), ("value", json!(""))];
        leave_out(entry, &defaults, &Map::new());
        order(entry, &TOLERATION);
    }
    if let Some(labels) = document.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        labels.sort_keys();
    }
    let free = !under.contains_key("onNodeLoss");
    if let Some(loss) = document.get_mut("onNodeLoss").and_then(Value::as_object_mut) {
        loss.get_mut("after").into_iter().for_each(duration);
        let after = REPLACE_AFTER.to_string();
        let replaces = loss.get("action").is_none_or(|action| action == "Replace");
        if free && replaces && loss.get("after").is_none_or(|it| *it == after.as_str()) {
            loss.clear();
        }
        order(loss, &ON_NODE_LOSS);
    }
    let defaults = [
        ("nodes", json!([])),
        ("nodeSelector", json!({})),
        ("constraints", json!([])),
        ("preferences", json!([])),
        ("near", json!([])),
        ("tolerations", json!([])),
        ("onNodeLoss", json!({})),
    ];
    leave_out(document, &defaults, under);
    order(document, &PLACEMENT);
}

fn entries<'a>(document: &'a mut Document, list: &str) -> impl Iterator<Item = &'a mut Document> {
    let list = document.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Leaves out the fields that have their default value, unless `under` sets another one.
fn leave_out(document: &mut Document, defaults: &[(&str, Value)], under: &Document) {
    for (field, default) in defaults {
        if document.get(*field) == Some(default) && !under.contains_key(*field) {
            document.shift_remove(*field);
        }
    }
}

/// Sorts fields into the order of their type.
fn order(document: &mut Document, fields: &[&str]) {
    let mut ordered = Map::new();
    for field in fields {
        if let Some(value) = document.shift_remove(*field) {
            ordered.insert((*field).to_owned(), value);
        }
    }
    document.sort_keys();
    ordered.append(document);
    *document = ordered;
}

fn quantity(value: &mut Value) {
    if let Ok(quantity) = serde_json::from_value::<Quantity>(value.clone()) {
        *value = Value::String(quantity.usual());
    }
}

fn duration(value: &mut Value) {
    if let Some(Ok(duration)) = value.as_str().map(str::parse::<Duration>) {
        *value = Value::String(duration.to_string());
    }
}

fn constraint(value: &mut Value) {
    if let Some(Ok(constraint)) = value.as_str().map(str::parse::<Constraint>) {
        *value = Value::String(constraint.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    /// A field that is missing here would be sorted wrongly, or keep its default value, and change
    /// revisions.
    #[test]
    fn every_field_has_its_place() {
        let schema = schema::of(KindId::Job);
        // The schema of an optional part is either its own, or one of several alternatives.
        let fields = |path: &str| {
            let nested = path.replace("//", "/anyOf/0/");
            let found = schema.pointer(&path.replace("//", "/")).or(schema.pointer(&nested));
            let found = found.and_then(Value::as_object).unwrap_or_else(|| panic!("{path}"));
            let mut names: Vec<String> = found.keys().cloned().collect();
            names.sort();
            names
        };
        let template = "/properties/spec/properties/template/properties";
        let placement = "/properties/spec/properties/placement//properties";
        for (path, known) in [
            (template.to_owned(), &TEMPLATE[..]),
            (format!("{template}/env/items/properties"), &ENV[..]),
            (format!("{template}/resources/properties"), &RESOURCES[..]),
            (format!("{template}/ports/items/properties"), &PORT[..]),
            (format!("{template}/mounts/items/properties"), &MOUNT[..]),
            (format!("{template}/hostAliases/items/properties"), &HOST_ALIAS[..]),
            (format!("{template}/sysctls/items/properties"), &SYSCTL[..]),
            (format!("{template}/ulimits/items/properties"), &ULIMIT[..]),
            (format!("{template}/securityContext/properties"), &SECURITY[..]),
            (
                format!("{template}/securityContext/properties/capabilities/properties"),
                &CAPABILITIES[..],
            ),
            (format!("{template}/logs/properties"), &LOGS[..]),
            (format!("{template}/readinessProbe//properties"), &probes::PROBE[..]),
            (placement.to_owned(), &PLACEMENT[..]),
            (format!("{placement}/preferences/items/properties"), &PREFERENCE[..]),
            (format!("{placement}/near/items/properties"), &NEAR[..]),
            (format!("{placement}/tolerations/items/properties"), &TOLERATION[..]),
            (format!("{placement}/onNodeLoss//properties"), &ON_NODE_LOSS[..]),
        ] {
            let mut known: Vec<&str> = known.to_vec();
            known.sort_unstable();
            assert_eq!(fields(&path), known, "{path}");
        }
    }

    /// The default of `minReadySeconds` depends on the readiness probe.
    #[test]
    fn what_is_left_out_is_the_default_that_applies() {
        let service = |probe: Value, seconds: Value| {
            let mut template = json!({ "image": "x" });
            if !probe.is_null() {
                template["readinessProbe"] = probe;
            }
            let rollout = json!({ "minReadySeconds": seconds });
            spec(KindId::Service, &json!({ "template": template, "rollout": rollout }))
        };
        let probe = || json!({ "tcpSocket": { "port": 1 } });
        for (probe, seconds, is_default) in [
            (Value::Null, 5, true),
            (Value::Null, 0, false),
            (probe(), 5, false),
            (probe(), 0, true),
        ] {
            let document = service(probe.clone(), json!(seconds));
            assert_eq!(document.get("rollout").is_none(), is_default, "{probe} {seconds}");
        }
        let written = json!({
            "httpGet": { "scheme": "HTTP", "port": "80", "path": "/", "httpHeaders": [] },
            "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
        });
        let short = json!({ "httpGet": { "port": 80 } });
        assert_eq!(service(written, json!(0)).to_string(), service(short, json!(0)).to_string());
    }

    #[test]
    fn other_words_mean_the_same() {
        let job = |template: Value| spec(KindId::Job, &json!({ "template": template }));
        let one = job(json!({
            "image": "x",
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" } },
            "ports": [{ "name": "http" }],
        }));
        let other = job(json!({
            "ports": [{ "protocol": "TCP", "name": "http" }],
            "resources": { "requests": { "memory": "1024Mi", "cpu": "1000m" } },
            "imagePullPolicy": "IfNotPresent", "networkMode": "bridge",
            "terminationGracePeriodSeconds": 30,
            "image": "x",
        }));
        assert_eq!(one.to_string(), other.to_string());
        let placement = |placement: Value| spec(KindId::Job, &json!({ "placement": placement }));
        let one = placement(json!({ "constraints": ["zone in (a, b)", "gpu"] }));
        let other = placement(json!({
            "onNodeLoss": { "after": "10s", "action": "Replace" },
            "constraints": ["zone in (a,b)", "exists gpu"],
        }));
        assert_eq!(one.to_string(), other.to_string());
        let one = placement(json!({ "onNodeLoss": { "after": "1m" } }));
        let other = placement(json!({ "onNodeLoss": { "after": "60s" } }));
        assert_eq!(one.to_string(), other.to_string());
        let one = spec(KindId::Job, &json!({ "template": { "image": "x" }, "count": 1 }));
        assert_eq!(one, job(json!({ "image": "x" })));
    }

    #[test]
    fn what_something_under_it_says_otherwise_is_no_default() {
        let workflow = |defaults: Value, template: Value| {
            let jobs = json!([{ "name": "a", "template": template }]);
            spec(KindId::Workflow, &json!({ "defaults": defaults, "jobs": jobs }))
        };
        let always = json!({ "template": { "imagePullPolicy": "Always" } });
        let explicit = json!({ "image": "x", "imagePullPolicy": "IfNotPresent" });
        assert_ne!(
            workflow(always.clone(), explicit.clone()),
            workflow(always, json!({ "image": "x" }))
        );
        let none = json!({ "template": {} });
        assert_eq!(workflow(none.clone(), explicit), workflow(none, json!({ "image": "x" })));
        let parameters =
            json!({ "image": "x", "resources": { "limits": { "cpu": "$(params.x)" } } });
        let kept = workflow(json!({}), parameters);
        assert_eq!(kept["jobs"][0]["template"]["resources"]["limits"]["cpu"], "$(params.x)");
    }

    #[test]
    fn the_usual_form_stays_as_it_is() {
        let usual = json!({
            "image": "x", "args": ["a"], "env": [{ "name": "A", "value": "b" }],
            "resources": { "requests": { "cpu": "500m", "memory": "64Mi" }, "limits": { "memory": "1Gi" } },
            "ports": [{ "name": "http", "containerPort": 80 }],
            "mounts": [{ "path": "/data", "hostPath": "/data", "readOnly": true }],
            "labels": { "a": "b" },
        });
        let spec = json!({ "template": usual });
        assert_eq!(super::spec(KindId::Job, &spec).to_string(), spec.to_string());
    }
}
