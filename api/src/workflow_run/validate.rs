//! Rules of a run. Its parameters are checked against its workflow by
//! [`crate::workflow::check_params`].

use super::WorkflowRun;
use crate::kind::KindId;
use crate::violation::Violation;
use crate::{metadata, names};

/// Most parameters of a run.
const PARAMS_MAX: usize = 1_000;

/// What is wrong with a run.
pub(super) fn validate(run: &WorkflowRun) -> Vec<Violation> {
    let mut found = metadata::validate(KindId::WorkflowRun, &run.metadata);
    if let Some(problem) = names::problem(&run.spec.workflow) {
        found.push(Violation::new("spec.workflow", problem));
    }
    if run.spec.params.len() > PARAMS_MAX {
        let why = format!("{} parameters; at most {PARAMS_MAX} are allowed", run.spec.params.len());
        found.push(Violation::new("spec.params", why));
    }
    for name in run.spec.params.keys() {
        if let Some(problem) = names::variable_problem(name) {
            found.push(Violation::new(format!("spec.params[{name:?}]"), problem));
        }
    }
    found
}

/// The violations of changing `old` into `new`: workflow and parameters of a run never change.
pub(super) fn validate_update(new: &WorkflowRun, old: &WorkflowRun) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut fixed = |field: &str| {
        let why = "cannot be changed after the run is created";
        found.push(Violation::new(format!("spec.{field}"), why).hint("start another run"));
    };
    if new.spec.workflow != old.spec.workflow {
        fixed("workflow");
    }
    if new.spec.params != old.spec.params {
        fixed("params");
    }
    let mut too_late = |field: &str, verb: &str| {
        let why = format!("the run has ended ({}): nothing to {verb}", old.status.phase);
        found.push(Violation::new(format!("spec.{field}"), why).hint("start another run"));
    };
    // A run that has ended never continues. Accepting the change would promise something that never
    // happens.
    if old.status.phase.is_final() {
        if new.spec.cancel && !old.spec.cancel {
            too_late("cancel", "cancel");
        }
        if new.spec.suspend && !old.spec.suspend {
            too_late("suspend", "suspend");
        }
    }
    if old.spec.cancel && !new.spec.cancel {
        let why = "a cancelled run cannot be resumed";
        found.push(Violation::new("spec.cancel", why).hint("start another run"));
    }
    found
}
