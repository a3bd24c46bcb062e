//! Tables, as kubectl and hctl show them.

use std::sync::Arc;

use api::KindId;
use serde_json::{Value, json};

use super::query::IncludeObject;
use super::read::Page;
use super::usage;
use crate::cache::Entry;
use crate::{Server, kinds};

/// Entries as a `Table`.
pub(super) fn table(
    server: &Server,
    kind: KindId,
    entries: &[Arc<Entry>],
    (page, include): (Option<&Page>, IncludeObject),
) -> Value {
    let strategy = kinds::strategy(kind);
    let columns: Vec<Value> = (strategy.columns)()
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": "string",
                "format": if column.name == "NAME" { "name" } else { "" },
                "description": "",
                "priority": u8::from(column.wide),
            })
        })
        .collect();
    let now = server.clock.now();
    let of_nodes = if kind == KindId::Node { entries } else { &[] };
    let usages = usage::of_nodes(&server.cache, of_nodes);
    let cells = |entry: &Entry| match usages.get(&entry.key.name) {
        Some(usage) => usage::row(entry, usage, now),
        None => (strategy.row)(&entry.wire, now),
    };
    let rows: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let shown = kinds::shown(kind, &entry.wire);
            let object: Value = serde_json::from_slice(&shown).unwrap_or_default();
            let metadata = || {
                json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": object["metadata"],
                })
            };
            match include {
                IncludeObject::None => json!({ "cells": cells(entry) }),
                IncludeObject::Metadata => json!({ "cells": cells(entry), "object": metadata() }),
                IncludeObject::Object => json!({ "cells": cells(entry), "object": object }),
            }
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": page.map(Page::metadata).unwrap_or_else(|| json!({})),
        "columnDefinitions": columns,
        "rows": rows,
    })
}
