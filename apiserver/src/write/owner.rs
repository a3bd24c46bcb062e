//! The rules between a task or a template and the object that owns it, for each kind that can be an
//! owner ([`api::owner::OWNERS`]).
//! Only the controlling owner, which makes the tasks, matters here. Other owners matter only to
//! garbage collection.

use api::owner::owning_kind;
use api::status::Refusal;
use api::{KindId, ObjectKey, Violation};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use store::Key;

use super::facts::{Current, Facts};
use crate::keys;

/// The rules for owners of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether it records how the indexes of its runs ended. Then a recorded index does not run
    /// again in its run, and a task stays until its end is recorded.
    pub(super) keeps_record: bool,
}

/// The owner that a task or a template names as its controller.
#[derive(Debug)]
pub(super) struct Owner<'a> {
    pub(super) kind: KindId,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    pub(super) store_key: Key,
    pub(super) rules: Rules,
}

fn rules(kind: KindId) -> Rules {
    Rules { keeps_record: kind == KindId::Job }
}

impl<'a> Owner<'a> {
    /// The owner that a reference means; `None` if objects of its kind cannot own tasks.
    pub(super) fn named(reference: &'a OwnerReference, namespace: &str) -> Option<Self> {
        let kind = owning_kind(&reference.kind)
            .filter(|kind| kind.api_version() == reference.api_version)?;
        let key = ObjectKey::new(namespace, &*reference.name);
        Some(Self {
            kind,
            name: &reference.name,
            uid: &reference.uid,
            store_key: keys::object(kind, &key),
            rules: rules(kind),
        })
    }

    /// The same for a new object. An owner that cannot have tasks is refused: nobody would record
    /// how the task ended, or remove it.
    pub(super) fn of_new(
        (kind, key): (KindId, &ObjectKey),
        controller: Option<&'a OwnerReference>,
    ) -> Result<Option<Self>, Refusal> {
        let Some(reference) = controller else { return Ok(None) };
        let owner = Self::named(reference, &key.namespace);
        owner.map(Some).ok_or_else(|| {
            let why = format!("a {kind} cannot belong to a {:?}", reference.kind);
            let violation = Violation::new("metadata.ownerReferences", why)
                .hint("name a Job or a Service of heliox.dev/v1 as the controller, or none");
            Refusal::invalid(kind, &key.name, &[violation])
        })
    }

    /// The owner, if it exists and is not being deleted.
    pub(super) fn living(&self, facts: &mut Facts<'_>) -> Option<Current> {
        let there = facts.at(&self.store_key)?;
        (there.uid() == self.uid && !there.is_deleting()).then_some(there)
    }
}
