//! Tables and properties of the three-way merge.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Checks the patch, and the live object after it.
fn check(last: Option<Value>, wanted: Value, live: Value, expected: Option<Value>, after: Value) {
    let patch = patch(last.as_ref(), &wanted, &live);
    assert_eq!(patch, expected, "patch of {live} to {wanted}, last {last:?}");
    let mut merged = live;
    json_patch::merge(&mut merged, &patch.unwrap_or_else(|| json!({})));
    assert_eq!(merged, after);
}

#[test]
fn what_is_as_wanted_is_left_alone() {
    let wanted = json!({"spec": {"count": 3, "args": ["a"]}});
    let live = json!({"spec": {"args": ["a"], "count": 3, "extra": 1}, "status": {"phase": "x"}});
    check(Some(wanted.clone()), wanted, live.clone(), None, live);
}

#[test]
fn a_changed_field_is_sent_alone() {
    check(
        Some(json!({"spec": {"count": 3, "a": {"b": 1, "c": 2}}})),
        json!({"spec": {"count": 3, "a": {"b": 5, "c": 2}}}),
        json!({"spec": {"count": 3, "a": {"b": 1, "c": 2}}}),
        Some(json!({"spec": {"a": {"b": 5}}})),
        json!({"spec": {"count": 3, "a": {"b": 5, "c": 2}}}),
    );
}

#[test]
fn a_field_that_another_changed_is_set_back() {
    check(
        Some(json!({"count": 3})),
        json!({"count": 3}),
        json!({"count": 7}),
        Some(json!({"count": 3})),
        json!({"count": 3}),
    );
}

#[test]
fn a_field_that_is_not_wanted_any_more_goes_and_others_stay() {
    check(
        Some(json!({"labels": {"a": "1", "b": "2"}, "count": 1})),
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"a": "1", "b": "2", "theirs": "x"}, "count": 1, "suspend": true}),
        Some(json!({"count": null, "labels": {"b": null}})),
        json!({"labels": {"a": "1", "theirs": "x"}, "suspend": true}),
    );
}

#[test]
fn a_map_that_is_not_wanted_any_more_goes_but_for_what_is_others() {
    check(
        Some(json!({"labels": {"a": "1", "b": "2"}})),
        json!({}),
        json!({"labels": {"a": "1", "b": "2", "theirs": "x"}}),
        Some(json!({"labels": {"a": null, "b": null}})),
        json!({"labels": {"theirs": "x"}}),
    );
    check(
        Some(json!({"placement": {"near": {"job": "a"}, "nodes": ["n"]}})),
        json!({}),
        json!({"placement": {"near": {"job": "a"}, "nodes": ["n"]}}),
        Some(json!({"placement": null})),
        json!({}),
    );
}

#[test]
fn what_was_never_applied_is_not_taken_away() {
    let live = json!({"a": 1, "mine": 2});
    check(None, json!({"a": 1}), live.clone(), None, live.clone());
    check(Some(json!({"gone": 1})), json!({"a": 1}), live.clone(), None, live);
}

#[test]
fn lists_are_replaced_as_a_whole() {
    check(
        Some(json!({"args": ["a", "b"]})),
        json!({"args": ["b", {"x": null}]}),
        json!({"args": ["a", "b"]}),
        Some(json!({"args": ["b", {"x": null}]})),
        json!({"args": ["b", {"x": null}]}),
    );
}

#[test]
fn a_null_wishes_that_there_is_nothing() {
    let gone = Some(json!({"timeout": null}));
    check(None, json!({"timeout": null}), json!({"timeout": "1h"}), gone, json!({}));
    check(None, json!({"timeout": null}), json!({}), None, json!({}));
    check(
        None,
        json!({"a": {"b": null, "c": 1}}),
        json!({}),
        Some(json!({"a": {"c": 1}})),
        json!({"a": {"c": 1}}),
    );
}

#[test]
fn an_empty_map_that_the_server_did_not_keep_is_no_change() {
    let wanted = json!({"labels": {}});
    check(None, wanted.clone(), json!({}), Some(wanted.clone()), wanted.clone());
    check(Some(wanted.clone()), wanted, json!({}), None, json!({}));
}

