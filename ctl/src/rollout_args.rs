//! The command line of `hctl rollout` and `hctl history`.

use api::KindId;
use api::duration::Duration;
use clap::{ArgAction, Args as ClapArgs, Subcommand};

use crate::arguments;
use crate::completion::{Which, named};

/// What to do with the rollout of a service.
#[derive(Debug, Clone, Subcommand)]
pub enum Rollout {
    /// Wait until the newest revision is rolled out; fail if its rollout fails.
    Status(RolloutStatus),
    /// Show the revisions of a service: who rolled them out, when, and how that ended.
    History(History),
    /// Run what an earlier revision ran. The manifest stays as it is; applying a change to it ends that.
    Undo(Undo),
    /// Replace no further task until the rollout is resumed.
    Pause(OfService),
    /// Resume a paused rollout.
    Resume(OfService),
    /// Replace all tasks by others that run the same, as the service's rollout says.
    Restart(OfService),
    /// Let a rollout go on after its canaries, without waiting any longer.
    Promote(OfService),
    /// End the rollout as failed: replace no further task, or go back if `onFailure` is Rollback.
    Abort(OfService),
}

/// A service.
#[derive(Debug, Clone, ClapArgs)]
pub struct OfService {
    /// SERVICE, service/S or service S.
    #[arg(required = true, value_name = "SERVICE", num_args = 1..)]
    #[arg(add = named(KindId::Service, &[], Which::All))]
    pub service: Vec<String>,
}

/// Arguments of `rollout status`.
#[derive(Debug, Clone, ClapArgs)]
pub struct RolloutStatus {
    /// The service.
    #[command(flatten)]
    pub of: OfService,
    /// Whether to wait for the end. With -w=false, print the status once.
    #[arg(short, long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub watch: bool,
    /// Fail if this is not the newest revision, or is no longer.
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    pub revision: Option<u32>,
    /// How long to wait, such as 90s or 1h30m [default: no limit].
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

/// Arguments of `history`.
#[derive(Debug, Clone, ClapArgs)]
pub struct History {
    /// The service.
    #[command(flatten)]
    pub of: OfService,
    /// Show what this revision runs.
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    pub revision: Option<u32>,
}

/// Arguments of `rollout undo`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Undo {
    /// The service.
    #[command(flatten)]
    pub of: OfService,
    /// Revision to go back to [default: the one before the newest].
    #[arg(long, value_name = "NUMBER", value_parser = arguments::number)]
    pub to_revision: Option<u32>,
}
