//! JSON Schemas made from the Rust types.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::placement::Placement;
use crate::template::Template;

/// Marks a schema whose texts may contain `$(...)`. Their format is checked after substitution.
pub(super) const PARTIAL: &str = "x-heliox-partial";

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into()
}

/// The schema of a type, with the schemas of its fields inlined.
pub(super) fn schema_for<T: JsonSchema>() -> Value {
    generator().subschema_for::<T>().to_value()
}

/// The schema of one of Kubernetes' kinds.
pub(crate) fn kubernetes<T: JsonSchema>() -> Value {
    let mut schema = schema_for::<T>();
    schema["properties"]["apiVersion"] = json!({ "type": "string" });
    schema["properties"]["kind"] = json!({ "type": "string" });
    schema
}

/// The schema of one of Heliox's kinds.
pub(crate) fn ours<Spec: JsonSchema, Status: JsonSchema>() -> Value {
    json!({
        "type": "object",
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": schema_for::<ObjectMeta>(),
            "spec": schema_for::<Spec>(),
            "status": schema_for::<Status>(),
        },
        "required": ["spec"],
    })
}

/// The schema of a partial template: no field is required.
pub(crate) fn partial_template(generator: &mut SchemaGenerator) -> Schema {
    partial(Template::json_schema(generator))
}

/// The schema of a partial placement: no field is required.
pub(crate) fn partial_placement(generator: &mut SchemaGenerator) -> Schema {
    partial(Placement::json_schema(generator))
}

fn partial(mut schema: Schema) -> Schema {
    schema.remove("required");
    schema.insert(PARTIAL.to_owned(), Value::Bool(true));
    schema
}
