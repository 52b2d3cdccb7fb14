//! `POST /api/weavers`.

use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use cluster::Found;
use http::{HeaderMap, StatusCode, header};
use uuid::{NoContext, Uuid};
use weaver::{Admitted, Env, FieldError, OrgId, Tags, Ttl, WeaverId, WeaverSpec};
use wire::api::{CreateWeaver, WeaverView};
use wire::problem::{Code, Problem};

use super::orphan::Orphan;
use super::view::{Base, view};
use super::{key, name};
use crate::caller::Caller;
use crate::json::Json;
use crate::{ApiError, App};

/// How often a name that others want too is tried for again.
const ATTEMPTS: u32 = 5;
/// How often is looked whether a pod that is being deleted is gone.
const GOING: Duration = Duration::from_millis(200);

/// Makes a weaver. With an `Idempotency-Key`, the same call again finds the same weaver.
#[utoipa::path(
    post,
    path = "/api/weavers",
    operation_id = "create",
    request_body = CreateWeaver,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 characters")),
    responses(
        (status = 201, description = "It is made, or was with the same key", body = WeaverView),
        (status = "4XX", description = "Refused: nothing is made", body = Problem,
            content_type = "application/problem+json"),
        (status = "5XX", description = "Kubernetes failed", body = Problem,
            content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Caller,
    base: Base,
    headers: HeaderMap,
    Json(asked): Json<CreateWeaver>,
) -> Result<impl IntoResponse, ApiError> {
    let keyed = key::id(&caller, &headers)?;
    let spec = spec(&app, &caller, asked)?;
    let found = match keyed {
        Some(id) => once(&app, &app.policy().admit(id, spec)?).await?,
        None => anew(&app, spec).await?,
    };
    let now = app.cluster().now().await?;
    let place = [(header::LOCATION, format!("/api/weavers/{}", found.weaver.id))];
    let shown = view(found, now, app.cluster().settings(), &base);
    Ok((StatusCode::CREATED, place, axum::Json(shown)))
}

/// A version 7 UUID; its time is for sorting only, so this machine's clock will do.
fn new_id() -> WeaverId {
    let now = service::clock::now();
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let nanoseconds = now.subsec_nanosecond().unsigned_abs();
    let time = uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds);
    WeaverId::from_uuid(Uuid::new_v7(time))
}

/// Makes a weaver under a new id. Of several that take one name at once all may give way, so they
/// try again.
async fn anew(app: &App, spec: WeaverSpec) -> Result<Found, ApiError> {
    for attempt in 0..ATTEMPTS {
        let admitted = app.policy().admit(new_id(), spec.clone())?;
        name::check_free(app, &admitted).await?;
        if let Some(found) = make(app, &admitted).await? {
            return Ok(found);
        }
        tokio::time::sleep(name::pause(admitted.id(), attempt)).await;
    }
    let admitted = app.policy().admit(new_id(), spec)?;
    name::check_free(app, &admitted).await?;
    make(app, &admitted).await?.ok_or_else(|| name::contested(&admitted))
}

/// Makes a weaver that only this request knows of: it must not stay if the answer gets lost. None
/// is left if somebody else takes its name at the same time.
async fn make(app: &App, admitted: &Admitted) -> Result<Option<Found>, ApiError> {
    let orphan = Orphan::new(app, admitted.id());
    let made = app.cluster().create(admitted).await;
    if made.as_ref().is_err_and(is_definite) {
        orphan.keep();
        return Ok(Some(made?));
    }
    let found = made?;
    if name::is_alone(app, admitted).await? {
        orphan.keep();
        return Ok(Some(found));
    }
    // Not left to the orphan's own time: the name must be free before anybody tries again.
    app.cluster().delete(admitted.id(), &found.uid_guard()).await?;
    orphan.keep();
    Ok(None)
}

/// Tells whether an error says for sure that no pod was made.
fn is_definite(error: &cluster::Error) -> bool {
    use cluster::Error;
    match error {
        Error::Config { .. }
        | Error::NoToolsImage
        | Error::Namespace { .. }
        | Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Forbidden { .. }
        | Error::Unauthorized { .. }
        | Error::Quota { .. }
        | Error::Refused { .. }
        | Error::Invalid { .. }
        | Error::TooMany { .. } => true,
        Error::Changed { .. }
        | Error::NotRunning { .. }
        | Error::Unreadable(_)
        | Error::CursorExpired
        | Error::Unavailable { .. }
        | Error::Timeout { .. } => false,
    }
}

