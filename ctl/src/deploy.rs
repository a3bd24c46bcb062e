//! The Service that `hctl deploy` writes: what a user of Helios would have made with `create` and
//! `deploy`. Pure.

use api::duration::Duration;
use clap::Args as ClapArgs;
use serde_json::{Map, Value, json};

use crate::arguments;

/// Arguments of `deploy`.
#[derive(Debug, Clone, ClapArgs)]
#[command(override_usage = "hctl deploy IMAGE --name NAME --on CONSTRAINT [OPTIONS] [-- ARGS...]")]
#[command(group(clap::ArgGroup::new("where").required(true).multiple(true)
    .args(["on", "nodes", "replicas"])))]
pub struct Deploy {
    /// Image to run.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Name of the service.
    #[arg(long, value_parser = arguments::name)]
    pub name: String,
    /// Run a task on each node whose labels match, now and later: role=web, zone in (a, b). Given
    /// several times, all must match.
    #[arg(long, value_name = "CONSTRAINT")]
    pub on: Vec<String>,
    /// Run a task on this node; may be given several times.
    #[arg(long = "node", value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Number of tasks, wherever there is room, instead of one on each node.
    #[arg(long, value_name = "NUMBER")]
    pub replicas: Option<u32>,
    /// A port: the one that the program listens on, and the one of the node [default: one from the
    /// node's range]. The order is Helios's, not docker's.
    #[arg(short, long, value_name = "NAME=PORT[:NODE_PORT][/udp]", value_parser = port)]
    pub port: Vec<Value>,
    /// An environment variable.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = arguments::param)]
    pub env: Vec<(String, String)>,
    /// A folder of the node in the container.
    #[arg(long, value_name = "NODE_PATH:PATH[:ro]", value_parser = volume)]
    pub volume: Vec<Value>,
    /// Number of tasks that a new revision replaces at the same time.
    #[arg(long, value_name = "NUMBER")]
    pub parallelism: Option<u32>,
    /// Wait until the service is rolled out; fail if its rollout fails.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 90s or 1h30m [default: no limit].
    #[arg(long, requires = "wait", value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Change nothing: let the server validate it; with -o yaml or json, only print the manifest.
    #[arg(long)]
    pub dry_run: bool,
    /// Arguments of the program, after --.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
}

/// Parses `NAME=PORT[:NODE_PORT][/PROTOCOL]`.
fn port(text: &str) -> Result<Value, String> {
    let wrong = || "write NAME=PORT[:NODE_PORT][/udp], such as http=8080:80".to_owned();
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (numbers, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => None,
        "udp" => Some("UDP"),
        _ => return Err(wrong()),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|it| *it > 0).ok_or_else(wrong);
    let (inner, outer) = match numbers.split_once(':') {
        Some((inner, outer)) => (number(inner)?, Some(number(outer)?)),
        None => (number(numbers)?, None),
    };
    let mut port = json!({ "name": name, "containerPort": inner });
    if let Some(outer) = outer {
        port["hostPort"] = outer.into();
    }
    if let Some(protocol) = protocol {
        port["protocol"] = protocol.into();
    }
    Ok(port)
}

/// Parses `NODE_PATH:PATH[:ro|rw]`.
fn volume(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, mode) = match *parts.as_slice() {
        [source, path] => (source, path, "rw"),
        [source, path, mode @ ("ro" | "rw")] => (source, path, mode),
        _ => return Err("write NODE_PATH:PATH[:ro], such as /srv/data:/data:ro".to_owned()),
    };
    // A name is that of a Docker volume, as there.
    let kind = if source.starts_with('/') { "hostPath" } else { "volume" };
    let mut mount = json!({ "path": path, kind: source });
    if mode == "ro" {
        mount["readOnly"] = true.into();
    }
    Ok(mount)
}

