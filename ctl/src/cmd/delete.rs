//! `hctl delete`.

use client::object_path;
use serde_json::Value;

use super::show;
use super::wait::wait_for;
use crate::args::{Cascade, Delete};
use crate::connection::{Connection, deadline};
use crate::failure::{Code, Failure};
use crate::goal::Goal;
use crate::target::{self, Target};
use crate::{sources, terminal};

impl Cascade {
    /// As the server calls it.
    fn propagation(self) -> &'static str {
        match self {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
            Cascade::Orphan => "Orphan",
        }
    }
}

pub(super) async fn delete(connection: &Connection, args: Delete) -> Result<(), Failure> {
    let places = places(connection, &args)?;
    let (mut missing, mut leaving) = (None, Vec::new());
    for (target, namespace) in places {
        let path = object_path(target.kind, &namespace, &target.name);
        match connection.delete(&path, args.cascade.propagation()).await {
            Ok(object) => {
                let is_leaving = object["metadata"]["deletionTimestamp"].is_string();
                let what = if is_leaving { "is being deleted" } else { "deleted" };
                // Who waits is told when it is gone.
                if !args.wait {
                    show::done(connection.format, &target, what, object)?;
                }
                leaving.push((target, namespace));
            }
            // What is gone already is as the manifests are to be.
            Err(failure) if failure.code == Code::NotFound => {
                if !args.files.is_empty() || missing.is_some() {
                    terminal::note(&failure.message);
                }
                if args.files.is_empty() {
                    missing = missing.or(Some(failure));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    if args.wait {
        let until = deadline(Some(args.timeout));
        for (target, namespace) in &leaving {
            wait_for(connection, (target, namespace), Goal::Deleted, until).await?;
        }
    }
    missing.map_or(Ok(()), Err)
}

/// What is to go, and where it is. What needed others goes before them.
fn places(connection: &Connection, args: &Delete) -> Result<Vec<(Target, String)>, Failure> {
    if args.files.is_empty() {
        let targets = target::several(&args.targets)?.into_iter();
        return Ok(targets.map(|target| (target, connection.namespace.clone())).collect());
    }
    let documents = sources::read(&args.files, &connection.namespace)?;
    let place = |document: &api::manifest::Document| {
        let metadata: &Value = &document.value["metadata"];
        let part = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        (Target::new(document.kind, part("name")), part("namespace"))
    };
    Ok(documents.iter().rev().map(place).collect())
}
