//! Where the fields of a document stand in its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Marker, Parser};

use crate::path::{Step, steps};

/// A line and a column, from 1; 0 where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<&Marker> for Place {
    fn from(marker: &Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// Where a document and all in it stand.
#[derive(Debug, Clone)]
pub(super) struct Positions(Arc<Node>);

/// Where a value stands: its key, or itself in a list; and what is in it.
#[derive(Debug, Default)]
struct Node {
    place: Place,
    fields: BTreeMap<String, Node>,
    entries: Vec<Node>,
}

impl Positions {
    /// A document of which nothing but its beginning is known.
    pub(super) fn only(place: Place) -> Self {
        Self(Arc::new(Node { place, ..Node::default() }))
    }

    /// Where a path leads, or the nearest thing above it that is there.
    pub(super) fn place(&self, path: &str) -> Place {
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

/// A collection that is being read.
enum Open {
    List(Node),
    /// A map, and the key whose value comes next.
    Map(Node, Option<(String, Place)>),
}

/// The positions in each document of a text that was read already, by where the documents begin.
/// Reads no further than the text is YAML.
pub(super) fn of(text: &str) -> BTreeMap<Place, Positions> {
    let mut documents = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    for item in Parser::new_from_str(text) {
        let Ok((event, span)) = item else { break };
        let place = Place::from(&span.start);
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
            // The parser may learn new events.
            _ => continue,
        };
        match open.last_mut() {
            None => {
                documents.insert(whole.place, Positions(Arc::new(whole)));
            }
            Some(Open::List(list)) => list.entries.push(whole),
            Some(Open::Map(map, key)) => match key.take() {
                // A value is found by its key, and stands where that does.
                Some((name, at)) => {
                    map.fields.insert(name, Node { place: at, ..whole });
                }
                // A key that is no scalar: nothing has a path through it.
                None => *key = Some((String::new(), place)),
            },
        }
    }
    documents
}