/// The manifest.
pub fn manifest(args: &Deploy, namespace: &str) -> Value {
    let mut spec = Map::new();
    match args.replicas {
        Some(replicas) => spec.insert("replicas".to_owned(), replicas.into()),
        None => spec.insert("perNode".to_owned(), true.into()),
    };
    let mut placement = Map::new();
    if !args.nodes.is_empty() {
        placement.insert("nodes".to_owned(), json!(args.nodes));
    }
    if !args.on.is_empty() {
        placement.insert("constraints".to_owned(), json!(args.on));
    }
    if !placement.is_empty() {
        spec.insert("placement".to_owned(), Value::Object(placement));
    }
    if let Some(parallelism) = args.parallelism {
        spec.insert("rollout".to_owned(), json!({ "parallelism": parallelism }));
    }
    let mut template = Map::new();
    template.insert("image".to_owned(), json!(args.image));
    if !args.args.is_empty() {
        template.insert("args".to_owned(), json!(args.args));
    }
    let env = args.env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
    for (field, list) in [
        ("env", env.collect::<Vec<Value>>()),
        ("ports", args.port.clone()),
        ("mounts", args.volume.clone()),
    ] {
        if !list.is_empty() {
            template.insert(field.to_owned(), list.into());
        }
    }
    spec.insert("template".to_owned(), Value::Object(template));
    json!({
        "apiVersion": "heliox.dev/v1", "kind": "Service",
        "metadata": { "name": args.name, "namespace": namespace }, "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use expect_test::expect;

    use crate::args::{Args, Command};
    use crate::document;

    fn written(line: &str) -> String {
        let words = std::iter::once("hctl").chain(line.split_whitespace());
        match Args::try_parse_from(words) {
            Ok(Args { command: Command::Deploy(args), .. }) => {
                document::yaml(&super::manifest(&args, "default")).unwrap()
            }
            Ok(_) => unreachable!("it is a deploy"),
            Err(error) => format!("{}\n", error.to_string().lines().next().unwrap_or_default()),
        }
    }

    #[test]
    fn a_deploy_writes_a_service_that_says_the_same() {
        let lines = [
            "deploy nginx:1 --name web --on role=web --port http=8080:80 --port dns=53/udp \
             --env MODE=fast --volume /srv:/data:ro --volume cache:/cache -- -g x",
            "deploy app --name api --replicas 3 --parallelism 2",
            "deploy app --name api --node n1 --node n2",
            "deploy app --name api",
            "deploy app --name api --on a=b --port 80",
            "deploy app --name api --on a=b --volume /data",
        ];
        let text: String = lines.iter().map(|line| written(line)).collect();
        expect![[r#"
            apiVersion: heliox.dev/v1
            kind: Service
            metadata:
              name: web
              namespace: default
            spec:
              perNode: true
              placement:
                constraints:
                - role=web
              template:
                image: nginx:1
                args:
                - -g
                - x
                env:
                - name: MODE
                  value: fast
                ports:
                - name: http
                  containerPort: 8080
                  hostPort: 80
                - name: dns
                  containerPort: 53
                  protocol: UDP
                mounts:
                - path: /data
                  hostPath: /srv
                  readOnly: true
                - path: /cache
                  volume: cache
            apiVersion: heliox.dev/v1
            kind: Service
            metadata:
              name: api
              namespace: default
            spec:
              replicas: 3
              rollout:
                parallelism: 2
              template:
                image: app
            apiVersion: heliox.dev/v1
            kind: Service
            metadata:
              name: api
              namespace: default
            spec:
              perNode: true
              placement:
                nodes:
                - n1
                - n2
              template:
                image: app
            error: the following required arguments were not provided:
            error: invalid value '80' for '--port <NAME=PORT[:NODE_PORT][/udp]>': write NAME=PORT[:NODE_PORT][/udp], such as http=8080:80
            error: invalid value '/data' for '--volume <NODE_PATH:PATH[:ro]>': write NODE_PATH:PATH[:ro], such as /srv/data:/data:ro
        "#]].assert_eq(&text);
    }
}
