//! Kubernetes' own kinds that Heliox serves, in Kubernetes' own shapes.

mod secret;

use std::collections::BTreeMap;

use jiff::Timestamp;
pub use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
pub use k8s_openapi::api::core::v1::{
    ConfigMap, Event, EventSource, Namespace, NamespaceCondition, NamespaceStatus, ObjectReference,
    Secret,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::duration::Duration;
use crate::kind::KindId;
use crate::metadata;
use crate::object::Kind;
use crate::resource::{Column, Resource, column, wide};
use crate::table::{age, or_dash};
use crate::violation::Violation;

pub use secret::KindOfData;

/// Most bytes of a ConfigMap or Secret: what Kubernetes allows.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// How long an event is kept after it was last seen, unless configured otherwise: 24 h.
pub const EVENT_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Most events that are kept. Beyond that the oldest are removed.
pub const EVENTS_MAX: usize = 10_000;
/// Most bytes that events take in the store, approximately: 16 MiB.
pub const EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// New events are refused while the number or the bytes of events exceed their bound by this
/// factor. Otherwise a flood of events would grow the store faster than the controller can remove
/// old ones.
pub const EVENTS_REFUSED_FACTOR: usize = 2;

macro_rules! kubernetes_kind {
    ($($kind:ident),+) => {$(
        impl Kind for $kind {
            const ID: KindId = KindId::$kind;

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
            fn schema() -> serde_json::Value {
                crate::schema::generate::kubernetes::<Self>()
            }
        }
    )+};
}

kubernetes_kind!(Namespace, ConfigMap, Secret, Event, Lease);

impl Resource for Namespace {
    // Kubernetes clients send `spec.finalizers` of a namespace back. Heliox stores no such field.
    const SHOWN: &'static [&'static str] = &["/status/phase", "/spec"];

    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::Namespace, &self.metadata)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("status.phase", self.phase().to_owned())]
    }

    fn show(&mut self) -> bool {
        let phase = self.phase().to_owned();
        self.status.get_or_insert_default().phase = Some(phase);
        true
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("STATUS"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        vec![self.name().to_owned(), self.phase().to_owned(), age(self.created(), now)]
    }
}

/// The condition of a namespace that is being deleted and still has objects, as in Kubernetes.
pub const CONTENT_REMAINING: &str = "NamespaceContentRemaining";
/// The condition of a namespace that is being deleted whose objects, or which itself, have
/// finalizers, as in Kubernetes.
pub const FINALIZERS_REMAINING: &str = "NamespaceFinalizersRemaining";

/// Whether a namespace accepts new objects, as one word.
pub trait NamespacePhase {
    /// `Active` or `Terminating`.
    fn phase(&self) -> &'static str;
}

impl NamespacePhase for Namespace {
    fn phase(&self) -> &'static str {
        if self.is_deleting() { "Terminating" } else { "Active" }
    }
}

/// Violations in the data of a ConfigMap or Secret: bad keys, keys that are in both maps, and too
/// much data.
fn validate_data<'a>(
    parts: impl Iterator<Item = (&'static str, &'a str, usize)>,
) -> Vec<Violation> {
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    let mut seen: Vec<&str> = Vec::new();
    for (field, key, len) in parts {
        bytes = bytes.saturating_add(key.len()).saturating_add(len);
        let at = format!("{field}[{key:?}]");
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if key.is_empty()
            || key.len() > 253
            || !key.chars().all(legal)
            || key.starts_with("..")
            || key == "."
        {
            let why = "a key is a file's name: letters, digits, '-', '_' and '.'";
            found.push(Violation::new(at.clone(), why));
        }
        if field == "binaryData" && seen.contains(&key) {
            found.push(Violation::new(at, "the key is in data, too"));
        }
        seen.push(key);
    }
    if bytes > DATA_BYTES_MAX {
        let why = format!("{bytes} bytes; at most {DATA_BYTES_MAX} are allowed");
        found.push(Violation::new("data", why));
    }
    found
}

/// Whether two maps differ. An absent map and an empty one are equal: clients send either.
fn has_other_data<T: PartialEq>(
    is: Option<&BTreeMap<String, T>>,
    was: Option<&BTreeMap<String, T>>,
) -> bool {
    !is.into_iter().flatten().eq(was.into_iter().flatten())
}

