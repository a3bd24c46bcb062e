//! The canonical form of a probe.

use serde_json::{Map, Value, json};

use super::{Document, entries, leave_out, order};
use crate::template::probe;

pub(super) const PROBE: [&str; 8] = [
    "httpGet",
    "tcpSocket",
    "exec",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];
const HTTP_GET: [&str; 5] = ["path", "port", "host", "scheme", "httpHeaders"];
const TCP_SOCKET: [&str; 2] = ["port", "host"];
const HTTP_HEADER: [&str; 2] = ["name", "value"];

/// A probe. `is_free` says whether nothing is beneath it, so that defaults can be left out.
pub(super) fn probe(document: &mut Document, is_free: bool) {
    if let Some(get) = document.get_mut("httpGet").and_then(Value::as_object_mut) {
        get.get_mut("port").into_iter().for_each(port);
        for entry in entries(get, "httpHeaders") {
            order(entry, &HTTP_HEADER);
        }
        if is_free {
            let defaults = [
                ("path", json!(probe::HTTP_PATH)),
                ("scheme", json!("HTTP")),
                ("httpHeaders", json!([])),
            ];
            leave_out(get, &defaults, &Map::new());
        }
        order(get, &HTTP_GET);
    }
    if let Some(tcp) = document.get_mut("tcpSocket").and_then(Value::as_object_mut) {
        tcp.get_mut("port").into_iter().for_each(port);
        order(tcp, &TCP_SOCKET);
    }
    if is_free {
        let defaults = [
            ("initialDelaySeconds", json!(0)),
            ("periodSeconds", json!(probe::PERIOD_SECONDS)),
            ("timeoutSeconds", json!(probe::TIMEOUT_SECONDS)),
            ("successThreshold", json!(probe::SUCCESS_THRESHOLD)),
            ("failureThreshold", json!(probe::FAILURE_THRESHOLD)),
        ];
        leave_out(document, &defaults, &Map::new());
    }
    order(document, &PROBE);
}

fn port(value: &mut Value) {
    if let Some(number) = value.as_str().and_then(|text| text.parse::<u16>().ok()) {
        *value = json!(number);
    }
}
