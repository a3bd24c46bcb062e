//! Decides what a service needs next.
//!
//! # Invariants
//!
//! * No ready task is stopped by a rollout, a drain or by scaling down while fewer tasks would then be ready
//!   than `maxUnavailable` allows.
//! * A new revision is tried by as many tasks at a time as `parallelism` says. A task of an earlier
//!   revision that ends by itself meanwhile is started again as it was, unless it is its turn: a bad
//!   revision takes no place of a good one because a node was lost.
//! * A task of another owner is never adopted.
//! * On the state that its own actions lead to, `plan` returns nothing (it is a fixpoint).

mod asked;
mod members;
mod moving;
mod news;
mod objects;
mod places;
mod stages;
mod status;
mod steps;
mod target;

use std::collections::BTreeSet;
use std::fmt;

use api::object::Kind as _;
use api::service::RolloutState;
use api::{Job, Node, Service, Task, TaskTemplate, Timestamp};

use crate::action::{Action, Group};
use crate::notice::Notice;
use crate::packing::{self, Parcel};
use members::Members;
use places::Places;
use target::Target;

pub(crate) use objects::{pin, template};

/// Everything that the decision may depend on, as of one revision.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The service.
    pub service: &'a Service,
    /// The tasks that it controls (by uid), in any order.
    pub tasks: &'a [&'a Task],
    /// The templates that it controls.
    pub templates: &'a [&'a TaskTemplate],
    /// The object with the name of the template of the service as it is now, whoever owns it.
    pub template: Option<&'a TaskTemplate>,
    /// All nodes, if the service has one task on each; otherwise empty.
    pub nodes: &'a [&'a Node],
    /// Names of nodes that are being drained, of those that its tasks are on.
    pub draining: &'a BTreeSet<String>,
    /// The jobs that it controls: those of its rollouts.
    pub jobs: &'a [&'a Job],
    /// Names that its jobs need and that jobs of other owners have.
    pub taken_jobs: &'a BTreeSet<String>,
    /// Names that the service's tasks may need and that tasks of other owners have.
    pub taken: &'a BTreeSet<String>,
    /// The time.
    pub now: Timestamp,
}

/// What to do next about a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The writes. Each group happens as a whole or not at all, independently of the others.
    pub groups: Vec<Group>,
    /// A status in which only counts have changed. It may be written a little later.
    pub status: Option<Box<Service>>,
    /// When to plan again even if nothing has changed.
    pub wake_at: Option<Timestamp>,
    /// What to report to users once the writes have succeeded.
    pub notices: Vec<Notice>,
}

/// What keeps a service from going on, until somebody does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// An object of another owner has the name of one of its objects.
    NameTaken {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl Obstacle {
    /// The reason, in one CamelCase word.
    fn reason(&self) -> &'static str {
        match self {
            Obstacle::NameTaken { .. } => "NameTaken",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::NameTaken { kind, name } => {
                write!(f, "{kind} {name} exists and belongs to another owner")
            }
        }
    }
}

/// What the service does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It keeps its tasks up.
    Usual,
    /// Its tasks are stopped, to be started again later.
    Suspended,
    /// Its tasks are stopped for good.
    Expired,
}

impl Course {
    fn of(service: &Service, now: Timestamp) -> Self {
        if service.spec.has_expired(now) {
            Course::Expired
        } else if service.spec.is_suspended() {
            Course::Suspended
        } else {
            Course::Usual
        }
    }
}

/// How many operations a plan asks for at most; the next plan asks for the rest.
const ROUND_OPS_MAX: usize = 1_000;
/// The maximum number of operations in a group.
const GROUP_OPS: usize = 99;

/// The input of a plan, with everything that is derived from it.
#[derive(Debug)]
struct PlanInput<'a> {
    view: &'a View<'a>,
    course: Course,
    /// The revisions, and the state of the rollout.
    target: Target,
    places: Places<'a>,
    members: Members<'a>,
}

