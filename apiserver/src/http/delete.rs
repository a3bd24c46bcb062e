//! Deletions, with the options of Kubernetes. Each option has its effect or is refused.

use api::KindId;
use api::batch::Propagation;
use api::resource_version::ResourceVersion;
use api::status::Refusal;
use api::template::GRACE_SECONDS_MAX;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::change::answered;
use super::extract::{Answer, Call, LedBy, ObjectPath, Whole};
use super::query::{Query, bad, dry_run, propagation};
use crate::write::{DeleteOptions, Wish, WriteMode};

/// Kubernetes' DeleteOptions. Other fields are refused, because a deletion of more than was meant,
/// or earlier than was meant, cannot be undone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WireDeleteOptions {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    kind: Option<String>,
    dry_run: Option<Vec<String>>,
    grace_period_seconds: Option<i64>,
    ignore_store_read_error_with_cluster_breaking_potential: Option<bool>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<ResourceVersion>,
}

pub(super) async fn delete(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Whole(bytes): Whole,
) -> Answer {
    let wire: WireDeleteOptions = if bytes.is_empty() {
        WireDeleteOptions::default()
    } else {
        api::json::read(&bytes).map_err(|why| bad(format!("cannot parse DeleteOptions: {why}")))?
    };
    let (options, mode) = read(wire, &query)?;
    let warning = options.grace_seconds.and_then(|_| no_grace(place.kind));
    let intent = call.intent(Wish::Delete { kind: place.kind, key: place.key(), options });
    let committed = call.server.writer.one(intent, leader.as_ref(), mode).await?;
    let mut answer = answered(StatusCode::OK, committed);
    if let Some(warning) = warning {
        answer.headers_mut().insert(header::WARNING, warning);
    }
    Ok(answer)
}

/// Combines the options in the body and the query. As in Kubernetes, those in the body take
/// precedence.
fn read(wire: WireDeleteOptions, query: &Query) -> Result<(DeleteOptions, WriteMode), Refusal> {
    if let Some(kind) = wire.kind.as_deref().filter(|kind| *kind != "DeleteOptions") {
        let shown: String = kind.chars().take(100).collect();
        return Err(bad(format!("the body of a delete must be DeleteOptions, not {shown:?}")));
    }
    if wire.ignore_store_read_error_with_cluster_breaking_potential == Some(true) {
        return Err(bad(
            "ignoreStoreReadErrorWithClusterBreakingPotential is not supported: an object that \
             cannot be read is deleted like any other",
        ));
    }
    let mode = match wire.dry_run.as_deref() {
        None | Some([]) => query.write_mode()?,
        Some([word]) if !word.is_empty() => dry_run(word)?,
        Some(_) => return Err(bad("dryRun: must be empty or [\"All\"]")),
    };
    let preconditions = wire.preconditions.unwrap_or_default();
    let orphans = wire.orphan_dependents.or(query.orphan_dependents);
    if wire.propagation_policy.as_deref() == Some("") {
        return Err(bad("propagationPolicy: must be Foreground, Background or Orphan when given"));
    }
    let policy = wire.propagation_policy.as_deref().unwrap_or(query.propagation_word());
    let options = DeleteOptions {
        propagation: cascade(policy, orphans)?,
        uid: preconditions.uid,
        version: preconditions.resource_version,
        grace_seconds: grace(wire.grace_period_seconds.or(query.grace_period_seconds))?,
    };
    Ok((options, mode))
}

/// `orphanDependents` is the older form of `propagationPolicy`.
fn cascade(policy: &str, orphans: Option<bool>) -> Result<Propagation, Refusal> {
    match orphans {
        None => propagation(policy),
        Some(_) if !policy.is_empty() => {
            Err(bad("orphanDependents and propagationPolicy are mutually exclusive"))
        }
        Some(true) => Ok(Propagation::Orphan),
        Some(false) => Ok(Propagation::Background),
    }
}

/// Checks the bounds of a grace period.
fn grace(seconds: Option<i64>) -> Result<Option<u32>, Refusal> {
    let Some(seconds) = seconds else { return Ok(None) };
    match u32::try_from(seconds) {
        Ok(bounded) if bounded <= GRACE_SECONDS_MAX => Ok(Some(bounded)),
        _ => Err(bad(format!(
            "gracePeriodSeconds: must be between 0 and {GRACE_SECONDS_MAX} (one day), not {seconds}"
        ))),
    }
}

/// A warning for a grace period on an object that has none itself, while the objects that it owns
/// do. (For all other kinds there is nothing to stop: they are deleted at once.)
fn no_grace(kind: KindId) -> Option<HeaderValue> {
    if kind != KindId::Namespace && kind.info().task_label.is_none() {
        return None;
    }
    let plural = kind.info().plural;
    let text = format!(
        "299 - \"gracePeriodSeconds has no effect on {plural}: their tasks stop within the \
         terminationGracePeriodSeconds of their template; to stop a task sooner, delete the task with a \
         shorter one\""
    );
    HeaderValue::from_str(&text).ok()
}
