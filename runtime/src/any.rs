//! An object of any kind, typed and shared.

use std::sync::Arc;

use api::{Kind as _, KindId, ObjectKey, ObjectMeta};

macro_rules! any {
    ($($kind:ident, $field:ident: $type:ty;)+) => {
        /// An object of any kind.
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "each variant is the kind it is named after")]
        pub enum Any { $($kind(Arc<$type>),)+ }

        impl Any {
            /// Parses an object of `kind`.
            pub fn parse(kind: KindId, json: &[u8]) -> Result<Self, serde_json::Error> {
                match kind {
                    $(KindId::$kind => {
                        let mut object: $type = serde_json::from_slice(json)?;
                        shrink(object.meta_mut());
                        Ok(Any::$kind(Arc::new(object)))
                    })+
                }
            }

            /// The kind of the object.
            pub fn kind(&self) -> KindId {
                match self { $(Any::$kind(_) => KindId::$kind,)+ }
            }

            /// The metadata of the object.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Any::$kind(object) => object.meta(),)+ }
            }

            /// The namespace and name of the object.
            pub fn key(&self) -> ObjectKey {
                match self { $(Any::$kind(object) => object.key(),)+ }
            }
        }
    };
}

api::every_kind!(any);

/// Gives back unused capacity of lists. After parsing, a list of one owner has capacity for four.
fn shrink(meta: &mut ObjectMeta) {
    meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    meta.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
}