/// Decides what to do next about the service.
pub fn plan(view: &View<'_>) -> Plan {
    // The garbage collector stops and removes the tasks. A plan made now would start them again.
    if view.service.is_deleting() {
        return Plan::default();
    }
    let course = Course::of(view.service, view.now);
    let places = Places::of(view);
    let (mut target, obstacle) = Target::of(view);
    if target.opens {
        target = target.with_stages(view, places.total());
        let number = target.rollout.revision;
        let message =
            format!("rolling out revision {number}: {}", view.service.spec.template.image);
        let notice = Notice { warning: false, reason: "RolloutStarted", message };
        return opening((view, course), places, target, None, vec![notice]);
    }
    let told: Vec<Notice> = asked::carry_out(&mut target, view).into_iter().collect();
    if target.opens {
        return opening((view, course), places, target, obstacle.as_ref(), told);
    }
    // Where a new revision cannot be made, the tasks of those before are kept up meanwhile.
    let mut plan = going_on(view, course, places, target, obstacle);
    plan.notices.splice(0..0, told);
    plan
}

/// Makes a new revision: its template and its number in the status, together. Tasks follow with the
/// next plan. The status says already that the service is not as wanted: whoever waits for it must
/// never see that a change was looked at together with how the service was before.
fn opening(
    (view, course): (&View<'_>, Course),
    places: Places<'_>,
    target: Target,
    obstacle: Option<&Obstacle>,
    notices: Vec<Notice>,
) -> Plan {
    let members = Members::of(view, |task| target.is_run_by(task), &places);
    let template = missing_template(view, &target).map(Action::create);
    let input = PlanInput { view, course, target, places, members };
    let mut next = view.service.clone();
    next.status = status::next(&input, obstacle);
    let actions = template.into_iter().chain([Action::status(next)]).collect();
    Plan { groups: vec![Group { actions }], notices, ..Plan::default() }
}

/// The template that tasks should run, if it is the spec's and does not exist: it is new, or
/// somebody has deleted it.
fn missing_template(view: &View<'_>, target: &Target) -> Option<TaskTemplate> {
    if view.template.is_some() {
        return None;
    }
    Some(template(view.service)).filter(|wanted| target.template() == wanted.name())
}

fn going_on(
    view: &View<'_>,
    course: Course,
    places: Places<'_>,
    mut target: Target,
    obstacle: Option<Obstacle>,
) -> Plan {
    let notice = match course {
        Course::Usual => {
            let members = Members::of(view, |task| target.is_run_by(task), &places);
            target.judge(view, &members, places.total())
        }
        Course::Suspended | Course::Expired => None,
    };
    if target.opens {
        let notices = notice.into_iter().collect();
        return opening((view, course), places, target, obstacle.as_ref(), notices);
    }
    let members = Members::of(view, |task| target.is_run_by(task), &places);
    let input = PlanInput { view, course, target, places, members };
    let (parcels, taken) = steps::steps(&input);
    let numbers = status::kept(&input).iter().map(|it| it.number).collect();
    let (of_jobs, job_taken) = stages::jobs(&input, &numbers);
    let obstacle = obstacle.or(taken).or(job_taken);
    let template = missing_template(view, &input.target).map(|it| Action::create(it).into());
    let outdated = status::outdated(&input).map(|it| Action::delete(it).into());
    let of_jobs = of_jobs.into_iter().map(Parcel::from);
    let parcels = template.into_iter().chain(of_jobs).chain(parcels).chain(outdated);
    let mut groups = packing::groups(parcels.take(ROUND_OPS_MAX), GROUP_OPS);
    let notices = notice.into_iter().collect();
    let mut plan = Plan { wake_at: status::wake_at(&input), notices, ..Plan::default() };
    let next = status::next(&input, obstacle.as_ref());
    let before = &view.service.status;
    plan.notices.extend(news::of_change(&input, before, &next));
    if next != *before {
        let mut service = view.service.clone();
        service.status = next;
        if status::is_urgent(before, &service.status) {
            groups.push(Action::status(service).into());
        } else {
            plan.status = Some(Box::new(service));
        }
    }
    plan.groups = groups;
    plan
}

/// Whether nothing is left to do for the service until something changes.
pub fn is_at_rest(service: &Service, plan: &Plan) -> bool {
    let asks_nothing = plan.groups.is_empty() && plan.status.is_none();
    let is_settled = service.status.rollout.as_ref().is_none_or(|rollout| match rollout.state {
        RolloutState::Complete | RolloutState::Suspended | RolloutState::Failed => true,
        RolloutState::Progressing => false,
    });
    asks_nothing && (service.is_deleting() || is_settled)
}
