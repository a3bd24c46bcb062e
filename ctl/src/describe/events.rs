//! The events of an object.

use api::core::Event;
use api::{Kind as _, Timestamp};

use super::Sheet;
use crate::target::Target;

/// Most events that are shown, the newest first.
const EVENTS_MAX: usize = 20;

/// The selector for the events of an object.
pub fn about(target: &Target) -> String {
    let kind = target.kind.info().kind;
    format!("involvedObject.kind={kind},involvedObject.name={}", target.name)
}

/// Keeps the events of the object with this uid, without those of earlier objects of its name.
/// Returns how many were removed.
pub fn retain_of(uid: Option<&str>, events: &mut Vec<Event>) -> usize {
    let all = events.len();
    // Some clients set no uid.
    events.retain(|event| {
        event.involved_object.uid.is_none() || event.involved_object.uid.as_deref() == uid
    });
    all - events.len()
}

/// When an event was last seen.
pub fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|it| it.last_observed_time.as_ref()).map(|it| it.0);
    let seen = series.or(event.last_timestamp.as_ref().map(|it| it.0));
    seen.or(event.event_time.as_ref().map(|it| it.0)).or(event.created())
}

/// The newest events of an object, the newest first; empty if there are none.
pub fn section(target: &Target, mut events: Vec<Event>, now: Timestamp) -> Sheet {
    events.sort_by_key(|event| std::cmp::Reverse(last_seen(event)));
    let row = |event: &Event| {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let count = event.series.as_ref().and_then(|it| it.count).or(event.count).unwrap_or(1);
        let times = if count > 1 { format!(" (x{count})") } else { String::new() };
        vec![
            api::table::age(last_seen(event), now),
            part(&event.reason),
            format!("{}{times}", part(&event.message)),
        ]
    };
    let mut sheet = Sheet::default();
    let rows = events.iter().map(row).collect();
    let all = format!("hctl events {target}");
    sheet.list("Events", &["SEEN", "WHAT", "WHY"], rows, (EVENTS_MAX, &all));
    sheet
}
