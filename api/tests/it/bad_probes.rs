//! Probes that are refused, and what other systems call theirs.

use expect_test::expect;

use crate::bad_manifests::{check, job};

#[test]
fn probes_that_could_never_be_made_are_refused() {
    check(
        &job(r#"    ports: [{name: http}, {name: dns, protocol: UDP}]
    startupProbe: {exec: {}, successThreshold: 2, failureThreshold: 0}
    readinessProbe: {httpGet: {port: htp, path: up, httpHeaders: [{name: "a b"}]}, tcpSocket: {port: 0}}
    livenessProbe: {periodSeconds: 86401}
    drainDelay: 2h
"#),
        expect![[r#"
            a.yaml:8:20: spec.template.startupProbe.exec.command: a command is required
            a.yaml:8:30: spec.template.startupProbe.successThreshold: must be 1 for a startup probe
              hint: leave it out
            a.yaml:8:51: spec.template.startupProbe.failureThreshold: 0 is not a number from 1 to 100000
            a.yaml:9:5: spec.template.readinessProbe: only one of httpGet, tcpSocket and exec is allowed
            a.yaml:9:32: spec.template.readinessProbe.httpGet.port: "htp" is not one of the ports
              hint: did you mean http?
            a.yaml:9:43: spec.template.readinessProbe.httpGet.path: "up" does not begin with '/'
            a.yaml:9:68: spec.template.readinessProbe.httpGet.httpHeaders[0].name: "a b" is not the name of a header
            a.yaml:9:96: spec.template.readinessProbe.tcpSocket.port: a port is a number from 1 to 65535, or the name of a port
            a.yaml:10:5: spec.template.livenessProbe: one of httpGet, tcpSocket and exec is required
            a.yaml:10:21: spec.template.livenessProbe.periodSeconds: 86401 is not a number from 1 to 86400
            a.yaml:11:5: spec.template.drainDelay: 2h: at most 1h is allowed
        "#]],
    );
    check(
        &job(r#"    ports: [{name: dns, protocol: UDP}]
    networkMode: none
    startupProbe: {tcpSocket: {port: dns, host: "a b"}}
    readinessProbe: {tcpSocket: {port: 80}, interval: 5s, retries: 3}
    livenessProbe: {httpGet: {port: $(ports.dns), scheme: HTTPS, headers: {}}, grpc: {port: 1}}
    healthcheck: {test: [CMD, x]}
    healthCheck: {}
"#),
        expect![[r#"
            a.yaml:7:5: spec.template.ports: a container with networkMode none has no ports of its own
            a.yaml:9:32: spec.template.startupProbe.tcpSocket.port: port "dns" is a UDP port, which cannot be probed
            a.yaml:9:43: spec.template.startupProbe.tcpSocket.host: "a b" is not a host name or an IP address
            a.yaml:10:22: spec.template.readinessProbe.tcpSocket: a container with networkMode none cannot be reached
              hint: use exec
            a.yaml:10:45: spec.template.readinessProbe.interval: unknown field
              hint: write periodSeconds
            a.yaml:10:59: spec.template.readinessProbe.retries: unknown field
              hint: write failureThreshold
            a.yaml:11:31: spec.template.livenessProbe.httpGet.port: a port cannot contain $(...)
              hint: write the name of the port
            a.yaml:11:51: spec.template.livenessProbe.httpGet.scheme: HTTPS is not supported yet
              hint: write one of HTTP
            a.yaml:11:66: spec.template.livenessProbe.httpGet.headers: unknown field
              hint: write httpHeaders: [{name: NAME, value: VALUE}]
            a.yaml:11:80: spec.template.livenessProbe.grpc: not supported yet
            a.yaml:12:5: spec.template.healthcheck: unknown field
              hint: write livenessProbe: {exec: {command: [...]}}, or readinessProbe
            a.yaml:13:5: spec.template.healthCheck: unknown field
              hint: write readinessProbe, which decides whether the task is ready
        "#]],
    );
}
