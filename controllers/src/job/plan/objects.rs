//! The objects that a job creates: its TaskTemplate and its Tasks.

use api::duration::Duration;
use api::job::Target;
use api::object::Kind as _;
use api::owner::Owner;
use api::placement::Placement;
use api::task::TaskSpec;
use api::task_template::TaskTemplateSpec;
use api::template::Template;
use api::{Job, KindId, Task, TaskTemplate, labels, meaning, names};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Run;

/// The labels that a job passes on to its tasks and its template.
const INHERITED: [&str; 2] = [labels::WORKFLOW, labels::RUN];

fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("our kinds have text keys and finite numbers");
    names::hash(&text)
}

/// The TaskTemplate of the job as it is now. Its name is derived from its content.
pub(crate) fn template(job: &Job) -> TaskTemplate {
    let spec = template_spec(job);
    let mut document = serde_json::json!(Revision::of(&spec));
    if let Some(template) = document.get_mut("template").and_then(Value::as_object_mut) {
        meaning::template(template, &Map::new());
    }
    if let Some(placement) = document.get_mut("placement").and_then(Value::as_object_mut) {
        meaning::placement(placement, &Map::new());
    }
    let name = names::template(job.name(), &hash(&document));
    TaskTemplate::new(job.namespace(), &name, spec)
        .with_labels(inherited_labels(job))
        .with_controller(job.as_controller())
}

/// The name that earlier versions gave it, which was derived from the text of the job. Tasks with
/// that name also have the right template.
pub(super) fn written_template_name(job: &Job) -> String {
    names::template(job.name(), &hash(&Revision::of(&template_spec(job))))
}

/// What the name of a template is derived from. This must never change: otherwise an upgrade would
/// run every job again.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Revision<'a> {
    template: &'a Template,
    placement: &'a Placement,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: &'a Option<Target>,
    job: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    run: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_node: &'a Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_timeout: &'a Option<Duration>,
}

impl<'a> Revision<'a> {
    fn of(spec: &'a TaskTemplateSpec) -> Self {
        let TaskTemplateSpec {
            template,
            placement,
            target,
            owner,
            run,
            max_per_node,
            attempt_timeout,
            restart: _,
        } = spec;
        Self { template, placement, target, job: &owner.name, run, max_per_node, attempt_timeout }
    }
}

fn template_spec(job: &Job) -> TaskTemplateSpec {
    TaskTemplateSpec {
        template: job.spec.template.clone(),
        placement: job.spec.placement(),
        target: job.spec.target.clone(),
        owner: Owner::new(KindId::Job, job.name()),
        run: job.label(labels::RUN).unwrap_or_default().to_owned(),
        max_per_node: job.spec.max_per_node,
        attempt_timeout: job.spec.attempt_timeout,
        // Each start of a job's container is an attempt of its own.
        restart: None,
    }
}

fn inherited_labels(job: &Job) -> impl Iterator<Item = (String, String)> {
    let inherited =
        INHERITED.iter().filter_map(|key| Some(((*key).to_owned(), job.label(key)?.to_owned())));
    std::iter::once((labels::JOB.to_owned(), job.name().to_owned())).chain(inherited)
}

/// A new task of the run, which has `count` tasks, without its name, its index and its own part.
pub(super) fn task(job: &Job, run: &Run, count: u32, template: &str) -> Task {
    let spec = TaskSpec {
        template: template.to_owned(),
        count,
        run: run.number,
        attempt: 1,
        priority: job.spec.priority.unwrap_or_default(),
        ..TaskSpec::default()
    };
    Task::new(job.namespace(), "", spec)
        .with_labels(job.spec.template.labels.clone())
        .with_labels(inherited_labels(job))
        .with_controller(job.as_controller())
}
