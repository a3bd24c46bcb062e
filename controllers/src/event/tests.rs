//! Which events go.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test shows or refuses whatever it does not expect"
)]

use std::sync::Arc;
use std::time::Duration;

use api::core::Event;
use api::{ObjectMeta, Time, Timestamp};
use jiff::SignedDuration;
use runtime::{Any, Controller as _, Requeue};

use super::Controller;
use super::plan::{Limits, Plan, ROUND_OPS_MAX, plan};
use crate::action::Action;
use crate::obedient;

const LIMITS: Limits = Limits { ttl: SignedDuration::from_hours(24), count: 3, bytes: 1024 * 1024 };

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn event(name: &str, made: i64, told: i64) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            creation_timestamp: Some(Time(second(made))),
            ..ObjectMeta::default()
        },
        last_timestamp: Some(Time(second(told))),
        ..Event::default()
    }
}

fn gone(plan: &Plan) -> Vec<&str> {
    let names = plan.groups.iter().flat_map(|group| &group.actions).map(|action| match action {
        Action::Delete { object, .. } => object.key.name.as_str(),
        other => panic!("{other:?}"),
    });
    names.collect()
}

#[test]
fn events_go_a_day_after_they_were_seen_last() {
    let day = 24 * 3600;
    let events = [event("old", 0, 0), event("young", 10, 10), event("seen-again", 0, 20)];
    let early = plan(events.iter(), LIMITS, second(day - 1));
    assert_eq!((gone(&early), early.wake_at), (vec![], Some(second(day))));
    let late = plan(events.iter(), LIMITS, second(day));
    assert_eq!((gone(&late), late.wake_at), (vec!["old"], Some(second(day + 10))));
}

#[test]
fn of_too_many_the_newest_stay_and_the_oldest_goes_first() {
    let events: Vec<Event> =
        (0..5).map(|at| event(&format!("e{at}"), i64::from(at), i64::from(at))).collect();
    assert_eq!(gone(&plan(events.iter().rev(), LIMITS, second(10))), ["e0", "e1"]);
}

#[test]
fn large_ones_count_by_their_bytes() {
    let mut large = event("large", 1, 1);
    large.message = Some("x".repeat(1000 * 1000));
    let events = [event("new", 2, 2), large, event("old", 0, 0)];
    assert!(gone(&plan(events.iter(), LIMITS, second(10))).is_empty());
    let two = [events.as_slice(), &[event("newest", 3, 3)]].concat();
    let limits = Limits { count: 10, bytes: 1000 * 1000, ..LIMITS };
    assert_eq!(gone(&plan(two.iter(), limits, second(10))), ["old", "large"]);
    // Whatever field the bytes are in.
    let mut odd = event("odd", 1, 1);
    odd.action = Some("x".repeat(1000 * 1000));
    let events = [event("new", 2, 2), odd];
    assert_eq!(gone(&plan(events.iter(), limits, second(10))), ["odd"]);
}

#[test]
fn one_that_claims_to_be_of_the_future_outlives_nobody() {
    let events =
        [event("liar", 0, 1_000_000), event("a", 5, 5), event("b", 6, 6), event("c", 7, 7)];
    let day = 24 * 3600;
    let few = plan(events.iter(), LIMITS, second(8));
    assert_eq!(gone(&few), ["liar"]);
    let many = plan(events.iter(), Limits { count: 10, ..LIMITS }, second(8));
    assert_eq!((gone(&many), many.wake_at), (vec![], Some(second(day))));
}

/// Collection keeps up with what comes: a full round is followed by the next one, and only a look that
/// found nothing to do is followed by a rest.
#[tokio::test(start_paused = true)]
async fn a_round_that_was_cut_is_followed_by_the_next_one_at_once() {
    let events = |count: usize| {
        let events = (0..count).map(|at| Any::Event(Arc::new(event(&format!("e{at}"), 0, 0))));
        events.collect::<Vec<_>>()
    };
    let (tools, asked) = obedient::tools(events(ROUND_OPS_MAX + 10), second(10));
    let controller = Controller::new(tools, LIMITS);
    for round in 1..=2 {
        let next = controller.reconcile(&()).await.unwrap();
        assert_eq!(next, Requeue::After(Duration::ZERO), "round {round}");
        assert_eq!(asked.groups(), round * ROUND_OPS_MAX);
    }
    let (tools, asked) = obedient::tools(events(2), second(10));
    let controller = Controller::new(tools, LIMITS);
    let next = controller.reconcile(&()).await.unwrap();
    assert_eq!(next, Requeue::AtRestUntil(second(24 * 3600)), "until the first is old");
    let Requeue::After(wait) = controller.reconcile(&()).await.unwrap() else { panic!("it waits") };
    assert!(!wait.is_zero() && wait <= Duration::from_secs(1), "each look reads all: {wait:?}");
    assert_eq!(asked.groups(), 0);
}
