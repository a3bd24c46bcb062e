//! A watch that resumes gets the same bytes as one that has followed, and the bounds hold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::Revision;

use super::*;

/// A change of one of some objects: which one, and the text that it has then; none for a delete.
type Step = (usize, Option<String>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let phase = prop::sample::select(vec!["Pending", "Bound", "Running", "Succeeded"]);
    let text = (phase, "[a-z]{0,40}", 0..3_usize)
        .prop_map(|(phase, note, times)| format!("phase: {phase}, {}", note.repeat(times)));
    prop::collection::vec((0..4_usize, prop::option::weighted(0.9, text)), 0..120)
}

fn entry(name: &str, version: ResourceVersion, text: &str) -> Arc<Entry> {
    let constant = "namespace: default, template: some-job-1, owner: some-job, ";
    Arc::new(Entry {
        kind: KindId::Task,
        key: Arc::new(ObjectKey::new("default", name)),
        version,
        created: Revision(1),
        uid: "u".into(),
        is_deleting: false,
        has_more: false,
        wire: format!("{{name: {name}, {constant}version: {version}, {constant}{text}}}").into(),
        labels: Arc::default(),
        fields: Arc::default(),
    })
}

/// A history with what each event told while it was the newest one.
#[derive(Default)]
struct World {
    history: History,
    newest: BTreeMap<String, Arc<Entry>>,
    told: Vec<(ResourceVersion, Bytes)>,
}

impl World {
    fn apply(&mut self, (name, text): &Step) {
        let name = format!("t-{name}");
        let at = self.told.len() as u64 + 1;
        let version = ResourceVersion::of_event(at, 0);
        let (event, before) = match text {
            Some(text) => {
                let now = entry(&name, version, text);
                let before = self.newest.insert(name, Arc::clone(&now));
                (Event::put(now, before.as_deref()), before)
            }
            None => {
                let Some(before) = self.newest.remove(&name) else { return };
                let last = Bytes::from(format!("{version}: the last of {name}"));
                (Event::delete(version, &before, last), Some(before))
            }
        };
        self.history.push(event, before.as_deref());
        let past = self.history.at(version).unwrap();
        self.told.push((version, past.wire()));
    }

    fn after(steps: &[Step]) -> Self {
        let mut world = Self::default();
        steps.iter().for_each(|step| world.apply(step));
        world
    }

    fn read(&self) -> Vec<(ResourceVersion, Bytes)> {
        let read = |past: PastEvent<'_>| (past.event.version, past.wire());
        self.history.since(0).map(read).collect()
    }
}

proptest! {
    #[test]
    fn an_event_tells_the_same_bytes_whenever_it_is_read(
        steps in steps(), forgotten in 0..60_usize,
    ) {
        let mut world = World::after(&steps);
        prop_assert_eq!(&world.read(), &world.told);
        for _ in 0..forgotten {
            world.history.forget_oldest();
        }
        let kept = world.told.get(forgotten..).unwrap_or_default();
        prop_assert_eq!(&world.read(), kept);
        let bytes: usize = world.history.events.iter().map(Event::bytes).sum();
        prop_assert_eq!(world.history.bytes, bytes);
    }
}

/// The number of differences that are applied for a version.
fn steps_to_whole(history: &History, event: &Event) -> u8 {
    match &event.after {
        After::Older(older) => 1 + steps_to_whole(history, history.at(older.next).unwrap().event),
        After::Whole(_) | After::Gone(_) => 0,
    }
}

#[test]
fn an_object_that_changes_often_has_whole_versions_among_the_differences() {
    let steps: Vec<Step> =
        (0..1000).map(|number| (0, Some(format!("renewed {number} times")))).collect();
    let world = World::after(&steps);
    let steps = world.history.events.iter().map(|event| steps_to_whole(&world.history, event));
    assert_eq!(steps.max(), Some(STEPS_MAX));
    let whole = |event: &&Event| matches!(event.after, After::Whole(_));
    let whole = world.history.events.iter().filter(whole).count();
    assert_eq!(whole, 1000_usize.div_ceil(usize::from(STEPS_MAX) + 1));
}

#[test]
fn only_the_newest_version_of_an_object_takes_its_size() {
    let text = "x".repeat(10_000);
    let mut world = World::default();
    for phase in ["Pending", "Bound", "Running"] {
        world.apply(&(0, Some(format!("{text}, phase: {phase}"))));
    }
    assert!(world.history.bytes < 11_000, "{}", world.history.bytes);
    // A version that shares nothing with the next one is held as a whole, and counted as such.
    world.apply(&(0, Some("y".repeat(10_000))));
    assert!(world.history.bytes > 20_000, "{}", world.history.bytes);
}

#[test]
fn the_oldest_events_go_first_where_there_are_too_many_bytes() {
    let mut world = World::default();
    let text = "x".repeat(1024 * 1024);
    let count = 2 * BYTES_MAX / text.len();
    for number in 0..count {
        world.apply(&(number, Some(text.clone())));
        assert!(world.history.bytes <= BYTES_MAX);
    }
    let left = world.history.len();
    assert!((count / 2 - 2..=count / 2).contains(&left), "{left}");
    assert_eq!(world.read(), world.told[count - left..]);
    assert_eq!(world.history.complete_after, world.told[count - left - 1].0);
}
