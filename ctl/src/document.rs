//! Objects as YAML or JSON that can be applied again, without bookkeeping fields.

use serde_json::{Value, json};

use crate::failure::Failure;

/// The object without fields that only programs need.
pub fn without_noise(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
        let notes = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let empty = notes.is_some_and(|notes| {
            notes.shift_remove(api::labels::LAST_APPLIED);
            notes.is_empty()
        });
        if empty {
            metadata.shift_remove("annotations");
        }
    }
    object
}

/// Several objects as a list.
pub fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// The object as YAML. Texts that would be read as another type are quoted.
///
/// # Errors
/// None that an object of the API can cause.
pub fn yaml(object: &Value) -> Result<String, Failure> {
    let options = serde_saphyr::ser_options! { min_fold_chars: usize::MAX };
    serde_saphyr::to_string_with_options(object, options)
        .map(|text| if text.ends_with('\n') { text } else { format!("{text}\n") })
        .map_err(|error| Failure::new(format!("write YAML: {error}")))
}

/// The object as JSON, indented.
///
/// # Errors
/// None that an object of the API can cause.
pub fn json_text(object: &Value) -> Result<String, Failure> {
    serde_json::to_string_pretty(object)
        .map(|text| format!("{text}\n"))
        .map_err(|error| Failure::new(format!("write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "heliox.dev/v1",
            "kind": "Job",
            "metadata": {
                "name": "a",
                "annotations": { (api::labels::LAST_APPLIED): "{}" },
                "managedFields": [{}],
            },
            "spec": {
                "count": 3,
                "suspend": false,
                "template": {
                    "image": "no",
                    "args": ["1.10", "", "true", "null", "a: b", "#x", "0x1F", "1_000", "on", "~", "- a"],
                    "command": ["sh", "-c", "echo a\necho \"b\"\n"],
                    "env": [],
                    "labels": {},
                },
            },
        })
    }

    #[test]
    fn yaml_is_what_people_write() {
        expect![[r##"
            apiVersion: heliox.dev/v1
            kind: Job
            metadata:
              name: a
            spec:
              count: 3
              suspend: false
              template:
                image: "no"
                args:
                - "1.10"
                - ""
                - "true"
                - "null"
                - "a: b"
                - "#x"
                - "0x1F"
                - "1_000"
                - "on"
                - "~"
                - "- a"
                command:
                - sh
                - -c
                - |
                  echo a
                  echo "b"
                env: []
                labels: {}
        "##]]
        .assert_eq(&yaml(&without_noise(object())).unwrap());
    }

    #[test]
    fn yaml_is_read_back_as_the_same_object() {
        let wanted = without_noise(object());
        let text = yaml(&wanted).unwrap();
        let documents = api::manifest::read("it", text.as_bytes()).expect("it is a job");
        assert_eq!(documents[0].value, wanted);
    }
}
