//! Kubernetes' own kinds that Heliox serves, in Kubernetes' own shapes.

pub use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
pub use k8s_openapi::api::core::v1::{
    ConfigMap, Event, EventSource, Namespace, ObjectReference, Secret,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kind::KindId;
use crate::object::Kind;

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
        }
    )+};
}

kubernetes_kind!(Namespace, ConfigMap, Secret, Event, Lease);