/// Makes the weaver of a key, or finds it; tries again as [`anew`] does.
async fn once(app: &App, admitted: &Admitted) -> Result<Found, ApiError> {
    for attempt in 0..ATTEMPTS {
        name::check_free(app, admitted).await?;
        if let Some(found) = make_or_find(app, admitted).await? {
            return Ok(found);
        }
        tokio::time::sleep(name::pause(admitted.id(), attempt)).await;
        gone(app, admitted.id()).await?;
    }
    Err(name::contested(admitted))
}

/// Waits until a pod that gave way is gone: the next one of its key has the same name. The
/// request's own deadline bounds it.
async fn gone(app: &App, id: WeaverId) -> Result<(), ApiError> {
    while app.cluster().get(id).await?.is_some_and(|found| found.pod.deleting) {
        tokio::time::sleep(GOING).await;
    }
    Ok(())
}

/// Makes the weaver of a key, or finds it; none is left if somebody else takes its name at the
/// same time.
async fn make_or_find(app: &App, admitted: &Admitted) -> Result<Option<Found>, ApiError> {
    let taken = match app.cluster().create(admitted).await {
        Ok(found) => {
            let alone = name::is_alone_or_delete(app, admitted).await?;
            return Ok(alone.then_some(found));
        }
        Err(cluster::Error::AlreadyExists { .. }) => app.cluster().get(admitted.id()).await?,
        Err(error) => return Err(error.into()),
    };
    match taken {
        Some(found) if found.pod.deleting => Err(ApiError::new(
            Code::Conflict,
            "the weaver of this Idempotency-Key is being deleted",
        )),
        Some(found) if key::same_body(&found, admitted.spec()) => Ok(Some(found)),
        Some(_) => Err(ApiError::new(
            Code::IdempotencyKeyReused,
            "this Idempotency-Key was used with another body",
        )),
        None => Err(ApiError::new(Code::Conflict, "it was deleted just now; try again")),
    }
}

/// Checks every field of the request.
fn spec(app: &App, caller: &Caller, asked: CreateWeaver) -> Result<WeaverSpec, ApiError> {
    let org = asked.org_id.as_deref().map(str::parse::<OrgId>).transpose()?;
    if org.is_some_and(|org| org != caller.org) {
        let detail = format!("org_id must be {} here, or left out", caller.org);
        return Err(ApiError::new(Code::Forbidden, detail));
    }
    let image = asked.image.as_deref().map(str::parse).transpose()?;
    let resources = asked.resources.unwrap_or_default();
    let keep_entrypoint = asked.keep_entrypoint.unwrap_or(false);
    Ok(WeaverSpec {
        image: image.unwrap_or_else(|| app.default_image().clone()),
        org: caller.org.clone(),
        owner: caller.owner.clone(),
        owner_name: caller.name.clone(),
        name: asked.name.as_deref().map(str::parse).transpose()?,
        tags: Tags::try_from(asked.tags)?,
        env: Env::try_from(asked.env)?,
        repo: asked.repo.as_deref().map(str::parse).transpose()?,
        branch: asked.branch.as_deref().map(str::parse).transpose()?,
        keep_entrypoint,
        command: command(asked.command, asked.args, keep_entrypoint)?,
        workdir: asked.workdir.as_deref().map(str::parse).transpose()?,
        ttl: ttl(app, asked.lifetime_hours)?,
        resources: weaver::Resources {
            cpu_millicores: resources.cpu_millicores,
            memory_mb: resources.memory_mb,
        },
        tty: asked.tty.unwrap_or(true),
        root: asked.root.unwrap_or(false),
        ports: asked.ports,
        terminal: asked.terminal.unwrap_or_default(),
    })
}

/// The default lifetime, unless this deployment allows only less.
fn ttl(app: &App, hours: Option<u64>) -> Result<Ttl, FieldError> {
    match hours {
        Some(hours) => Ttl::from_hours(hours),
        None => Ok(Ttl::default().min(app.policy().max_ttl)),
    }
}

fn command(
    mut command: Vec<String>,
    args: Vec<String>,
    keep_entrypoint: bool,
) -> Result<Vec<String>, FieldError> {
    if keep_entrypoint {
        let why = "would take the place of the program that keep_entrypoint keeps: use args";
        return if command.is_empty() { Ok(args) } else { Err(FieldError::new("command", why)) };
    }
    if command.is_empty() && !args.is_empty() {
        return Err(FieldError::new("args", "needs a command"));
    }
    command.extend(args);
    Ok(command)
}
