//! The life of a task: every row of its table, and what holds over all lives.

mod restarts;

use api::task::report::Report;
use api::task::report::{MESSAGE_CHARS_MAX, REASON_CHARS_MAX};
use api::task::transition::{Amend, Applied, Rerun, Retry, TaskChange, apply};
use api::task::{Overrides, ReportState, StopReason, TaskPhase, TaskSpec};
use api::{Task, Timestamp};
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().unwrap()
}

fn new_task() -> Task {
    let spec = TaskSpec {
        template: "load-0123456789".to_owned(),
        count: 1,
        run: 1,
        attempt: 1,
        ..TaskSpec::default()
    };
    Task::new("default", "load-0", spec)
}

fn report(task: &Task, state: ReportState) -> TaskChange {
    let binding = task.spec.binding.as_ref().map_or(0, |binding| binding.number);
    TaskChange::Report(Box::new(Report {
        binding,
        boot_id: "b1".to_owned(),
        state,
        ready: false,
        restarts: 0,
        exit_code: None,
        reason: None,
        message: None,
        started_at: None,
        finished_at: None,
        ports: [].into(),
        last_exit: None,
        image_digest: None,
        restart_at: None,
    }))
}

fn rerun(task: &Task, run: u32) -> TaskChange {
    TaskChange::Rerun(Box::new(Rerun {
        run,
        template: "load-1111111111".to_owned(),
        overrides: Overrides::default(),
        index: task.spec.index,
        count: task.spec.count,
        priority: 0,
    }))
}

fn retry(counts: bool) -> TaskChange {
    TaskChange::Retry(Retry {
        counts,
        not_before: None,
        avoid: Some("n1".to_owned()),
        image_digest: None,
    })
}

/// The change that a line means: `bind n1`, `running`, `evict Drain`, ...
fn change(task: &Task, line: &str) -> TaskChange {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "bind" => TaskChange::Bind { node: rest.to_owned() },
        "unschedulable" => TaskChange::Unschedulable { message: rest.to_owned() },
        "refuse" => {
            let binding = task.spec.binding.as_ref().map_or(0, |binding| binding.number);
            TaskChange::Refuse { binding, message: "no room".to_owned() }
        }
        "evict" => TaskChange::evict(serde_json::from_value(rest.to_owned().into()).unwrap()),
        "lose" => TaskChange::Lose,
        "recover" => TaskChange::Recover,
        "replaceable" => TaskChange::Replaceable,
        "retry" => retry(rest != "uncounted"),
        "rerun" => rerun(task, rest.parse().unwrap()),
        "record" => TaskChange::Record,
        "amend" => TaskChange::Amend(Box::new(Amend {
            template: task.spec.template.clone(),
            count: rest.parse().unwrap(),
            priority: 0,
            overrides: Overrides::default(),
        })),
        state => {
            let state = serde_json::from_value(state.to_owned().into());
            let state = state.unwrap_or_else(|_| panic!("no change is written {line:?}"));
            let TaskChange::Report(mut report) = report(task, state) else { unreachable!() };
            // `Running 2`: of the container that was started again twice.
            report.restarts = rest.parse().unwrap_or_default();
            report.ready = state == ReportState::Running;
            TaskChange::Report(report)
        }
    }
}

/// A life, line by line; `verb @1` is decided on attempt 1. What each line comes to.
fn check(lines: &str, expected: Expect) {
    let mut task = new_task();
    let mut told = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (what, attempt) = match line.split_once(" @") {
            Some((what, attempt)) => (what, attempt.parse().unwrap()),
            None => (line, task.spec.attempt),
        };
        let outcome = match apply(&task, attempt, &change(&task, what), now()) {
            Ok(Applied::Changed(next)) => {
                task = *next;
                let takes = task.takes_resources_on().map(|node| format!(" takes {node}"));
                let takes = takes.unwrap_or_default();
                format!("{} attempt {}{takes}", task.phase(), task.spec.attempt)
            }
            Ok(Applied::Already) => "already".to_owned(),
            Err(refusal) => format!("refused: {refusal}"),
        };
        told.push_str(&format!("{line}: {outcome}\n"));
    }
    expected.assert_eq(&told);
}

