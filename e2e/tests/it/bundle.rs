//! What a user sends with the report of a bug.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use e2e::fleet::program;
use heliox::control_plane::{self, Common};
use heliox::serve;
use store::Simulated;
use tokio::net::TcpListener;
use tokio::process::Command;

/// `HUSH` stands in all that only its owner may know.
const MANIFEST: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: HUSH-secret}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, annotations: {note: HUSH-annotation}}
data: {file: HUSH-config}
---
apiVersion: heliox.dev/v1
kind: Workflow
metadata: {name: w}
spec:
  params: [{name: p, default: HUSH-default}]
  jobs:
    - name: j
      items: [{table: HUSH-item}]
      template:
        image: busybox
        command: [HUSH-command]
        args: ['HUSH-argument', '$(params.p)', '$(item.table)']
        env: [{name: SEEN_NAME, value: HUSH-value}]
        labels: {seen: seen-label}
";

async fn server(tasks: &Tasks) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let common = Common::of_machine().unwrap();
    let parts = (Arc::new(Simulated::new()) as Arc<dyn store::Store>, None);
    let plane = control_plane::start(parts, &common, tasks).await.unwrap();
    tasks.spawn_part("http", serve::serve(listener, plane.router, tasks.spawner()));
    url
}

async fn hctl(url: &str, arguments: &[&str]) -> String {
    let output = Command::new(program("hctl"))
        .args(["--server", url])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hctl {arguments:?}: {errors}");
    format!("{}{errors}", String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_bundle_tells_how_things_stand_and_no_secret() {
    let (tasks, dir) = (Tasks::new("bundle"), tempfile::tempdir().unwrap());
    let url = server(&tasks).await;
    let manifest = dir.path().join("all.yaml");
    std::fs::write(&manifest, MANIFEST).unwrap();
    hctl(&url, &["apply", "-f", manifest.to_str().unwrap()]).await;
    hctl(&url, &["run", "w", "--name", "r", "-p", "p=HUSH-param"]).await;
    // The task is made: its template and item are in the cluster, too.
    while !hctl(&url, &["get", "tasks", "-o", "name"]).await.contains("r-j-0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let file = dir.path().join("b.tar.gz");
    let said = hctl(&url, &["debug", "bundle", "-f", file.to_str().unwrap()]).await;
    assert!(said.contains("Review the archive before you send it"), "{said}");
    let archive = std::fs::File::open(&file).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert!(!text.contains("HUSH"), "{name}: {text}");
        files.insert(name, text);
    }
    for (name, seen) in [
        ("version.json", "gitVersion"),
        ("readyz.txt", "ok"),
        ("metrics.txt", "heliox_apiserver_requests_total"),
        ("cluster.json", "confirmed"),
        ("namespaces.json", "default"),
        ("leases.json", "controllers"),
        ("workflowruns.json", "\"name\": \"r\""),
        ("jobs.json", "r-j"),
        ("tasktemplates.json", "SEEN_NAME"),
        ("tasktemplates.json", "seen-label"),
        ("tasks.json", "r-j-0"),
        ("nodes.json", "[]"),
    ] {
        assert!(files[name].contains(seen), "{name} has no {seen}: {}", files[name]);
    }
    for absent in ["secrets.json", "configmaps.json"] {
        assert!(!files.contains_key(absent), "{absent}");
    }
}
