//! Secret: data that is not shown, of a type that says which keys it must have.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::{has_other_data, immutable, validate_data};
use crate::kind::KindId;
use crate::metadata;
use crate::object::Kind as _;
use crate::resource::{Column, Resource, column};
use crate::table::age;
use crate::violation::Violation;

/// The type of a Secret that names none: any data.
const OPAQUE: &str = "Opaque";

/// What Kubernetes asks of the data of its own types of Secrets: the keys, and whether one of them
/// is enough. Programs that are given such a Secret read these keys without looking.
const KEYS_OF_TYPES: [(&str, &[&str], Needs); 5] = [
    ("kubernetes.io/tls", &["tls.crt", "tls.key"], Needs::All),
    ("kubernetes.io/basic-auth", &["username", "password"], Needs::One),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"], Needs::All),
    ("kubernetes.io/dockercfg", &[".dockercfg"], Needs::All),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"], Needs::All),
];

/// How many of its keys a type of Secret needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    All,
    One,
}

impl Resource for Secret {
    fn validate(&self) -> Vec<Violation> {
        let mut found = metadata::validate(KindId::Secret, &self.metadata);
        let data = self.data.iter().flatten().map(|(key, it)| ("data", key.as_str(), it.0.len()));
        let text = self.string_data.iter().flatten();
        let text = text.map(|(key, it)| ("stringData", key.as_str(), it.len()));
        found.extend(validate_data(data.chain(text)));
        found.extend(missing_keys(self));
        found
    }

    fn validate_update(&self, old: &Self) -> Vec<Violation> {
        let changed = has_other_data(self.data.as_ref(), old.data.as_ref());
        let mut found = immutable(old.immutable, self.immutable, changed);
        let (is, was) = (self.kind_of_data(), old.kind_of_data());
        if is != was {
            let why = format!("cannot be changed from {was:?} to {is:?}");
            let hint = "delete the secret and create it with the other type";
            found.push(Violation::new("type", why).hint(hint));
        }
        found
    }

    /// Texts become data and the type is named, as in Kubernetes: what is read back shows no text in
    /// clear, and clients need not know the default.
    fn normalize(&mut self) {
        let texts = self.string_data.take().unwrap_or_default();
        if !texts.is_empty() {
            let data = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
            self.data.get_or_insert_default().extend(data);
        }
        self.type_ = Some(self.kind_of_data().to_owned());
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("type", self.kind_of_data().to_owned())]
    }

    fn show(&mut self) -> bool {
        // One that an earlier version stored may lack its type.
        let lacks = self.type_.is_none() || self.string_data.is_some();
        if lacks {
            self.normalize();
        }
        lacks
    }

    fn columns() -> &'static [Column] {
        const { &[column("NAME"), column("TYPE"), column("DATA"), column("AGE")] }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let keys = self.data.iter().flatten().count();
        let kind = self.kind_of_data().to_owned();
        vec![self.name().to_owned(), kind, keys.to_string(), age(self.created(), now)]
    }
}

/// What kind of data a Secret says that it holds.
pub trait KindOfData {
    /// Its type; `Opaque` where it names none.
    fn kind_of_data(&self) -> &str;
}

impl KindOfData for Secret {
    fn kind_of_data(&self) -> &str {
        self.type_.as_deref().filter(|kind| !kind.is_empty()).unwrap_or(OPAQUE)
    }
}

/// The keys that a Secret's type asks for and that it does not have.
fn missing_keys(secret: &Secret) -> Vec<Violation> {
    let kind = secret.kind_of_data();
    let Some((_, keys, needs)) = KEYS_OF_TYPES.into_iter().find(|(name, ..)| *name == kind) else {
        return Vec::new();
    };
    let has = |key: &str| {
        secret.data.iter().flatten().any(|(name, _)| name == key)
            || secret.string_data.iter().flatten().any(|(name, _)| name == key)
    };
    let required = |at: String| {
        let hint = "add it, or leave out `type` for a secret with other keys";
        Violation::new(at, format!("is required in a secret of type {kind:?}")).hint(hint)
    };
    match needs {
        Needs::All => keys
            .iter()
            .filter(|key| !has(key))
            .map(|key| required(format!("data[{key:?}]")))
            .collect(),
        Needs::One if keys.iter().any(|key| has(key)) => Vec::new(),
        Needs::One => vec![required(format!("data[{:?}]", keys[0]))],
    }
}