#[test]
fn a_task_is_bound_runs_ends_and_is_recorded() {
    check(
        "
        Running
        retry
        record
        bind n1
        bind n1
        bind n2
        amend 2
        Starting
        Running
        Running
        Starting
        refuse
        Succeeded
        Succeeded
        Failed
        retry
        evict Cancel
        lose
        record
        record
        rerun 1
        rerun 2
        amend 5
        Succeeded @1
        bind n2
        ",
        expect![[r#"
            Running: refused: binding 0 is not the current one
            retry: refused: the task cannot be tried again: it is Pending
            record: refused: the task has not ended: it is Pending
            bind n1: Bound attempt 1 takes n1
            bind n1: already
            bind n2: refused: the task is not pending: it is Bound
            amend 2: refused: the task is not pending: it is Bound
            Starting: Starting attempt 1 takes n1
            Running: Running attempt 1 takes n1
            Running: already
            Starting: refused: the task is already running
            refuse: refused: the task was started
            Succeeded: Succeeded attempt 1
            Succeeded: already
            Failed: refused: the task has ended: it is Succeeded
            retry: refused: the task cannot be tried again: it is Succeeded
            evict Cancel: refused: the task has ended: it is Succeeded
            lose: refused: the task runs nowhere: it is Succeeded
            record: Succeeded attempt 1
            record: already
            rerun 1: refused: the task is already in run 1
            rerun 2: Pending attempt 2
            amend 5: Pending attempt 2
            Succeeded @1: refused: attempt 1 is over; the current one is 2
            bind n2: Bound attempt 2 takes n2
        "#]],
    );
}

/// An agent of an older version must get rid of its reports, too: a refused end would leave its task
/// waiting for ever.
#[test]
fn a_report_beyond_its_bounds_is_cut_and_counts() {
    let mut task = new_task();
    for line in ["bind n1", "Failed"] {
        let mut change = change(&task, line);
        if let TaskChange::Report(report) = &mut change {
            report.message = Some("x".repeat(100_000));
            report.reason = Some("Y".repeat(1_000));
        }
        let Ok(Applied::Changed(next)) = apply(&task, 1, &change, now()) else { panic!("{line}") };
        task = *next;
    }
    assert_eq!(task.phase(), TaskPhase::Failed);
    let chars = |text: &Option<String>| text.as_ref().unwrap().chars().count();
    assert!(chars(&task.status.message) <= MESSAGE_CHARS_MAX);
    assert!(chars(&task.status.reason) <= REASON_CHARS_MAX);
}

#[test]
fn a_refused_binding_burns_no_attempt() {
    check(
        "
        unschedulable 0 of 3 nodes
        unschedulable 0 of 3 nodes
        bind n1
        refuse
        refuse
        Running
        bind n2
        Running
        ",
        expect![[r#"
            unschedulable 0 of 3 nodes: Pending attempt 1
            unschedulable 0 of 3 nodes: already
            bind n1: Bound attempt 1 takes n1
            refuse: Pending attempt 1
            refuse: already
            Running: refused: binding 1 is not the current one
            bind n2: Bound attempt 1 takes n2
            Running: Running attempt 1 takes n2
        "#]],
    );
}

#[test]
fn what_was_being_started_may_be_given_back_until_it_runs() {
    check(
        "
        bind n1
        Starting
        refuse
        refuse
        Starting
        bind n2
        Running
        refuse
        ",
        expect![[r#"
            bind n1: Bound attempt 1 takes n1
            Starting: Starting attempt 1 takes n1
            refuse: Pending attempt 1
            refuse: already
            Starting: refused: binding 1 is not the current one
            bind n2: Bound attempt 1 takes n2
            Running: Running attempt 1 takes n2
            refuse: refused: the task was started
        "#]],
    );
}

#[test]
fn a_stop_is_set_once_and_holds_for_its_attempt() {
    check(
        "
        evict Suspend
        evict Cancel
        bind n1
        retry uncounted
        bind n1
        Running
        evict Drain
        evict Cancel
        Cancelled
        retry uncounted
        evict Drain @2
        bind n2
        evict Cancel
        Cancelled
        retry
        record
        ",
        expect![[r#"
            evict Suspend: Cancelled attempt 1
            evict Cancel: already
            bind n1: refused: the task is not pending: it is Cancelled
            retry uncounted: Pending attempt 2
            bind n1: Bound attempt 2 takes n1
            Running: Running attempt 2 takes n1
            evict Drain: Stopping attempt 2 takes n1
            evict Cancel: already
            Cancelled: Cancelled attempt 2
            retry uncounted: Pending attempt 3
            evict Drain @2: refused: attempt 2 is over; the current one is 3
            bind n2: Bound attempt 3 takes n2
            evict Cancel: Stopping attempt 3 takes n2
            Cancelled: Cancelled attempt 3
            retry: refused: the task was stopped for good
            record: Cancelled attempt 3
        "#]],
    );
}

#[test]
fn a_lost_task_waits_to_be_replaceable() {
    check(
        "
        lose
        bind n1
        Running
        lose
        lose
        recover
        recover
        lose
        retry
        replaceable
        replaceable
        retry uncounted
        recover @1
        Succeeded @1
        bind n2
        lose
        replaceable
        Succeeded
        retry
        ",
        expect![[r#"
            lose: refused: the task runs nowhere: it is Pending
            bind n1: Bound attempt 1 takes n1
            Running: Running attempt 1 takes n1
            lose: Lost attempt 1 takes n1
            lose: already
            recover: Running attempt 1 takes n1
            recover: already
            lose: Lost attempt 1 takes n1
            retry: refused: the task cannot be tried again: it is Lost
            replaceable: Lost attempt 1
            replaceable: already
            retry uncounted: Pending attempt 2
            recover @1: refused: attempt 1 is over; the current one is 2
            Succeeded @1: refused: attempt 1 is over; the current one is 2
            bind n2: Bound attempt 2 takes n2
            lose: Lost attempt 2 takes n2
            replaceable: Lost attempt 2
            Succeeded: Succeeded attempt 2
            retry: refused: the task cannot be tried again: it is Succeeded
        "#]],
    );
}

#[test]
fn a_lost_task_that_is_not_wanted_ends_for_good() {
    check(
        "
        bind n1
        Running
        lose
        evict Cancel
        replaceable
        recover
        Succeeded
        retry
        record
        rerun 2
        ",
        expect![[r#"
            bind n1: Bound attempt 1 takes n1
            Running: Running attempt 1 takes n1
            lose: Lost attempt 1 takes n1
            evict Cancel: Lost attempt 1 takes n1
            replaceable: Cancelled attempt 1
            recover: refused: the task has ended: it is Cancelled
            Succeeded: refused: the task has ended: it is Cancelled
            retry: refused: the task was stopped for good
            record: Cancelled attempt 1
            rerun 2: Pending attempt 2
        "#]],
    );
}

#[test]
fn a_failed_task_is_tried_again_until_it_is_recorded() {
    check(
        "
        bind n1
        Failed
        retry
        retry @1
        bind n1
        TimedOut
        retry
        bind n1
        Failed
        record
        retry
        ",
        expect![[r#"
            bind n1: Bound attempt 1 takes n1
            Failed: Failed attempt 1
            retry: Pending attempt 2
            retry @1: already
            bind n1: Bound attempt 2 takes n1
            TimedOut: TimedOut attempt 2
            retry: Pending attempt 3
            bind n1: Bound attempt 3 takes n1
            Failed: Failed attempt 3
            record: Failed attempt 3
            retry: refused: its end is already recorded
        "#]],
    );
}

#[test]
fn a_task_that_is_being_deleted_is_not_bound() {
    let mut task = new_task();
    task.metadata.deletion_timestamp = Some(api::Time(now()));
    let bind = TaskChange::Bind { node: "n1".to_owned() };
    let refusal = apply(&task, 1, &bind, now()).unwrap_err();
    assert_eq!(refusal.to_string(), "the task is being deleted");
}

#[test]
fn an_attempt_remembers_the_ones_before_it_within_bounds() {
    let mut task = new_task();
    for attempt in 1..=8 {
        for line in [format!("bind n{attempt}"), "Failed".to_owned(), "retry".to_owned()] {
            let change = match line.as_str() {
                "retry" => TaskChange::Retry(Retry {
                    counts: true,
                    not_before: None,
                    avoid: Some(format!("n{attempt}")),
                    image_digest: None,
                }),
                line => change(&task, line),
            };
            let Applied::Changed(next) = apply(&task, attempt, &change, now()).unwrap() else {
                panic!("{line} changes it")
            };
            task = *next;
        }
    }
    let remembered: Vec<u32> = task.status.attempts.iter().map(|past| past.attempt).collect();
    assert_eq!(remembered, [4, 5, 6, 7, 8]);
    assert_eq!(task.status.attempts[0].node_name.as_deref(), Some("n4"));
    assert_eq!(task.spec.avoid, ["n4", "n5", "n6", "n7", "n8"]);
    assert_eq!(task.spec.failures, 8);
}

const REASONS: [StopReason; 5] = [
    StopReason::Cancel,
    StopReason::Delete,
    StopReason::Drain,
    StopReason::Suspend,
    StopReason::Timeout,
];
const STATES: [ReportState; 6] = [
    ReportState::Starting,
    ReportState::Running,
    ReportState::Succeeded,
    ReportState::Failed,
    ReportState::TimedOut,
    ReportState::Cancelled,
];

/// A change that a component may ask for, decided on what it saw; `pick` chooses among several.
fn asked(task: &Task, kind: usize, pick: usize) -> TaskChange {
    match kind {
        0 | 1 => TaskChange::Bind { node: format!("n{}", pick % 2) },
        2 => TaskChange::Unschedulable { message: format!("{pick} nodes") },
        3 => change(task, "refuse"),
        4..=6 => report(task, STATES[pick % STATES.len()]),
        7 => TaskChange::evict(REASONS[pick % REASONS.len()]),
        8 => TaskChange::Lose,
        9 => TaskChange::Recover,
        10 => TaskChange::Replaceable,
        11 => retry(pick.is_multiple_of(2)),
        12 => rerun(task, task.spec.run + u32::try_from(pick % 2).unwrap()),
        13 => change(task, &format!("amend {pick}")),
        _ => TaskChange::Record,
    }
}

fn has_ended(phase: TaskPhase) -> bool {
    matches!(
        phase,
        TaskPhase::Succeeded | TaskPhase::Failed | TaskPhase::TimedOut | TaskPhase::Cancelled
    )
}

/// What holds of any step from one task to the next.
fn holds(before: &Task, change: &TaskChange, after: &Task) {
    let (was, is) = (&before.spec, &after.spec);
    let opens = matches!(change, TaskChange::Retry(_) | TaskChange::Rerun(_));
    let opened = is.attempt - was.attempt;
    assert_eq!(opened, u32::from(opens), "attempts grow by one, and only by retry and rerun");
    assert!(is.run >= was.run, "runs only grow");
    let number = |task: &Task| task.spec.binding.as_ref().map_or(0, |binding| binding.number);
    assert!(number(after) >= number(before), "binding numbers only grow");
    if opened == 0 && before.has_ended() {
        assert_eq!(before.phase(), after.phase(), "an end is final for its attempt");
    }
    if opened == 0 && before.stop().is_some() {
        assert_eq!(before.stop(), after.stop(), "a stop is set once");
    }
    recorded_is_final(before, change, after);
    if let TaskChange::Bind { node } = change {
        assert_eq!(after.phase(), TaskPhase::Bound, "a binding is a fresh one");
        assert_eq!(after.takes_resources_on(), Some(node.as_str()));
    }
    if opened == 1 {
        assert_eq!(after.phase(), TaskPhase::Pending, "a new attempt waits for a node");
        assert_eq!(after.takes_resources_on(), None, "and takes nothing");
    }
    the_phase_follows_from_the_parts(after);
}

/// Numbers at the end of their range end in a refusal that says why, never in a panic or in a number
/// that was used before.
#[test]
fn no_number_follows_the_last_one() {
    let apply = |task: &Task, change: &TaskChange| apply(task, task.spec.attempt, change, now());
    let mut task = new_task();
    task.spec.attempt = u32::MAX;
    let Ok(Applied::Changed(bound)) = apply(&task, &TaskChange::Bind { node: "n1".to_owned() })
    else {
        panic!("its attempt can be bound")
    };
    let Ok(Applied::Changed(failed)) = apply(&bound, &report(&bound, ReportState::Failed)) else {
        panic!("it can end")
    };
    let refused = apply(&failed, &retry(true)).unwrap_err().to_string();
    assert!(refused.contains("cannot grow any further"), "{refused}");
    let refused = apply(&failed, &rerun(&failed, 2)).unwrap_err().to_string();
    assert!(refused.contains("cannot grow any further"), "{refused}");
    let mut task = bound;
    task.spec.binding.as_mut().unwrap().number = u32::MAX;
    let Ok(Applied::Changed(given_back)) =
        apply(&task, &TaskChange::Refuse { binding: u32::MAX, message: String::new() })
    else {
        panic!("it can be given back")
    };
    let refused = apply(&given_back, &TaskChange::Bind { node: "n1".to_owned() }).unwrap_err();
    assert!(refused.to_string().contains("cannot grow any further"), "{refused}");
    // Failures are only compared with a limit.
    let mut task = *failed;
    (task.spec.attempt, task.spec.failures) = (1, u32::MAX);
    task.spec.binding.as_mut().unwrap().attempt = 1;
    task.status.attempt = 1;
    let Ok(Applied::Changed(next)) = apply(&task, &retry(true)) else {
        panic!("it is tried again")
    };
    assert_eq!((next.spec.attempt, next.spec.failures), (2, u32::MAX));
}

fn recorded_is_final(before: &Task, change: &TaskChange, after: &Task) {
    let (was, is) = (&before.spec, &after.spec);
    if was.recorded == Some(was.run) && is.run == was.run {
        let given_up = after.phase() == TaskPhase::Lost && after.takes_resources_on().is_none();
        let what = "what is recorded does not go on in its run";
        assert!(after.has_ended() || given_up, "{what}: {change:?} led to {}", after.phase());
        assert_eq!(is.attempt, was.attempt, "nor is it tried again");
    }
}

fn the_phase_follows_from_the_parts(after: &Task) {
    assert_eq!(has_ended(after.phase()), after.has_ended());
    let lied = {
        let mut task = after.clone();
        task.status.phase = Some(TaskPhase::Lost);
        task
    };
    assert_eq!(lied.phase(), after.phase(), "the phase is a function of the parts");
    assert_eq!(after.clone().to_wire().to_stored(), after.clone());
    assert_eq!(after.clone().to_wire().phase(), after.phase());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn promises_hold_over_any_life(
        steps in proptest::collection::vec((0..15_usize, 0..12_usize, 0..8_usize), 1..40)
    ) {
        let mut task = new_task();
        // What components have seen: they may decide on any of it.
        let mut seen = vec![task.clone()];
        for (kind, pick, age) in steps {
            let view = &seen[seen.len().saturating_sub(1 + age / 4)];
            let (attempt, change) = (view.spec.attempt, asked(view, kind, pick));
            let Ok(Applied::Changed(next)) = apply(&task, attempt, &change, now()) else { continue };
            holds(&task, &change, &next);
            prop_assert_eq!(apply(&next, attempt, &change, now()), Ok(Applied::Already), "{:?}", change);
            task = *next;
            seen.push(task.clone());
        }
        let wire = serde_json::to_value(task.clone().to_wire()).unwrap();
        let read: Task = serde_json::from_value(wire).unwrap();
        prop_assert_eq!(read.to_stored(), task);
    }
}
