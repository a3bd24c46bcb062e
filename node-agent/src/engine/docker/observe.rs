//! Translates the Docker Engine's description of a container into ours.

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState as DockerState,
    ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
};
use jiff::Timestamp;

use crate::engine::{ContainerState, Identity, Scope};

/// Exit codes above this are 128 + the number of a signal.
const SIGNALLED: i32 = 128;
const SIGNALS_MAX: i32 = 64;

/// Whose a container is.
pub(super) fn identity(inspected: &ContainerInspectResponse, scope: &Scope) -> Option<Identity> {
    let labels = inspected.config.as_ref()?.labels.as_ref()?;
    scope.identity_in(|key| labels.get(key).map(String::as_str))
}

/// What a container does.
pub(super) fn state(inspected: &ContainerInspectResponse) -> Option<ContainerState> {
    let state = inspected.state.as_ref()?;
    let time = |text: &Option<String>| text.as_deref().and_then(timestamp);
    let exited = || {
        let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(255);
        let signal = code - SIGNALLED;
        let at = time(&state.finished_at).unwrap_or(Timestamp::UNIX_EPOCH);
        ContainerState::Exited {
            // The engine records the start late: a short container may end before that time.
            started: time(&state.started_at).map(|started| started.min(at)),
            at,
            code,
            signal: (1..=SIGNALS_MAX).contains(&signal).then_some(signal),
            oom_killed: state.oom_killed.unwrap_or(false),
            is_unseen: state.exit_code.is_none(),
            message: state.error.clone().filter(|message| !message.is_empty()),
        }
    };
    match state.status? {
        ContainerStateStatusEnum::CREATED => Some(ContainerState::Created),
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::STOPPING
        | ContainerStateStatusEnum::RESTARTING => Some(ContainerState::Running {
            since: time(&state.started_at).unwrap_or(Timestamp::UNIX_EPOCH),
        }),
        ContainerStateStatusEnum::EXITED
        | ContainerStateStatusEnum::DEAD
        | ContainerStateStatusEnum::REMOVING => Some(exited()),
        ContainerStateStatusEnum::EMPTY => None,
    }
}

/// A container as the engine's list describes it, for when it cannot be inspected; `error` says
/// why. The time of the end is not known, so `now` is used: nobody knew of it earlier.
pub(super) fn of_summary(
    summary: ContainerSummary,
    error: String,
    now: Timestamp,
) -> ContainerInspectResponse {
    use ContainerSummaryStateEnum as Summary;
    let status = summary.state.map(|state| match state {
        Summary::EMPTY => ContainerStateStatusEnum::EMPTY,
        Summary::CREATED => ContainerStateStatusEnum::CREATED,
        Summary::RUNNING | Summary::RESTARTING | Summary::STOPPING => {
            ContainerStateStatusEnum::RUNNING
        }
        Summary::PAUSED => ContainerStateStatusEnum::PAUSED,
        Summary::EXITED | Summary::REMOVING | Summary::DEAD => ContainerStateStatusEnum::EXITED,
    });
    let started = summary.created.and_then(|second| Timestamp::from_second(second).ok());
    let state = DockerState {
        status,
        exit_code: summary.status.as_deref().and_then(exit_code),
        started_at: started.map(|started| started.to_string()),
        finished_at: Some(now.to_string()),
        error: Some(format!("the engine does not report how it ended: {error}")),
        ..DockerState::default()
    };
    let config = ContainerConfig { labels: summary.labels, ..ContainerConfig::default() };
    ContainerInspectResponse {
        id: summary.id,
        state: Some(state),
        config: Some(config),
        ..ContainerInspectResponse::default()
    }
}

/// The exit code in `Exited (137) 2 hours ago`.
fn exit_code(status: &str) -> Option<i64> {
    status.split_once('(')?.1.split_once(')')?.0.parse().ok()
}

/// Whether the kernel limits its memory.
pub(super) fn has_memory_limit(inspected: &ContainerInspectResponse) -> bool {
    let limit = inspected.host_config.as_ref().and_then(|host| host.memory);
    limit.is_some_and(|bytes| bytes > 0)
}

/// Its main process, while it runs.
pub(super) fn pid(inspected: &ContainerInspectResponse) -> Option<i64> {
    inspected.state.as_ref()?.pid.filter(|pid| *pid > 0)
}

/// Docker writes a time in the year 1 for "never".
fn timestamp(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_container_does_not_end_before_it_starts() {
        let state = DockerState {
            status: Some(ContainerStateStatusEnum::EXITED),
            exit_code: Some(143),
            started_at: Some("2026-11-21T10:00:00.5Z".to_owned()),
            finished_at: Some("2026-11-21T10:00:00.4Z".to_owned()),
            ..DockerState::default()
        };
        let inspected =
            ContainerInspectResponse { state: Some(state), ..ContainerInspectResponse::default() };
        let at = "2026-11-21T10:00:00.4Z".parse().unwrap();
        assert_eq!(
            super::state(&inspected),
            Some(ContainerState::Exited {
                started: Some(at),
                at,
                code: 143,
                signal: Some(15),
                oom_killed: false,
                is_unseen: false,
                message: None,
            })
        );
    }

    #[test]
    fn a_container_that_cannot_be_inspected_is_what_the_list_says() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let of = |state, status: &str| {
            let summary = ContainerSummary {
                id: Some("0af3".to_owned()),
                created: Some(now.as_second() - 60),
                state: Some(state),
                status: Some(status.to_owned()),
                ..ContainerSummary::default()
            };
            state_of(&of_summary(summary, "RWLayer is nil".to_owned(), now))
        };
        let since = now - jiff::SignedDuration::from_secs(60);
        let running = of(ContainerSummaryStateEnum::RUNNING, "Up 2 hours");
        assert_eq!(running, Some(ContainerState::Running { since }));
        for (status, expected) in [("Exited (137) 2 hours ago", 137), ("Dead", 255)] {
            let seen = of(ContainerSummaryStateEnum::EXITED, status);
            let Some(ContainerState::Exited { code, at, message, .. }) = seen else {
                panic!("{seen:?}");
            };
            assert_eq!((code, at), (expected, now));
            assert!(message.unwrap().contains("RWLayer is nil"));
        }
    }

    fn state_of(inspected: &ContainerInspectResponse) -> Option<ContainerState> {
        state(inspected)
    }

    #[test]
    fn a_container_that_never_ran_has_no_start() {
        assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
    }
}
