//! Arguments of the commands about nodes and labels.

use api::KindId;
use api::duration::Duration;
use clap::Args;

use crate::completion::{Which, named, objects};

/// Arguments of `drain`.
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// NODE..., node/N... or node N...
    #[arg(required = true, value_name = "NODE")]
    #[arg(add = named(KindId::Node, &[], Which::All))]
    pub nodes: Vec<String>,
    /// When the drain gives up, such as 90s or 1h30m [default: never].
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// At the end of the timeout, evict the tasks that are left.
    #[arg(long, requires = "timeout")]
    pub force: bool,
    /// Return at once. The drain goes on.
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `label`.
#[derive(Debug, Clone, Args)]
pub struct Label {
    /// KIND NAME... or KIND/NAME..., then KEY=VALUE to set a label and KEY- to remove it.
    #[arg(required = true, value_name = "KIND/NAME|KEY=VALUE|KEY-", num_args = 1..)]
    #[arg(add = objects(&[], Which::All))]
    pub words: Vec<String>,
    /// Change labels that have another value.
    #[arg(long)]
    pub overwrite: bool,
}

/// Arguments of `taint`.
#[derive(Debug, Clone, Args)]
pub struct Taint {
    /// NODE..., node/N... or nodes N..., then KEY=VALUE:EFFECT to set a taint, KEY:EFFECT- or KEY- to
    /// remove taints.
    #[arg(required = true, value_name = "NODE|KEY=VALUE:EFFECT|KEY-", num_args = 1..)]
    #[arg(add = named(KindId::Node, &[], Which::All))]
    pub words: Vec<String>,
    /// Change taints that have another value.
    #[arg(long)]
    pub overwrite: bool,
}
