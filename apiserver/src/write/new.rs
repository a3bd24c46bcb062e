//! A new object, already admitted and stamped: a document, or one of many similar tasks.

use std::borrow::Cow;
use std::sync::Arc;

use api::object::Kind as _;
use api::{Task, names};
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde_json::Value;

use crate::encoding;

/// A new object. Not to be logged: it may contain a Secret.
#[derive(Clone)]
pub(crate) enum New {
    /// An object of any kind.
    Document(Value),
    /// One of many tasks that differ only in their indexes, and that were admitted once.
    Task(NewTask),
}

/// One of many similar tasks.
#[derive(Clone)]
pub(crate) struct NewTask {
    /// What they all have, apart from index, name and uid.
    like: Arc<Task>,
    index: u32,
    /// This one, in its stored form.
    stored: Bytes,
}

/// The work that a task does.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Work {
    pub(super) run: u32,
    pub(super) index: u32,
}

impl New {
    /// The controller in its owner references.
    pub(super) fn controller(&self) -> Option<Cow<'_, OwnerReference>> {
        match self {
            New::Document(object) => controller_of(object).map(Cow::Owned),
            New::Task(task) => task.like.controller().map(Cow::Borrowed),
        }
    }

    /// Its work, if it is a task.
    pub(super) fn work(&self) -> Result<Work, serde_json::Error> {
        match self {
            New::Document(object) => Work::deserialize(&object["spec"]),
            New::Task(task) => Ok(Work { run: task.like.spec.run, index: task.index }),
        }
    }

    /// Its labels, as in its document.
    pub(super) fn labels(&self) -> Value {
        match self {
            New::Document(object) => object["metadata"]["labels"].clone(),
            New::Task(task) => serde_json::json!(task.like.metadata.labels),
        }
    }

    /// Its stored form.
    pub(super) fn stored(&self) -> Bytes {
        match self {
            New::Document(object) => encoding::encode(object),
            New::Task(task) => task.stored.clone(),
        }
    }
}

impl NewTask {
    /// The task of an index, made from one that was admitted and stamped.
    pub(crate) fn of(like: &Arc<Task>, (index, name): (u32, &str), uid: String) -> Self {
        let mut task = like.as_ref().clone().to_stored();
        task.metadata.name = Some(name.to_owned());
        task.metadata.uid = Some(uid);
        task.spec.index = index;
        Self { like: Arc::clone(like), index, stored: encoding::encode(&task) }
    }

    /// The name of the task of an index.
    pub(crate) fn name(owner: &str, index: u32) -> String {
        names::task(owner, &index.to_string())
    }
}

/// The controller in an object's owner references.
pub(super) fn controller_of(object: &Value) -> Option<OwnerReference> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let controller = owners.iter().find(|owner| owner["controller"] == Value::Bool(true))?;
    OwnerReference::deserialize(controller).ok()
}
