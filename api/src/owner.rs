//! The owner of tasks and their templates: an object of a kind that creates tasks.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::kind::KindId;
use crate::names;
use crate::violation::Violation;

/// The object, in the same namespace, that a TaskTemplate was made for.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Its kind, such as `Job`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// An owner of a kind that this version knows.
    pub fn new(kind: KindId, name: impl Into<String>) -> Self {
        Self { kind: kind.info().kind.to_owned(), name: name.into() }
    }

    /// What a task's or template's controller reference says.
    pub fn of(reference: &OwnerReference) -> Self {
        Self { kind: reference.kind.clone(), name: reference.name.clone() }
    }

    /// The owner's name if it is of this kind, otherwise empty.
    pub fn name_as(&self, kind: KindId) -> &str {
        if self.kind == kind.info().kind { &self.name } else { "" }
    }
}

/// As people name it: `job/load`.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", KindId::word_of(&self.kind), self.name)
    }
}

/// Kinds whose objects may own tasks and templates. What else such a kind must implement is listed
/// in the apiserver's `write/owner.rs`.
pub const OWNERS: [KindId; 2] = [KindId::Job, KindId::Service];

/// The kind of this name, if it may own tasks.
pub fn owning_kind(kind: &str) -> Option<KindId> {
    OWNERS.into_iter().find(|id| id.info().kind == kind)
}

/// What is wrong with an owner of tasks.
pub(crate) fn validate(owner: &Owner, path: &str, found: &mut Vec<Violation>) {
    if owning_kind(&owner.kind).is_none() {
        let why = format!("no tasks belong to a {:?}", owner.kind);
        found.push(Violation::new(format!("{path}.kind"), why).hint("write Job or Service"));
    }
    if let Some(problem) = names::problem(&owner.name) {
        found.push(Violation::new(format!("{path}.name"), problem));
    }
}

/// Reads an owner. Earlier versions stored only a name, because a Job was the only possible owner.
pub(crate) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Owner, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Job(String),
        Owner(Owner),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Job(name) => Owner::new(KindId::Job, name),
        Either::Owner(owner) => owner,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TaskTemplate;

    #[test]
    fn a_template_of_an_earlier_version_belongs_to_a_job() {
        let template = |owner: (&str, serde_json::Value)| -> TaskTemplate {
            let spec = json!({ "template": { "image": "x" }, owner.0: owner.1 });
            serde_json::from_value(json!({ "metadata": { "name": "a" }, "spec": spec })).unwrap()
        };
        let owner = Owner::new(KindId::Job, "load");
        let now = template(("owner", json!(owner)));
        assert_eq!(template(("job", json!("load"))), now);
        assert_eq!((now.spec.owner.to_string(), now.spec.owner), ("job/load".to_owned(), owner));
    }

    #[test]
    fn an_owner_of_a_newer_version_is_shown_and_is_no_job() {
        let owner = Owner { kind: "Machine".to_owned(), name: "web".to_owned() };
        assert_eq!((owner.to_string(), owner.name_as(KindId::Job)), ("machine/web".to_owned(), ""));
        let mut found = Vec::new();
        validate(&owner, "spec.owner", &mut found);
        assert_eq!(
            found[0].to_string(),
            "spec.owner.kind: no tasks belong to a \"Machine\" (write Job or Service)"
        );
    }
}
