//! The line and column of each field of a document.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Marker, Parser};

use crate::path::{Step, steps};

/// A line and a column, from 1; 0 where they are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct LineColumn {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<&Marker> for LineColumn {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// The positions of a document and of everything in it.
#[derive(Debug, Clone)]
pub(super) struct Positions(Arc<Node>);

/// The position of a value, and of what it contains. A value in a map has the position of its key.
#[derive(Debug, Default)]
struct Node {
    place: LineColumn,
    fields: BTreeMap<String, Node>,
    entries: Vec<Node>,
}

impl Positions {
    /// A document of which only the beginning is known.
    pub(super) fn only(place: LineColumn) -> Self {
        Self(Arc::new(Node { place, ..Node::default() }))
    }

    /// The position that a path leads to, or that of its nearest parent that exists.
    pub(super) fn place(&self, path: &str) -> LineColumn {
        let mut node = &*self.0;
        for step in steps(path) {
            let next = match step {
                Step::Field(field) => node.fields.get(&field),
                Step::Index(index) => node.entries.get(index),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.place
    }
}

/// A map or list whose end has not been read yet.
enum Open {
    List(Node),
    /// A map, and the key whose value comes next.
    Map(Node, Option<(String, LineColumn)>),
}

/// The positions in each document of a text, by where the documents begin. It stops at the first
/// syntax error.
pub(super) fn of(text: &str) -> BTreeMap<LineColumn, Positions> {
    let mut documents = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for item in Parser::new_from_str(text) {
        let Ok((event, span)) = item else { break };
        let place = LineColumn::from(&span.start);
        let whole = match event {
            Event::MappingStart(..) => {
                open.push(Open::Map(Node { place, ..Node::default() }, None));
                continue;
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Node { place, ..Node::default() }));
                continue;
            }
            Event::Scalar(text, ..) => {
                if let Some(Open::Map(_, key @ None)) = open.last_mut() {
                    *key = Some((text.into_owned(), place));
                    continue;
                }
                Node { place, ..Node::default() }
            }
            Event::Alias(_) => Node { place, ..Node::default() },
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Map(node, _) | Open::List(node)) => node,
                None => break,
            },
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Anchor(..)
            | Event::UnresolvedAlias(_)
            | Event::Comment(..) => continue,
            // A newer parser may have more events. They have no position that matters here.
            _ => continue,
        };
        match open.last_mut() {
            None => {
                documents.insert(whole.place, Positions(Arc::new(whole)));
            }
            Some(Open::List(list)) => list.entries.push(whole),
            Some(Open::Map(map, key)) => match key.take() {
                // A value in a map is found by its key and has the key's position.
                Some((name, at)) => {
                    map.fields.insert(name, Node { place: at, ..whole });
                }
                // A key that is a map or a list: no path leads through it.
                None => *key = Some((String::new(), place)),
            },
        }
    }
    documents
}