/// Violations of `immutable: true`: changed data, or the flag taken back.
fn immutable(was: Option<bool>, is: Option<bool>, changed: bool) -> Vec<Violation> {
    if was != Some(true) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if changed {
        let why = "cannot be changed: the object is immutable";
        found.push(Violation::new("data", why).hint("delete the object and create it again"));
    }
    if is != Some(true) {
        let why = "cannot be unset once it is true";
        found.push(Violation::new("immutable", why).hint("delete the object and create it again"));
    }
    found
}

impl Resource for ConfigMap {
    fn validate(&self) -> Vec<Violation> {
        let mut found = metadata::validate(KindId::ConfigMap, &self.metadata);
        let text = self.data.iter().flatten().map(|(key, it)| ("data", key.as_str(), it.len()));
        let bytes = self.binary_data.iter().flatten();
        let bytes = bytes.map(|(key, it)| ("binaryData", key.as_str(), it.0.len()));
        found.extend(validate_data(text.chain(bytes)));
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        let changed = has_other_data(self.data.as_ref(), old.data.as_ref())
            || has_other_data(self.binary_data.as_ref(), old.binary_data.as_ref());
        immutable(old.immutable, self.immutable, changed)
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("DATA"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let keys = self.data.iter().flatten().count() + self.binary_data.iter().flatten().count();
        vec![self.name().to_owned(), keys.to_string(), age(self.created(), now)]
    }
}

impl Resource for Event {
    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::Event, &self.metadata)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let about = &self.involved_object;
        let source = self.source.as_ref().and_then(|source| source.component.clone());
        let source = source.or_else(|| self.reporting_component.clone());
        let fields = [
            ("involvedObject.kind", &about.kind),
            ("involvedObject.namespace", &about.namespace),
            ("involvedObject.name", &about.name),
            ("involvedObject.uid", &about.uid),
            ("involvedObject.apiVersion", &about.api_version),
            ("involvedObject.fieldPath", &about.field_path),
            ("reason", &self.reason),
            ("reportingComponent", &self.reporting_component),
            ("source", &source),
            ("type", &self.type_),
        ];
        fields.map(|(path, value)| (path, value.clone().unwrap_or_default())).into()
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                wide("NAME"),
                column("SEEN"),
                column("TYPE"),
                column("REASON"),
                column("OBJECT"),
                column("COUNT"),
                wide("FROM"),
                wide("AGE"),
                column("MESSAGE"),
            ]
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let about = &self.involved_object;
        let kind = KindId::word_of(about.kind.as_deref().unwrap_or_default());
        let series = self.series.as_ref();
        let seen = series.and_then(|it| it.last_observed_time.as_ref()).map(|it| it.0);
        let seen = seen.or(self.last_timestamp.as_ref().map(|it| it.0));
        let seen = seen.or(self.event_time.as_ref().map(|it| it.0)).or(self.created());
        let count = series.and_then(|it| it.count).or(self.count).unwrap_or(1);
        vec![
            self.name().to_owned(),
            age(seen, now),
            or_dash(self.type_.as_ref()),
            or_dash(self.reason.as_ref()),
            format!("{kind}/{}", about.name.as_deref().unwrap_or_default()),
            count.to_string(),
            or_dash(self.reporting_component.as_ref()),
            age(self.created(), now),
            self.message.clone().unwrap_or_default(),
        ]
    }
}

impl Resource for Lease {
    fn validate(&self) -> Vec<Violation> {
        metadata::validate(KindId::Lease, &self.metadata)
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("HOLDER"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref());
        vec![self.name().to_owned(), or_dash(holder), age(self.created(), now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_object_as_people_type_it() {
        let object = |kind: &str| {
            let event = serde_json::json!({
                "metadata": { "name": "e" }, "involvedObject": { "kind": kind, "name": "x" },
            });
            let event: Event = serde_json::from_value(event).unwrap();
            event.row(Timestamp::UNIX_EPOCH)[4].clone()
        };
        assert_eq!(["WorkflowRun", "Job", "Pod"].map(object), ["run/x", "job/x", "pod/x"]);
    }
}
