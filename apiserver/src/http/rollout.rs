//! The subresource `rollout` of a service: what people ask of its rollout without changing its spec.

use api::object::Kind as _;
use api::patch::{Patch, PatchForm};
use api::service::request::{self, Unfit};
use api::service::{RolloutCommand, Service};
use api::status::{Refusal, Why};
use http::StatusCode;
use serde_json::json;

use super::change::answered;
use super::extract::{Answer, Call, Json, LedBy, ObjectPath};
use super::query::Query;
use super::{answer, read};
use crate::kinds;
use crate::write::{Part, Wish};

/// How many times the service is read again that somebody else changes at the same time.
const TRIES_MAX: usize = 8;

/// Stores what is asked for, together with who asks and when. The service is written at the version that
/// the decision was made on: of two who ask at the same time, the second one is told about the first.
pub(super) async fn ask(
    call: Call,
    place: ObjectPath,
    query: Query,
    LedBy(leader): LedBy,
    Json(command): Json<RolloutCommand>,
) -> Answer {
    let (kind, mode) = (place.kind, query.write_mode()?);
    let by = call.requester().who().name.clone();
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let entry = read::one(&call.server, &place).await?;
        let service: Service = serde_json::from_slice(&entry.wire).map_err(|error| {
            let message = format!("the stored object cannot be read: {error}");
            Refusal::new(Why::Internal, message).about(kind, place.name())
        })?;
        let asked = request::ask(&service, command, &by, call.server.clock.now());
        let Some(next) = asked.map_err(|unfit| refusal(&place, command, unfit))? else {
            return Ok(answer::raw(StatusCode::OK, kinds::shown(kind, &entry.wire)));
        };
        // Nothing else of the status is sent, so that what only a newer version knows stays.
        let patch = json!({
            "metadata": { "uid": service.uid(), "resourceVersion": service.resource_version() },
            "status": { "request": next.request, "conditions": next.conditions },
        });
        let patch = Patch::parse(PatchForm::Merge, patch.to_string().as_bytes())
            .map_err(|error| Refusal::new(Why::Internal, error.to_string()))?;
        let wish = Wish::Patch { kind, key: place.key(), patch, part: Part::Status };
        match call.server.writer.one(call.intent(wish), leader.as_ref(), mode).await {
            Ok(committed) => return Ok(answered(StatusCode::CREATED, committed)),
            Err(refusal) if refusal.why == Why::Conflict => last = Some(refusal),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let refusal =
        last.unwrap_or_else(|| Refusal::new(Why::Contended, "the service keeps changing"));
    Err(refusal.into())
}

fn refusal(place: &ObjectPath, command: RolloutCommand, unfit: Unfit) -> Refusal {
    match unfit {
        Unfit::Now(why) => {
            let message =
                format!("cannot {} the rollout of {}: {why}", command.verb.word(), place.name());
            Refusal::new(Why::Conflict, message).about(place.kind, place.name())
        }
        Unfit::Field(violation) => Refusal::invalid(place.kind, place.name(), &[violation]),
    }
}
