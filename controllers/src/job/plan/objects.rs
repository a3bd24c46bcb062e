//! The objects that a job makes: its TaskTemplate and its Tasks.

use api::job::JobSpec;
use api::object::Kind as _;
use api::task::TaskSpec;
use api::task_template::TaskTemplateSpec;
use api::{Job, Task, TaskTemplate, labels, names};
use serde::Serialize;

use super::Run;
use super::roster::Roster;

/// Labels of a job that its tasks and template have, too.
const INHERITED: [&str; 2] = [labels::WORKFLOW, labels::RUN];

/// What a rerun depends on: the template, the target, and how tasks are counted. All else of a job
/// is changed in place.
pub(crate) fn revision(spec: &JobSpec) -> String {
    let shape = if spec.items.is_some() {
        "items"
    } else if spec.tasks.is_empty() {
        "count"
    } else {
        "tasks"
    };
    hash(&(&spec.template, &spec.target, shape))
}

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("our kinds have text keys and finite numbers");
    names::hash(&text)
}

/// The TaskTemplate of the job as it is now. Its name is made from all that it says.
pub(crate) fn template(job: &Job) -> TaskTemplate {
    let spec = TaskTemplateSpec {
        template: job.spec.template.clone(),
        placement: job.spec.placement(),
        target: job.spec.target.clone(),
        job: job.name().to_owned(),
        run: job.label(labels::RUN).unwrap_or_default().to_owned(),
        max_per_node: job.spec.max_per_node,
        attempt_timeout: job.spec.attempt_timeout,
    };
    let name = names::template(job.name(), &hash(&spec));
    TaskTemplate::new(job.namespace(), &name, spec)
        .with_labels(inherited_labels(job))
        .with_controller(job.as_controller())
}

fn inherited_labels(job: &Job) -> impl Iterator<Item = (String, String)> {
    let inherited =
        INHERITED.iter().filter_map(|key| Some(((*key).to_owned(), job.label(key)?.to_owned())));
    std::iter::once((labels::JOB.to_owned(), job.name().to_owned())).chain(inherited)
}

/// The task of an index, new.
pub(super) fn task(job: &Job, run: &Run, roster: &Roster, index: u32, template: &str) -> Task {
    let spec = TaskSpec {
        template: template.to_owned(),
        overrides: roster.overrides(index),
        index,
        count: roster.total(),
        run: run.number,
        attempt: 1,
        priority: job.spec.priority.unwrap_or_default(),
        ..TaskSpec::default()
    };
    Task::new(job.namespace(), &roster.object_name(job.name(), index), spec)
        .with_labels(job.spec.template.labels.clone())
        .with_labels(inherited_labels(job))
        .with_controller(job.as_controller())
}
