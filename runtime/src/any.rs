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
            /// Reads an object of `kind`.
            pub fn parse(kind: KindId, json: &[u8]) -> Result<Self, serde_json::Error> {
                match kind {
                    $(KindId::$kind => {
                        let mut object: $type = serde_json::from_slice(json)?;
                        shrink(object.meta_mut());
                        Ok(Any::$kind(Arc::new(object)))
                    })+
                }
            }

            /// Its kind.
            pub fn kind(&self) -> KindId {
                match self { $(Any::$kind(_) => KindId::$kind,)+ }
            }

            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Any::$kind(object) => object.meta(),)+ }
            }

            /// Where it is found.
            pub fn key(&self) -> ObjectKey {
                match self { $(Any::$kind(object) => object.key(),)+ }
            }
        }
    };
}

api::every_kind!(any);

/// Gives back the room that reading a list leaves for more: a list of one owner has room for four.
fn shrink(meta: &mut ObjectMeta) {
    meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    meta.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
}
