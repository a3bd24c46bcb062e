//! Lays a partial template or placement over a whole one.

use api::job::Partial;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// `base` with `partial` laid over it. Maps merge; `env` and `ports` merge by name, `mounts` by
/// path; all other lists and values replace.
pub(crate) fn overlay<T: Serialize + DeserializeOwned>(
    base: &T,
    partial: &Partial,
) -> Result<T, serde_json::Error> {
    let mut whole = serde_json::to_value(base)?;
    merge(&mut whole, &Value::Object(partial.clone()), "");
    serde_json::from_value(whole)
}

fn merge(base: &mut Value, over: &Value, field: &str) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value, key);
            }
        }
        (Value::Array(base), Value::Array(over)) if key_of(field).is_some() => {
            let key = key_of(field).unwrap_or_default();
            for item in over {
                match base.iter_mut().find(|old| old.get(key) == item.get(key)) {
                    Some(old) => merge(old, item, ""),
                    None => base.push(item.clone()),
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

/// The field by which the items of a list are told apart.
fn key_of(list: &str) -> Option<&'static str> {
    match list {
        "env" | "ports" => Some("name"),
        "mounts" => Some("path"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use api::template::Template;
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_keyed_lists_merge_and_all_else_is_replaced() {
        let base: Template = serde_json::from_value(json!({
            "image": "a",
            "args": ["1", "2"],
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" } },
            "ports": [{ "name": "http", "containerPort": 80 }, { "name": "admin" }],
        }))
        .unwrap();
        let partial = json!({
            "args": ["3"],
            "resources": { "requests": { "cpu": "2" } },
            "ports": [{ "name": "http", "hostPort": 8080 }, { "name": "extra" }],
        });
        let Value::Object(partial) = partial else { unreachable!("it is a map") };
        let whole = overlay(&base, &partial).unwrap();
        assert_eq!(whole.image, "a");
        assert_eq!(whole.args, ["3"]);
        assert_eq!(whole.requests()["cpu"], 2000);
        assert_eq!(whole.requests()["memory"], 1 << 30);
        let ports: Vec<_> =
            whole.ports.iter().map(|port| (port.name.as_str(), port.host_port)).collect();
        assert_eq!(ports, [("http", Some(8080)), ("admin", None), ("extra", None)]);
        assert_eq!(whole.ports[0].container_port, Some(80));
    }
}
