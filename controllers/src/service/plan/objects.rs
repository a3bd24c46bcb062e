//! The objects that a service creates: its TaskTemplates and its Tasks.

use api::object::Kind as _;
use api::owner::Owner;
use api::placement::Placement;
use api::restart::Restart;
use api::service::{Revision, RolloutStatus, Stage};
use api::task::{Overrides, TaskSpec};
use api::task_template::TaskTemplateSpec;
use api::template::Template;
use api::{KindId, Service, Task, TaskTemplate, labels, meaning, names};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::View;

/// The TaskTemplate of the service as it is now. Its name is derived from its content: a service
/// that goes back to what it ran before has the template that it had before.
pub(crate) fn template(service: &Service) -> TaskTemplate {
    let spec = template_spec(service);
    let mut document = json!(Content::of(&spec));
    if let Some(template) = document.get_mut("template").and_then(Value::as_object_mut) {
        meaning::template(template, &Map::new());
    }
    if let Some(placement) = document.get_mut("placement").and_then(Value::as_object_mut) {
        meaning::placement(placement, &Map::new());
    }
    if let Some(restart) = document.get_mut("restart").and_then(Value::as_object_mut) {
        meaning::restart(restart);
    }
    let text = serde_json::to_vec(&document).expect("our kinds have text keys and finite numbers");
    let name = names::template(service.name(), &names::hash(&text));
    TaskTemplate::new(service.namespace(), &name, spec)
        .with_labels([(labels::SERVICE, service.name())])
        .with_controller(service.as_controller())
}

/// What the name of a template is derived from. This must never change: otherwise an upgrade would
/// replace the tasks of every service.
#[derive(Serialize)]
struct Content<'a> {
    template: &'a Template,
    placement: &'a Placement,
    restart: &'a Option<Restart>,
}

impl<'a> Content<'a> {
    fn of(spec: &'a TaskTemplateSpec) -> Self {
        Self { template: &spec.template, placement: &spec.placement, restart: &spec.restart }
    }
}

fn template_spec(service: &Service) -> TaskTemplateSpec {
    TaskTemplateSpec {
        template: service.spec.template.clone(),
        placement: service.spec.placement(),
        owner: Owner::new(KindId::Service, service.name()),
        // Its presence makes the agent start containers again, whatever they end with.
        restart: Some(service.spec.restart.unwrap_or_default()),
        ..TaskTemplateSpec::default()
    }
}

/// Selects the tasks of the service.
pub(super) fn selector(service: &Service) -> String {
    labels::selector(labels::SERVICE, service.name())
}

/// A new task of a revision, without its name, its index and its own part.
pub(super) fn task(
    view: &View<'_>,
    rollout: &RolloutStatus,
    revision: &Revision,
    count: u32,
) -> Task {
    let (service, number, template) = (view.service, revision.number, revision.template.as_str());
    let own = view.templates.iter().find(|own| own.name() == template);
    let labels = own.map_or(&service.spec.template.labels, |own| &own.spec.template.labels);
    let spec = TaskSpec {
        template: template.to_owned(),
        count,
        run: number,
        attempt: 1,
        priority: service.spec.priority.unwrap_or_default(),
        image_digest: revision.digest.as_deref().map(Box::from),
        ..TaskSpec::default()
    };
    let is_canary = rollout.revision == number && matches!(rollout.stage(), Stage::Canary(_));
    Task::new(service.namespace(), "", spec)
        .with_labels(labels.clone())
        .with_labels(is_canary.then_some((labels::CANARY, "true")))
        .with_labels([
            (labels::SERVICE, service.name().to_owned()),
            (labels::REVISION, number.to_string()),
        ])
        .with_controller(service.as_controller())
}

/// What pins a task to a node.
pub(super) fn pinned_to(node: &str) -> Overrides {
    let mut placement = Map::new();
    placement.insert("nodes".to_owned(), json!([node]));
    Overrides { placement: Some(Box::new(placement)), ..Overrides::default() }
}

/// The node that a task is pinned to.
pub(crate) fn pin(task: &Task) -> Option<&str> {
    task.spec.overrides.placement.as_ref()?.get("nodes")?.get(0)?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores hold these names: with another one, an upgrade would replace the tasks of every
    /// service.
    #[test]
    fn the_name_of_a_template_is_of_what_is_meant_and_stays() {
        let name = |spec: Value| {
            let spec = serde_json::from_value(spec).unwrap();
            template(&Service::new("default", "web", spec)).name().to_owned()
        };
        let usual = name(json!({ "template": { "image": "busybox", "args": ["a"] } }));
        assert_eq!(usual, "web-b780827a58");
        let same = json!({
            "replicas": 3, "priority": 7, "rollout": { "parallelism": 2 },
            "restart": { "backoff": { "initial": "1s", "max": "300s" } },
            "placement": { "nodes": [] },
            "template": { "args": ["a"], "image": "busybox", "stopSignal": "SIGTERM" },
        });
        assert_eq!(name(same), usual);
        for other in [
            json!({ "template": { "image": "busybox", "args": ["b"] } }),
            json!({ "template": { "image": "busybox", "args": ["a"] }, "placement": { "nodes": ["n"] } }),
            json!({
                "template": { "image": "busybox", "args": ["a"] },
                "restart": { "rescheduleAfter": "1m" },
            }),
        ] {
            assert_ne!(name(other.clone()), usual, "{other}");
        }
    }
}
