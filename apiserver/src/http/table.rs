//! Tables, as kubectl and hctl show them.

use api::{KindId, ObjectKey};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::page::Page;
use super::query::IncludeObject;
use super::usage;
use crate::cache::Entry;
use crate::{Server, kinds};

/// Kubernetes' `Table`. The objects in it are their JSON, which is not parsed: a list of ten
/// thousand tasks may be requested as a table, too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    column_definitions: Vec<Value>,
    rows: Vec<Row<'a>>,
}

/// An object that a table lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) wire: &'a Bytes,
}

impl<'a> Listed<'a> {
    /// An object of the cache.
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self { key: &entry.key, wire: &entry.wire }
    }
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    cells: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Shown<'a>>,
}

/// How much of its object a row contains.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    #[serde(rename_all = "camelCase")]
    Metadata {
        kind: &'static str,
        api_version: &'static str,
        metadata: &'a RawValue,
    },
    Whole(Box<RawValue>),
}

impl<'a> Shown<'a> {
    fn of(kind: KindId, wire: &'a Bytes, include: IncludeObject) -> Option<Self> {
        /// An object of which only the metadata is requested.
        #[derive(Deserialize)]
        struct Described<'a> {
            #[serde(borrow)]
            metadata: &'a RawValue,
        }
        match include {
            IncludeObject::None => None,
            IncludeObject::Metadata => {
                let Described { metadata } = serde_json::from_slice(wire).ok()?;
                let kind = "PartialObjectMetadata";
                Some(Self::Metadata { kind, api_version: "meta.k8s.io/v1", metadata })
            }
            IncludeObject::Object => {
                let shown = kinds::shown(kind, wire);
                serde_json::from_slice(&shown).ok().map(Self::Whole)
            }
        }
    }
}

/// Makes a table of objects of a kind.
pub(super) fn table<'a>(
    server: &Server,
    kind: KindId,
    objects: &[Listed<'a>],
    (page, include): (Option<&Page>, IncludeObject),
) -> Table<'a> {
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
    let of_nodes = if kind == KindId::Node { objects } else { &[] };
    let usages = usage::of_nodes(&server.cache, of_nodes.iter().map(|node| node.key));
    let row = |object: &Listed<'a>| {
        let cells = match usages.get(&object.key.name) {
            Some(usage) => usage::row(object.wire, usage, now),
            None => (strategy.row)(object.wire, now),
        };
        Row { cells, object: Shown::of(kind, object.wire, include) }
    };
    Table {
        kind: "Table",
        api_version: "meta.k8s.io/v1",
        metadata: page.map(Page::metadata).unwrap_or_else(|| json!({})),
        column_definitions: columns,
        rows: objects.iter().map(row).collect(),
    }
}
