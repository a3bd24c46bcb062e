//! `hctl scale`: changes how many tasks services and jobs have.

use api::KindId;
use api::verb::Subresource;
use serde_json::{Value, json};

use super::each::Failures;
use super::show;
use crate::args::Scale;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::target::{self, Target};

pub(super) async fn scale(connection: &Connection, args: Scale) -> Result<(), Failure> {
    let targets = target::several(&args.targets)?;
    let has_scale = |kind: KindId| kind.info().has(Subresource::Scale);
    if let Some(other) = targets.iter().find(|target| !has_scale(target.kind)) {
        let failure = Failure::usage(format!("{other} cannot be scaled"));
        return Err(failure.hint("hctl scale takes services and jobs"));
    }
    let mut failures = Failures::default();
    for target in &targets {
        failures.add(scale_one(connection, target, args.replicas).await)?;
    }
    failures.end()
}

async fn scale_one(connection: &Connection, target: &Target, wanted: u32) -> Result<(), Failure> {
    let before: Value = connection.read(&format!("{}/scale", connection.path(target))).await?;
    let before = before["spec"]["replicas"].as_u64().unwrap_or_default();
    let tasks = if wanted == 1 { "task" } else { "tasks" };
    let what = if before == u64::from(wanted) {
        format!("has {wanted} {tasks} already")
    } else {
        let patch = json!({ "spec": { "replicas": wanted } });
        connection.patch_part(target, "scale", &patch).await?;
        format!("scaled from {before} to {wanted} {tasks}")
    };
    let object = connection.get(target).await?;
    show::done(connection.format, target, &what, object)
}