#[test]
fn a_field_may_change_its_shape() {
    check(
        Some(json!({"a": {"b": 1}})),
        json!({"a": "text"}),
        json!({"a": {"b": 1}}),
        Some(json!({"a": "text"})),
        json!({"a": "text"}),
    );
    check(
        None,
        json!({"a": {"b": 1}}),
        json!({"a": "text"}),
        Some(json!({"a": {"b": 1}})),
        json!({"a": {"b": 1}}),
    );
}

#[test]
fn a_wish_is_noted_without_what_is_the_servers() {
    let pasted = json!({
        "kind": "Job",
        "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "annotations": {LAST_APPLIED: "{}"}},
        "spec": {"b": 1, "a": 2},
        "status": {"phase": "Running"},
    });
    let wish = wish(pasted);
    assert_eq!(
        wish,
        json!({"kind": "Job", "metadata": {"name": "a", "annotations": {}}, "spec": {"b": 1, "a": 2}})
    );
    let noted = with_note(&wish);
    assert_eq!(
        last_applied(&noted),
        Some(
            json!({"kind": null, "metadata": {"name": null, "annotations": {}}, "spec": {"a": null, "b": null}})
        )
    );
    let moved = json!({"spec": {"a": 2, "b": 1}, "metadata": {"annotations": {}, "name": "a"}, "kind": "Job"});
    assert_eq!(with_note(&moved)["metadata"], noted["metadata"], "the order of lines says nothing");
}

/// Documents with few keys, so that they overlap.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0..4_i32).prop_map(Value::from),
        Just(json!(null)),
        Just(json!([1, {"a": 1}])),
        Just(json!([])),
    ];
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        prop::collection::btree_map("[abcd]", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    prop::collection::btree_map("[abcd]", tree, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// A document as the server stores it: without nulls.
fn kept() -> impl Strategy<Value = Value> {
    document().prop_map(|it| without_nulls(&it))
}

/// Every leaf (and list) of a document, by its path.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let Some(fields) = value.as_object() else {
        return found.push((path.to_owned(), value.clone()));
    };
    for (key, value) in fields {
        leaves(value, &format!("{path}/{key}"), found);
    }
}

proptest! {
    #[test]
    fn wanted_fields_hold_and_others_fields_stay(
        last in prop::option::of(document()), wanted in document(), live in kept(),
    ) {
        let mut after = live.clone();
        let change = patch(last.as_ref(), &wanted, &live);
        // An annotation of the fields is as good as one of the whole document.
        let noted = last.as_ref().map(fields_of);
        prop_assert_eq!(&patch(noted.as_ref(), &wanted, &live), &change);
        if let Some(patch) = change {
            json_patch::merge(&mut after, &patch);
        }
        let mut wishes = Vec::new();
        leaves(&wanted, "", &mut wishes);
        for (path, wish) in wishes {
            let is = after.pointer(&path);
            prop_assert_eq!(is.unwrap_or(&Value::Null), &wish, "{} is not as wanted", path);
        }
        let mut before = Vec::new();
        leaves(&live, "", &mut before);
        for (path, was) in before {
            // Neither this field nor a parent of it is mentioned, except as a map.
            let spoken_of = |document: &Value| {
                let steps = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
                steps.chain([path.as_str()]).any(|path| {
                    document.pointer(path).is_some_and(|value| !value.is_object())
                }) || document.pointer(&path).is_some()
            };
            if !spoken_of(&wanted) && !last.as_ref().is_some_and(spoken_of) {
                prop_assert_eq!(after.pointer(&path), Some(&was), "{} was another's", path);
            }
        }
    }

    #[test]
    fn applying_twice_changes_nothing_the_second_time(wanted in document(), live in kept()) {
        let mut after = live.clone();
        if let Some(patch) = patch(None, &wanted, &live) {
            json_patch::merge(&mut after, &patch);
        }
        prop_assert_eq!(patch(Some(&wanted), &wanted, &after), None);
    }
}

fn secret(field: &str, data: Value) -> Value {
    json!({"kind": "Secret", "metadata": {"name": "s"}, field: data})
}

