//! Queries, selectors, `continue` tokens and resource versions: text from a URL. Nothing may panic or
//! hang, and what is read is written and read again as the same.

#![no_main]

use std::collections::BTreeMap;

use api::list::Continue;
use api::query::pairs;
use api::resource_version::ResourceVersion;
use api::selector::{FieldSelector, LabelSelector};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let read = pairs(text).unwrap_or_default();
    let values = read.iter().map(|(_, value)| value.as_str()).chain(std::iter::once(text));
    for value in values {
        if let Ok(selector) = value.parse::<LabelSelector>() {
            let again: LabelSelector = selector.to_string().parse().expect("it was a selector");
            let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
            assert_eq!(again.matches(Some(&labels)), selector.matches(Some(&labels)));
        }
        if let Ok(selector) = value.parse::<FieldSelector>() {
            let _selected = selector.matches(|_| Some("a"));
        }
        if let Ok(token) = value.parse::<Continue>() {
            let version = ResourceVersion::after(token.revision());
            assert_eq!(version.revision(), token.revision());
            assert_eq!(token.to_string().parse::<Continue>().as_ref(), Ok(&token));
        }
        if let Ok(version) = value.parse::<ResourceVersion>() {
            assert!(ResourceVersion::after(version.revision()) >= version);
        }
    }
});
