//! Names are unique for their owner, without a database: look, make, look again.

use std::time::Duration;

use cluster::{Guard, Query};
use weaver::{Admitted, WeaverId};
use wire::problem::{Code, Problem};

use crate::{ApiError, App};

/// Refuses a name that another weaver of the owner has. A spec without a name costs no call.
pub(crate) async fn check_free(app: &App, admitted: &Admitted) -> Result<(), ApiError> {
    match holder(app, admitted).await? {
        Some(id) => Err(taken(admitted, &format!("{id} has it: delete that first"))),
        None => Ok(()),
    }
}

/// Looks again once the pod is there: of two that were made at once, whoever sees the other gives
/// way. Both may, but never do both stay.
pub(crate) async fn is_alone(app: &App, admitted: &Admitted) -> Result<bool, ApiError> {
    Ok(holder(app, admitted).await?.is_none())
}

/// The same for a weaver of a key, which nobody else deletes when this fails.
pub(crate) async fn is_alone_or_delete(app: &App, admitted: &Admitted) -> Result<bool, ApiError> {
    let alone = is_alone(app, admitted).await;
    if !matches!(alone, Ok(true)) {
        app.cluster().delete(admitted.id(), &Guard::default()).await?;
    }
    alone
}

/// Says that several wanted a name at once, again and again.
pub(crate) fn contested(admitted: &Admitted) -> ApiError {
    taken(admitted, "somebody took it at the same time: try again")
}

/// How long somebody who gave way waits before another attempt: each a different time, so that one
/// of them comes first. Chance is in the id.
pub(crate) fn pause(given_up: WeaverId, attempt: u32) -> Duration {
    let chance = given_up.uuid().as_u128() % 200;
    Duration::from_millis(u64::try_from(chance).unwrap_or_default() << attempt)
}

async fn holder(app: &App, admitted: &Admitted) -> Result<Option<WeaverId>, ApiError> {
    let spec = admitted.spec();
    let Some(name) = &spec.name else { return Ok(None) };
    let query = Query {
        org: Some(spec.org.clone()),
        owner: Some(spec.owner.clone()),
        name: Some(name.clone()),
        ..Query::default()
    };
    let page = app.cluster().list(&query).await?;
    let others = page.found.iter().filter(|found| !found.pod.deleting);
    let ids = others.map(|found| found.weaver.id);
    Ok(ids.filter(|id| *id != admitted.id()).min())
}

fn taken(admitted: &Admitted, why: &str) -> ApiError {
    let name = admitted.spec().name.as_ref().map(ToString::to_string).unwrap_or_default();
    let problem = Problem::new(Code::Conflict, format!("the name {name} is taken: {why}"));
    Problem { field: Some("name".to_owned()), ..problem }.into()
}
