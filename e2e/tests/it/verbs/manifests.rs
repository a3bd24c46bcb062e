//! Manifests that the session of verbs applies after the first one.

use e2e::dev::Dev;

/// Manifests that change something, or nothing, of what was applied.
pub(super) fn write(dev: &Dev) {
    let job = |name: &str, metadata: &str, spec: &str| {
        format!(
            "apiVersion: heliox.dev/v1\nkind: Job\nmetadata: {{name: {name}{metadata}}}\nspec: {spec}\n"
        )
    };
    let good = r#"template: {image: busybox, command: [sh, -c, "echo out; echo more"]}"#;
    let reworded = format!("{{count: 1, priority: 0, keepTasks: 1440m, {good}}}");
    let large = "x".repeat(400_000);
    let large = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{a: {large}, b: {large}}}\n"
    );
    let changed = "{template: {image: busybox, command: [echo, again]}}";
    let web = |args: &str| {
        format!(
            "apiVersion: heliox.dev/v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{replicas: 1, \
             rollout: {{minReadySeconds: 0}}, template: {{image: busybox, command: [sleep, {args}], \
             terminationGracePeriodSeconds: 1}}}}\n"
        )
    };
    for (file, text) in [
        ("web-2.yaml", web("\"700\"")),
        ("web-3.yaml", web("\"800\"")),
        ("reworded.yaml", job("good", "", &reworded)),
        ("labelled.yaml", job("good", ", labels: {app: web}", &format!("{{{good}}}"))),
        ("changed.yaml", job("long", "", changed)),
        ("large.yaml", large),
    ] {
        std::fs::write(dev.dir().join(file), text).unwrap();
    }
}
