//! Every field of a template reaches the Docker Engine: what it shows of a container is compared with
//! what the template said, and a field of the schema that nothing here looks at is a failure.

use std::collections::{BTreeMap, BTreeSet};

use api::task_template::TaskTemplateSpec;
use api::{KindId, Task};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::RemoveVolumeOptions;
use node_agent::engine::conformance::{Bench as _, hold, identity};
use node_agent::engine::docker::{self, create_body};
use node_agent::engine::{ContainerSpec, Scope};
use node_agent::resolve::{Given, HostInfo, container_spec, merged};
use serde_json::{Value, json};

use crate::docker::{DockerBench, IMAGE, SOCKET, bench, inspect};

/// Where the engine shows a field, and what.
enum Shown {
    /// Exactly this.
    Is(&'static str, Value),
    /// A list with this in it.
    Has(&'static str, Value),
}

use Shown::{Has, Is};

const NO_OPTIONS: Option<RemoveVolumeOptions> = None;

/// Fields that the agent or the scheduler acts on: the engine is told nothing of them.
const NOT_THE_ENGINES: [&str; 5] =
    ["imagePullPolicy", "startupProbe", "readinessProbe", "livenessProbe", "drainDelay"];

/// Every other field of the schema, with a template that sets it. A template has several, but no two
/// that exclude each other.
fn templates(dir: &str, free_port: u16) -> Vec<(Value, Vec<(&'static str, Shown)>)> {
    vec![network(free_port), isolation(), resources(dir), privileged()]
}

fn network(port: u16) -> (Value, Vec<(&'static str, Shown)>) {
    let template = json!({
        "command": ["sleep"], "args": ["1000"], "workingDir": "/tmp",
        "env": [{ "name": "MODE", "value": "fast" }],
        "hostname": "web-$(task.index)", "dns": ["10.0.0.53"], "networkMode": "bridge",
        "hostAliases": [{ "ip": "10.0.0.1", "hostnames": ["db", "cache"] }],
        "ports": [
            { "name": "http", "containerPort": 80, "hostPort": port, "hostIP": "127.0.0.2" },
            { "name": "dns", "containerPort": 80, "hostPort": port, "protocol": "UDP" },
        ],
        "labels": { "app": "web" }, "stopSignal": "SIGINT", "terminationGracePeriodSeconds": 7,
        "logs": { "maxSize": "8Mi", "keep": "1h" },
    });
    let bound = |ip: &str| json!([{ "HostIp": ip, "HostPort": port.to_string() }]);
    let shown = vec![
        ("image", Is("/Config/Image", json!(IMAGE))),
        ("command", Is("/Config/Entrypoint", json!(["sleep"]))),
        ("args", Is("/Config/Cmd", json!(["1000"]))),
        ("workingDir", Is("/Config/WorkingDir", json!("/tmp"))),
        ("env[].name", Has("/Config/Env", json!("MODE=fast"))),
        ("env[].value", Has("/Config/Env", json!("MODE=fast"))),
        ("hostname", Is("/Config/Hostname", json!("web-0"))),
        ("dns", Is("/HostConfig/Dns", json!(["10.0.0.53"]))),
        ("networkMode", Is("/HostConfig/NetworkMode", json!("bridge"))),
        ("hostAliases[].ip", Has("/HostConfig/ExtraHosts", json!("db:10.0.0.1"))),
        ("hostAliases[].hostnames", Has("/HostConfig/ExtraHosts", json!("cache:10.0.0.1"))),
        ("ports[].name", Has("/Config/Env", json!("HELIOX_PORT_HTTP=80"))),
        ("ports[].containerPort", Is("/HostConfig/PortBindings/80~1tcp", bound("127.0.0.2"))),
        ("ports[].hostPort", Is("/NetworkSettings/Ports/80~1tcp", bound("127.0.0.2"))),
        ("ports[].hostIP", Is("/NetworkSettings/Ports/80~1tcp", bound("127.0.0.2"))),
        // The same number with the other protocol, at the node's default address.
        ("ports[].protocol", Is("/NetworkSettings/Ports/80~1udp", bound("127.0.0.1"))),
        ("labels", Is("/Config/Labels/app", json!("web"))),
        ("stopSignal", Is("/Config/StopSignal", json!("SIGINT"))),
        ("terminationGracePeriodSeconds", Is("/Config/StopTimeout", json!(7))),
        ("logs.maxSize", Is("/HostConfig/LogConfig/Config/max-size", json!("1048576"))),
        ("logs.keep", Is("/Config/Labels/heliox.dev~1log-keep", json!("3600"))),
    ];
    (template, shown)
}

fn isolation() -> (Value, Vec<(&'static str, Shown)>) {
    let template = json!({
        "command": ["sleep", "1000"],
        // The name that the engine itself has for its usual runtime beside `runc`.
        "runtime": "io.containerd.runc.v2",
        "devices": ["/dev/null:/dev/nothing:r"],
        "sysctls": [{ "name": "net.core.somaxconn", "value": "1000" }],
        "ulimits": [{ "name": "nofile", "soft": 100, "hard": 200 }, { "name": "core", "soft": 0 }],
        "securityContext": {
            "runAsUser": 1000, "readOnlyRootFilesystem": true,
            "capabilities": { "add": ["NET_RAW"], "drop": ["ALL"] },
            "securityOpt": ["no-new-privileges"],
        },
    });
    let device = json!({
        "PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r",
    });
    let limit =
        |name: &str, soft: i64, hard: i64| json!({ "Name": name, "Soft": soft, "Hard": hard });
    let sysctl = || Is("/HostConfig/Sysctls", json!({ "net.core.somaxconn": "1000" }));
    let shown = vec![
        ("runtime", Is("/HostConfig/Runtime", json!("io.containerd.runc.v2"))),
        ("devices", Is("/HostConfig/Devices", json!([device]))),
        ("sysctls[].name", sysctl()),
        ("sysctls[].value", sysctl()),
        ("ulimits[].name", Has("/HostConfig/Ulimits", limit("nofile", 100, 200))),
        ("ulimits[].soft", Has("/HostConfig/Ulimits", limit("core", 0, 0))),
        ("ulimits[].hard", Has("/HostConfig/Ulimits", limit("nofile", 100, 200))),
        ("securityContext.runAsUser", Is("/Config/User", json!("1000"))),
        ("securityContext.readOnlyRootFilesystem", Is("/HostConfig/ReadonlyRootfs", json!(true))),
        ("securityContext.capabilities.add", Is("/HostConfig/CapAdd", json!(["NET_RAW"]))),
        ("securityContext.capabilities.drop", Is("/HostConfig/CapDrop", json!(["ALL"]))),
        (
            "securityContext.securityOpt",
            Is("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ),
    ];
    (template, shown)
}

fn resources(dir: &str) -> (Value, Vec<(&'static str, Shown)>) {
    let created = format!("{dir}/created");
    let template = json!({
        "command": ["sleep", "1000"],
        "resources": {
            "requests": { "cpu": "500m" },
            "limits": { "cpu": 2, "memory": "64Mi", "memory-swap": "128Mi", "pids": 50 },
            "cpuset": "0",
        },
        "mounts": [
            { "path": "/data", "hostPath": dir, "readOnly": true },
            { "path": "/new", "hostPath": created, "create": true },
            { "path": "/cache", "volume": "heliox-test-fields" },
            { "path": "/scratch", "tmpfs": { "size": "16Mi" } },
        ],
    });
    let bind = json!({ "Type": "bind", "Source": dir, "Target": "/data", "ReadOnly": true });
    let tmpfs = json!({
        "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 16 << 20 },
    });
    let volume = json!({ "Type": "volume", "Source": "heliox-test-fields", "Target": "/cache" });
    let mounts = || "/HostConfig/Mounts";
    let shown = vec![
        ("resources.requests", Is("/HostConfig/CpuShares", json!(512))),
        ("resources.limits", Is("/HostConfig/NanoCpus", json!(2_000_000_000_i64))),
        ("resources.limits", Is("/HostConfig/Memory", json!(64 << 20))),
        ("resources.limits", Is("/HostConfig/MemorySwap", json!(128 << 20))),
        ("resources.limits", Is("/HostConfig/PidsLimit", json!(50))),
        ("resources.cpuset", Is("/HostConfig/CpusetCpus", json!("0"))),
        ("mounts[].path", Has(mounts(), bind.clone())),
        ("mounts[].hostPath", Has(mounts(), bind.clone())),
        ("mounts[].readOnly", Has(mounts(), bind)),
        ("mounts[].create", Has("/HostConfig/Binds", json!(format!("{created}:/new:rw")))),
        ("mounts[].volume", Has(mounts(), volume)),
        ("mounts[].tmpfs.size", Has(mounts(), tmpfs)),
    ];
    (template, shown)
}

fn privileged() -> (Value, Vec<(&'static str, Shown)>) {
    let template = json!({
        "command": ["sleep", "1000"], "networkMode": "host", "hostname": "own", "hostPID": true,
        "securityContext": { "privileged": true },
    });
    let shown = vec![
        ("hostPID", Is("/HostConfig/PidMode", json!("host"))),
        ("hostname", Is("/Config/Hostname", json!("own"))),
        ("securityContext.privileged", Is("/HostConfig/Privileged", json!(true))),
    ];
    (template, shown)
}

/// The paths of all fields below a schema.
fn fields(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let of_several = schema["anyOf"].as_array().into_iter().flatten();
    let schema = of_several.chain([schema]).find(|it| it["properties"].is_object());
    let Some(properties) = schema.and_then(|schema| schema["properties"].as_object()) else {
        found.insert(path.to_owned());
        return;
    };
    for (name, below) in properties {
        let name = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match below.get("items").filter(|items| items["properties"].is_object()) {
            Some(items) => fields(items, &format!("{name}[]"), found),
            None => fields(below, &name, found),
        }
    }
}

fn spec_of(template: &Value) -> ContainerSpec {
    let task = json!({ "metadata": { "name": "a-0" }, "spec": { "template": "a" } });
    let task: Task = serde_json::from_value(task).unwrap();
    let owner = json!({ "kind": "Job", "name": "a" });
    let whole = json!({ "owner": owner, "template": template });
    let whole: TaskTemplateSpec = serde_json::from_value(whole).unwrap();
    let merged = merged(&task, &whole).unwrap();
    let ports = whole.template.ports.iter();
    let ports: BTreeMap<String, u16> =
        ports.filter_map(|port| Some((port.name.clone(), port.host_port?))).collect();
    let host = HostInfo { node: "a", address: "127.0.0.1", own_network: true };
    let given = Given { ports: &ports, gpus: &[1, 3], digest: None };
    let mut spec =
        container_spec(&identity("fields"), (&task, &whole), &merged, given, &host).unwrap();
    if merged.gpus() == 0 {
        spec.host.gpus.clear();
    }
    spec
}

fn problem(inspected: &Value, shown: &Shown) -> Option<String> {
    let (place, is_right) = match shown {
        Is(place, wanted) => (place, inspected.pointer(place) == Some(wanted)),
        Has(place, wanted) => {
            let list = inspected.pointer(place).and_then(Value::as_array);
            (place, list.is_some_and(|list| list.contains(wanted)))
        }
    };
    let seen = inspected.pointer(place).cloned().unwrap_or_default();
    (!is_right).then(|| format!("{place} is {seen}"))
}

/// What the engine shows of such a container. A privileged one is not started: not every machine that
/// runs tests allows that.
async fn shown_of(bench: &DockerBench, spec: &ContainerSpec) -> ContainerInspectResponse {
    if spec.host.security.privileged {
        return shown_of_created(spec).await;
    }
    let engine = bench.engine("a").await;
    engine.create_and_start(spec).await.unwrap();
    let shown = inspect(bench, "a", spec).await;
    engine.remove(&spec.identity).await.unwrap();
    shown
}

/// What the engine shows of a container that it is asked for as it would be asked by an agent.
async fn shown_of_created(spec: &ContainerSpec) -> ContainerInspectResponse {
    let docker = docker::connect(SOCKET).await.unwrap();
    let body = create_body(spec, &Scope::new("not-started", "a").unwrap(), None);
    let id = docker.create_container(None, body).await.unwrap().id;
    let shown = docker.inspect_container(&id, None).await.unwrap();
    docker.remove_container(&id, None).await.unwrap();
    shown
}

#[tokio::test]
async fn every_field_of_a_template_is_what_the_engine_shows() {
    hold(bench().await, async |bench| {
        let dir = tempfile::tempdir().unwrap();
        let port = base::reserved_port().unwrap();
        let (mut looked_at, mut wrong) = (BTreeSet::new(), Vec::new());
        for (mut template, shown) in templates(dir.path().to_str().unwrap(), port) {
            template["image"] = json!(IMAGE);
            let inspected = shown_of(bench, &spec_of(&template)).await;
            let inspected = serde_json::to_value(inspected).unwrap();
            for (field, shown) in shown {
                looked_at.insert(field.to_owned());
                wrong.extend(problem(&inspected, &shown).map(|why| format!("{field}: {why}")));
            }
        }
        let volume = docker::connect(SOCKET).await.unwrap();
        volume
            .remove_volume("heliox-test-fields", NO_OPTIONS)
            .await
            .expect("a volume outlives its task");
        assert_eq!(wrong, Vec::<String>::new());
        let mut all = BTreeSet::new();
        fields(
            &api::schema::of(KindId::Job)["properties"]["spec"]["properties"]["template"],
            "",
            &mut all,
        );
        all.retain(|field| !NOT_THE_ENGINES.iter().any(|name| field.starts_with(name)));
        assert_eq!(looked_at, all, "each field has its row here");
    })
    .await;
}

/// No engine of a test has graphics processors: what is asked for is created, and not started.
#[tokio::test]
async fn graphics_processors_are_asked_for_by_their_numbers() {
    let template = json!({
        "image": IMAGE, "command": ["true"], "resources": { "limits": { "gpu": 2 } },
    });
    hold(bench().await, async |bench| {
        let inspected = shown_of_created(&spec_of(&template)).await;
        let asked = inspected.host_config.unwrap().device_requests.unwrap();
        let asked: Vec<_> = asked.into_iter().map(|it| (it.device_ids, it.capabilities)).collect();
        let ids = ["1", "3"].map(str::to_owned).to_vec();
        assert_eq!(asked, [(Some(ids), Some(vec![vec!["gpu".to_owned()]]))]);
        // An engine without them says what it lacks, and leaves nothing behind.
        let engine = bench.engine("a").await;
        let why = engine.create_and_start(&spec_of(&template)).await.unwrap_err().to_string();
        assert!(why.contains("install the NVIDIA container toolkit"), "{why}");
        assert!(engine.list().await.unwrap().is_empty());
    })
    .await;
}