#[test]
fn the_text_of_a_secret_is_wished_as_it_is_kept() {
    let texts = wish(secret("stringData", json!({"a": "x", "b": "y"})));
    assert_eq!(texts["data"], json!({"a": "eA==", "b": "eQ=="}));
    assert!(texts.get("stringData").is_none());
    let note = with_note(&texts)["metadata"]["annotations"][LAST_APPLIED].to_string();
    assert!(!note.contains("stringData"), "{note}");
    // A key that is not wanted any more is removed, even if an older annotation has it as a text.
    let noted = secret("stringData", json!({"a": "x", "b": "y"})).to_string();
    let live = json!({
        "metadata": {"name": "s", "annotations": {(LAST_APPLIED): noted}},
        "data": {"a": "eA==", "b": "eQ==", "theirs": "eg=="},
    });
    let wanted = wish(secret("stringData", json!({"a": "x"})));
    let changed = patch(last_applied(&live).as_ref(), &wanted, &live).unwrap();
    assert_eq!(changed["data"], json!({"b": null}));
    let config = json!({"kind": "ConfigMap", "stringData": {"a": "x"}});
    assert_eq!(wish(config.clone()), config);
}

#[test]
fn other_words_and_notes_change_nothing_of_the_object() {
    let job = |spec: Value| json!({"kind": "Job", "metadata": {"name": "a"}, "spec": spec});
    let same = |before: &Value, after: &Value| means_the_same(KindId::Job, before, after);
    let template = |cpu: &str| json!({"image": "x", "resources": {"requests": {"cpu": cpu}}});
    let before = job(json!({"template": template("500m")}));
    let noted = with_note(&wish(before.clone()));
    assert!(same(&before, &noted), "a note is for the next time");
    let reworded = job(json!({"template": template("0.5"), "priority": 0, "timeout": null}));
    assert!(same(&before, &without_nulls(&reworded)));
    assert!(!same(&before, &job(json!({"template": template("600m")}))));
    assert!(!same(&before, &job(json!({"template": template("500m"), "cancel": true}))));
    let mut labelled = noted.clone();
    labelled["metadata"]["labels"] = json!({});
    assert!(same(&before, &labelled));
    labelled["metadata"]["labels"]["app"] = "web".into();
    assert!(!same(&before, &labelled), "a label means something to somebody");
    let mut annotated = noted;
    annotated["metadata"]["annotations"]["mine"] = "2".into();
    assert!(!same(&before, &annotated));
    let config = |value: &str| json!({"kind": "ConfigMap", "metadata": {}, "data": {"a": value}});
    assert!(!means_the_same(KindId::ConfigMap, &config("x"), &config("y")));
}

#[test]
fn the_note_of_a_large_object_is_small_and_shows_nothing_of_it() {
    let text = "correct-horse".repeat(50_000);
    let config = json!({"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": text}});
    let noted = with_note(&wish(config));
    let note = noted["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(note, r#"{"data":{"a":null},"kind":null,"metadata":{"name":null}}"#);
}

#[test]
fn a_copy_does_not_belong_to_the_owner_of_the_original() {
    let controller = json!({"kind": "WorkflowRun", "name": "r", "uid": "1", "controller": true});
    let by_hand = json!({"kind": "Job", "name": "a", "uid": "2"});
    let manifest = |owners: Value| json!({"metadata": {"name": "mine", "ownerReferences": owners}});
    let owners = |wish: &Value| wish["metadata"].get("ownerReferences").cloned();
    // Created under another name.
    let mut copy = manifest(json!([controller]));
    assert!(without_controllers(&mut copy, None));
    assert_eq!(owners(&copy), None);
    assert!(!without_controllers(&mut copy, None), "it is told once");
    let mut labelled = manifest(json!([controller]));
    labelled["metadata"]["labels"] = json!({"heliox.dev/run": "r", "app": "web"});
    assert!(without_controllers(&mut labelled, None));
    assert_eq!(labelled["metadata"]["labels"], json!({"app": "web"}));
    // An owner that a user has added stays.
    let mut both = manifest(json!([by_hand, controller]));
    assert!(without_controllers(&mut both, None));
    assert_eq!(owners(&both), Some(json!([by_hand])));
    // The original, applied as it was read.
    let (mut same, live) = (manifest(json!([controller])), manifest(json!([controller])));
    assert!(!without_controllers(&mut same, Some(&live)));
    assert_eq!(owners(&same), Some(json!([controller])));
    // The copy, applied again.
    let mut again = manifest(json!([controller]));
    assert!(without_controllers(&mut again, Some(&json!({"metadata": {"name": "mine"}}))));
    assert_eq!(patch(None, &again, &json!({"metadata": {"name": "mine"}})), None);
}
