//! Each number's range is told at once, and what is mistyped hides no rule.

use api::{KindId, schema};
use serde_json::{Value, json};

fn said(kind: KindId, document: &Value) -> Vec<String> {
    schema::check_document(kind, document).iter().map(ToString::to_string).collect()
}

/// A document with this value at this place.
fn with(kind: KindId, path: &str, value: &Value) -> Value {
    let mut document = if kind == KindId::PartitionSet {
        let spec = json!({ "stateModel": "OnlineOffline", "mode": "Manual", "partitions": 1 });
        json!({ "spec": spec })
    } else {
        json!({ "spec": {
            "template": {
                "image": "x", "ports": [{ "name": "a", "containerPort": 1 }],
                "readinessProbe": { "tcpSocket": { "port": 1 } },
            },
            "placement": { "preferences": [{ "weight": 1, "constraint": "!gpu" }] },
            "retry": { "backoff": {}, "rules": [{ "exitCodes": [1], "action": "Retry" }] },
        } })
    };
    document["apiVersion"] = json!("heliox.dev/v1");
    document["kind"] = json!(kind.info().kind);
    document["metadata"] = json!({ "name": "a" });
    let steps = api::path::steps(path);
    let (last, above) = steps.split_last().unwrap();
    let inner = api::path::find_mut(&mut document, above).unwrap();
    match last {
        api::path::Step::Field(field) => inner[field.as_str()] = value.clone(),
        api::path::Step::Index(index) => inner[*index] = value.clone(),
    }
    document
}

/// What is told of a number far outside is what the rule of the field says of one just outside.
#[test]
fn the_range_that_is_told_is_the_one_that_holds() {
    let job = KindId::Job;
    let fields: [(KindId, &str, i64, Option<i64>); 15] = [
        (job, "spec.count", 0, Some(10_000_000)),
        (job, "spec.maxPerNode", 1, None),
        (job, "spec.template.ports[0].containerPort", 1, Some(65_535)),
        (job, "spec.template.ports[0].hostPort", 1, Some(65_535)),
        (job, "spec.template.readinessProbe.tcpSocket.port", 1, Some(65_535)),
        (job, "spec.template.readinessProbe.initialDelaySeconds", 0, Some(86_400)),
        (job, "spec.template.readinessProbe.periodSeconds", 1, Some(86_400)),
        (job, "spec.template.readinessProbe.timeoutSeconds", 1, Some(86_400)),
        (job, "spec.template.readinessProbe.failureThreshold", 1, Some(100_000)),
        (job, "spec.placement.preferences[0].weight", 1, Some(100)),
        (job, "spec.retry.maxAttempts", 1, None),
        (job, "spec.retry.backoff.factor", 1, None),
        (job, "spec.retry.rules[0].exitCodes[0]", 1, Some(255)),
        (KindId::PartitionSet, "spec.partitions", 1, Some(10_000)),
        (KindId::PartitionSet, "spec.replicas", 1, Some(1_000)),
    ];
    for (kind, path, least, most) in fields {
        let of = |value: Value| -> Vec<String> {
            let found = said(kind, &with(kind, path, &value)).into_iter();
            found.filter(|it| it.starts_with(&format!("{path}: "))).collect()
        };
        let range = match most {
            Some(most) => format!("from {least} to {most}"),
            None => format!("of at least {least}"),
        };
        let not_whole = format!("{path}: 0.5 is not a whole number {range}");
        assert_eq!(of(json!(0.5)), [not_whole]);
        let far = of(json!(-3_000_000_000_i64));
        assert_eq!(far, [format!("{path}: -3000000000 is not a whole number {range}")]);
        assert_eq!(of(json!(least - 1)).len(), 1, "{path}: {}", least - 1);
        assert_eq!(of(json!(least)), Vec::<String>::new(), "{path}: {least}");
        if let Some(most) = most {
            assert_eq!(of(json!(most)), Vec::<String>::new(), "{path}: {most}");
            assert_eq!(of(json!(most + 1)).len(), 1, "{path}: {}", most + 1);
            let far = of(json!(90_000_000_000_i64));
            assert_eq!(far, [format!("{path}: 90000000000 is not a whole number {range}")]);
        }
    }
}

#[test]
fn what_is_mistyped_hides_no_rule() {
    let retry = json!({
        "maxAttempts": 0,
        "backoff": { "initial": 10, "factor": 0.5 },
        "rules": [
            { "exitCodes": [0, 300], "action": "retry" },
            { "action": "Retry" },
            { "reasons": ["OOM"], "action": "FailJob" },
        ],
    });
    let found = said(KindId::Job, &with(KindId::Job, "spec.retry", &retry)).join("\n");
    expect_test::expect![[r#"
        spec.retry.backoff.initial: expected text, found a number (write its unit, for example 10s)
        spec.retry.backoff.factor: 0.5 is not a whole number of at least 1
        spec.retry.rules[0].action: "retry" is not one of Retry, FailTask, FailJob, Ignore (did you mean Retry?)
        spec.retry.maxAttempts: 0 would let nothing run (write 1 for no second attempt)
        spec.retry.rules[0].exitCodes[0]: 0 is success and needs no rule
        spec.retry.rules[0].exitCodes[1]: 300 is not an exit code: they are 1 to 255
        spec.retry.rules[1]: one of exitCodes and reasons is required
        spec.retry.rules[2].reasons[0]: "OOM" is not a reason for a failed attempt (write one of OOMKilled, Timeout, ImagePull, CannotRun, MountFailed, PortTaken, NameTaken, InvalidContainer, Refused, StartFailed, Unhealthy, NodeLost, Preempted, Drained, Signal, ContainerGone, Restored)"#]].assert_eq(&found);
}

#[test]
fn what_is_empty_or_not_quoted_is_told_what_to_write() {
    let of =
        |path: &str, value: Value| said(KindId::Job, &with(KindId::Job, path, &value)).join("\n");
    let found = [
        of("spec.template.image", Value::Null),
        of("spec.template.workingDir", Value::Null),
        of("spec.template.command", json!(["sh", null])),
        of("spec.template.command", json!(["sh", "-c", { "echo a": "b" }])),
        of("spec.template.command", json!(["sh", "-c", { "echo a": null }])),
        of("spec.template.command", json!(["sh", { "if": "true", "then": "false" }])),
        of("spec.timeout", json!("30 seconds")),
        of("spec.timeout", json!("1d")),
    ];
    expect_test::expect![[r#"
        spec.template.image: expected text, found nothing (it is required: write its value)

        spec.template.command[1]: expected text, found nothing (remove the entry, or write its value)
        spec.template.command[2]: expected text, found a map (quote it: "echo a: b")
        spec.template.command[2]: expected text, found a map (quote it: "echo a:")
        spec.template.command[1]: expected text, found a map
        spec.timeout: "30 seconds" is not a duration (write 30s)
        spec.timeout: "1d" is not a duration (write 24h)"#]].assert_eq(&found.join("\n"));
}
