//! The description of a Secret without its values, because people show their screens to each other.

use api::core::{KindOfData as _, Secret};
use api::table::age;
use api::{Kind as _, Timestamp};

use super::{Sheet, labels, place};

/// The description of a Secret: its keys and the size of each value.
pub fn text(secret: &Secret, now: Timestamp) -> Sheet {
    let mut sheet = Sheet::default();
    let kind = secret.kind_of_data();
    let fixed = if secret.immutable == Some(true) { ", immutable" } else { "" };
    let deleting = if secret.is_deleting() { ", being deleted" } else { "" };
    let age = age(secret.created(), now);
    sheet.line(&format!("Secret {}: {kind}{fixed}, {age} old{deleting}", place(secret)));
    sheet.field("Labels", &labels(secret));
    let texts = secret.string_data.iter().flatten().map(|(key, text)| (key, text.len()));
    let data = secret.data.iter().flatten().map(|(key, bytes)| (key, bytes.0.len()));
    let row = |(key, bytes): (&String, usize)| vec![key.clone(), bytes.to_string()];
    sheet.table("Data", &["KEY", "BYTES"], data.chain(texts).map(row).collect());
    sheet
}
