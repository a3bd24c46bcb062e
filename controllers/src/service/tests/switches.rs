//! Services that are suspended, that expire, and whose rollouts are suspended.

use expect_test::expect;

use super::*;

#[test]
fn a_suspended_service_stops_and_goes_on_as_it_was() {
    check(
        "spec replicas=2
         finish
         spec suspend=true
         plan
         status
         stopped 1-0 1-1
         plan
         status
         rest
         spec suspend=false
         plan
         finish
         status",
        expect![[r#"
            stop web-1-0: Suspend
            stop web-1-1: Suspend
            Suspended: all tasks are being stopped
            Suspended 2/2 ready, 2 updated, revision 1 of 1 Complete: 2 tasks are still being stopped
            nothing
            Suspended 0/2 ready, 0 updated, revision 1 of 1 Complete
            at rest
            again web-1-0 at 0s
            again web-1-1 at 0s
            Resumed: the tasks start again
            TaskRetried: web-1-0 (Cancelled), web-1-1 (Cancelled) start again
            Running 2/2 ready, 2 updated, revision 1 of 1 Complete
        "#]],
    );
}

#[test]
fn a_service_that_was_changed_while_it_was_suspended_starts_with_the_change() {
    check(
        "spec replicas=2
         finish
         spec suspend=true
         finish
         spec template.image=\"two\"
         settle
         status
         spec suspend=false
         plan
         plan
         finish
         status",
        expect![[r#"
            Suspended 0/2 ready, 0 updated, revision 1 of 2 Progressing
            remove web-1-0
            again web-1-1 at 0s
            Resumed: the tasks start again
            TaskRetried: web-1-0 (Cancelled), web-1-1 (Cancelled) start again
            create web-2-0 of <two>
            Running 2/2 ready, 2 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_suspended_rollout_replaces_nothing_more() {
    check(
        "spec replicas=3
         finish
         spec template.image=\"two\"
         settle
         spec rollout.suspend=true
         stopped 1-0
         plan
         plan
         finish
         status
         spec rollout.suspend=false
         finish
         status",
        expect![[r#"
            remove web-1-0
            create web-1-3 of <one>
            nothing
            Paused 3/3 ready, 0 updated, revision 1 of 2 Suspended: rollout of revision 2 is suspended: 0 of 3 tasks run it
            Running 3/3 ready, 3 updated, revision 2 of 2 Complete
        "#]],
    );
}

#[test]
fn a_service_that_has_expired_stops_for_good() {
    check(
        "spec replicas=2 expiresAt=\"1970-01-01T00:01:00Z\"
         settle
         start 1-0 1-1
         settle
         rest
         wait 60
         plan
         status
         stopped 1-0 1-1
         plan
         plan
         status
         rest
         spec expiresAt=\"1970-01-01T01:00:00Z\"
         plan
         status",
        expect![[r#"
            at rest until 60s
            stop web-1-0: JobEnded
            stop web-1-1: JobEnded
            Expired: expiresAt has passed: all tasks are stopped
            Expired 2/0 ready, 2 updated, revision 1 of 1 Complete: expired at 1970-01-01T00:01:00Z
            remove web-1-0
            remove web-1-1
            nothing
            Expired 0/0 ready, 0 updated, revision 1 of 1 Complete: expired at 1970-01-01T00:01:00Z
            at rest
            create web-1-0 web-1-1 of <one>
            Scaled: scaled from 0 to 2 tasks
            Degraded 0/2 ready, 0 updated, revision 1 of 1 Complete: 0 of 2 tasks are ready
        "#]],
    );
}
