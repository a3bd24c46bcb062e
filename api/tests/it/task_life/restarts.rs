//! The life of a task that is restarted in place.

use super::*;

#[test]
fn a_task_goes_back_to_starting_only_with_another_container() {
    check(
        "
        bind n1
        Running
        Starting
        Starting 1
        Starting 1
        Running
        Running 1
        Running 3
        Starting 2
        refuse
        Starting 4
        refuse
        evict Drain
        Cancelled
        Starting 5
        ",
        expect![[r#"
            bind n1: Bound attempt 1 takes n1
            Running: Running attempt 1 takes n1
            Starting: refused: the task is already running
            Starting 1: Starting attempt 1 takes n1
            Starting 1: already
            Running: refused: restart 0 is over; the current one is 1
            Running 1: Running attempt 1 takes n1
            Running 3: Running attempt 1 takes n1
            Starting 2: refused: restart 2 is over; the current one is 3
            refuse: refused: the task was started
            Starting 4: Starting attempt 1 takes n1
            refuse: refused: the task was started
            evict Drain: Stopping attempt 1 takes n1
            Cancelled: Cancelled attempt 1
            Starting 5: refused: the task has ended: it is Cancelled
        "#]],
    );
}

/// Its clock is that of the apiserver alone.
#[test]
fn a_task_is_ready_since_it_became_ready_without_a_break() {
    let mut task = new_task();
    let mut told = String::new();
    let life =
        ["bind n1", "Starting", "Running", "Running", "Starting 1", "Running 1", "Running 2"];
    for (minute, line) in (0..).zip(life) {
        let mut change = change(&task, line);
        if let (TaskChange::Report(report), 3) = (&mut change, minute) {
            // Another report of the same container, which says something new.
            report.message = Some("cannot send the stop signal".to_owned());
        }
        let at = now() + jiff::SignedDuration::from_mins(minute);
        let Ok(Applied::Changed(next)) = apply(&task, 1, &change, at) else { panic!("{line}") };
        task = *next;
        let since = task.status.ready_since.map_or("-".to_owned(), |since| since.to_string());
        told.push_str(&format!("{line}: {since}\n"));
    }
    let expected = expect![[r#"
        bind n1: -
        Starting: -
        Running: 2026-01-02T00:02:00Z
        Running: 2026-01-02T00:02:00Z
        Starting 1: -
        Running 1: 2026-01-02T00:05:00Z
        Running 2: 2026-01-02T00:06:00Z
    "#]];
    expected.assert_eq(&told);
}
