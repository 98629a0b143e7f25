//! Backups, for admins. Their bytes are encrypted by `stele-init` before we see them, and opened by
//! it alone.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use appliance::backup::{ENDING, Id, Key, LONGEST_DESCRIPTION, Lock, Stats, Wish};
use appliance::secret::Secret;
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, RawQuery, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::auth::Admin;
use crate::backup::shelf::{Backup, BackupDetails};
use crate::backup::{CODE, Step, download, over, upload};
use crate::body;
use crate::page::Query;
use crate::pod::{self, Pod};
use crate::problem::Problem;
use crate::{secret, sse};

/// A front waits no longer for the beginning of an answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Which backup: its name in the path.
pub(super) struct Which(Id);

impl FromRequestParts<Arc<Pod>> for Which {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, pod: &Arc<Pod>) -> Result<Which, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, pod)
            .await
            .map_err(|error| Problem::malformed(error.body_text()))?;
        Id::try_from(id).map(Which).map_err(|_| Problem::backup_not_found())
    }
}

/// A new backup.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewBackup {
    /// What a person says of it.
    #[schema(min_length = 1, max_length = 256)]
    description: Option<String>,
    /// Whoever knows it can open the backup: as long as a member's password at least.
    passphrase: Option<String>,
    /// In the place of a passphrase: whoever has the key to this address, `age1…`, can.
    recipient: Option<String>,
}

/// What opens a backup; or the code that it was answered by.
#[derive(Deserialize, ToSchema)]
pub(super) struct Restoration {
    /// Of one that was encrypted to a passphrase.
    passphrase: Option<String>,
    /// Of one that was encrypted to an address: `AGE-SECRET-KEY-1…`.
    identity: Option<String>,
    /// The second time.
    #[schema(min_length = 16, max_length = 16)]
    confirmation: Option<String>,
}

/// Something else that a person says of a backup.
#[derive(Deserialize, ToSchema)]
pub(super) struct Description {
    #[schema(min_length = 1, max_length = 256)]
    description: Option<String>,
}

/// The code that confirms what can't be undone.
#[derive(Serialize, ToSchema)]
pub(super) struct Confirmation {
    /// Good once, for 5 minutes.
    #[schema(min_length = 16, max_length = 16)]
    pub confirmation: String,
}

/// A backup that is on its way.
#[derive(Serialize, ToSchema)]
pub(super) struct Begun {
    id: String,
    message: String,
}

/// What is told at the end of a stream of events.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Made(Box<BackupDetails>),
    Prepared { confirmation: String, stats: Stats },
}

type Telling = Pin<Box<dyn Future<Output = Result<Told, Problem>> + Send>>;

/// Make a backup, encrypted to a passphrase or to an address of `age`.
///
/// Accounts, messages, files and settings, as they are at one moment, and the operator's
/// configuration. Nobody is disturbed.
#[utoipa::path(
    post, path = "/v1/backups", tag = "Backups",
    request_body = NewBackup,
    responses(
        (status = 200, description = "Where events are accepted: `backup-create-progress`, then `backup-create-success` or `backup-create-error`, then `end`.", content_type = "text/event-stream", body = String),
        (status = 201, description = "Made.", body = BackupDetails, headers(("Location" = String, description = "Where it is."))),
        (status = 202, description = "It takes longer than 20 s: it is where Location says when it is made.", body = Begun, headers(("Location" = String, description = "Where it will be."))),
        (status = 409, description = "`backup_in_progress`, or `insufficient_storage`."),
    ),
    security(("admin" = []))
)]
pub(super) async fn create(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    headers: HeaderMap,
    body::Json(new): body::Json<NewBackup>,
) -> Result<Response, Problem> {
    let NewBackup { description, passphrase, recipient } = new;
    let description = checked(description)?;
    let lock = match (passphrase, recipient) {
        (Some(passphrase), None) => {
            Lock::Passphrase(strong(passphrase, pod.config.min_password_length)?)
        }
        (None, Some(recipient)) => Lock::Recipient(recipient),
        _ => {
            let message = "The body is not right: it must have a passphrase, or a recipient.";
            return Err(Problem::invalid(message));
        }
    };
    let id = fresh()?;
    let wish = Wish::Create { id: id.clone(), description, lock };
    let mut steps = pod.backups.run(pod.init.clone(), wish);
    if sse::is_wanted(&headers) {
        let tell = move |_| -> Telling {
            Box::pin(async move {
                let details = pod.backups.shelf.details(&id).await?;
                Ok(Told::Made(Box::new(details)))
            })
        };
        return Ok(events("backup-create", steps, tell));
    }
    match timeout(ANSWERED_WITHIN, over(&mut steps)).await {
        Ok(outcome) => outcome.map(drop)?,
        Err(_) => return Ok(begun(&id)),
    }
    let details = pod.backups.shelf.details(&id).await?;
    Ok((StatusCode::CREATED, [(LOCATION, place_of(&id))], Json(details)).into_response())
}

/// All backups, the newest first.
#[utoipa::path(
    get, path = "/v1/backups", tag = "Backups",
    responses((status = 200, description = "All.", body = Vec<Backup>)),
    security(("admin" = []))
)]
pub(super) async fn list(
    State(pod): State<Arc<Pod>>,
    _: Admin,
) -> Result<Json<Vec<Backup>>, Problem> {
    Ok(Json(pod.backups.shelf.all().await?))
}

/// A backup; its file is read.
#[utoipa::path(
    get, path = "/v1/backups/{id}", tag = "Backups",
    params(("id" = String, Path, description = "Its name.")),
    responses(
        (status = 200, description = "All that is known without its key.", body = BackupDetails),
        (status = 404, description = "`backup_not_found`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn one(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Which(id): Which,
) -> Result<Json<BackupDetails>, Problem> {
    Ok(Json(pod.backups.shelf.details(&id).await?))
}

/// Say something else of a backup.
#[utoipa::path(
    patch, path = "/v1/backups/{id}", tag = "Backups",
    params(("id" = String, Path, description = "Its name.")),
    request_body = Description,
    responses(
        (status = 200, description = "As it is now.", body = BackupDetails),
        (status = 404, description = "`backup_not_found`"),
        (status = 409, description = "`backup_in_progress`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn describe(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Which(id): Which,
    body::Json(Description { description }): body::Json<Description>,
) -> Result<Json<BackupDetails>, Problem> {
    let description = checked(description)?;
    done(&pod, Wish::Describe { id: id.clone(), description }).await?;
    Ok(Json(pod.backups.shelf.details(&id).await?))
}

/// Delete a backup.
#[utoipa::path(
    delete, path = "/v1/backups/{id}", tag = "Backups",
    params(("id" = String, Path, description = "Its name.")),
    responses(
        (status = 204, description = "Deleted."),
        (status = 404, description = "`backup_not_found`"),
        (status = 409, description = "`backup_in_progress`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn delete(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Which(id): Which,
) -> Result<StatusCode, Problem> {
    done(&pod, Wish::Delete { ids: vec![id] }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete several backups: all of them, or none.
#[utoipa::path(
    delete, path = "/v1/backups", tag = "Backups",
    params(("ids" = Vec<String>, Query, description = "Their names.")),
    responses(
        (status = 204, description = "Deleted."),
        (status = 404, description = "`backup_not_found`: one of them isn't there, none was deleted."),
        (status = 409, description = "`backup_in_progress`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn delete_some(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    let query = Query::new(query.as_deref());
    let ids = query.all(&["ids", "ids[]"]).map(|id| Id::try_from(id.to_owned()));
    let ids: Vec<Id> = ids.collect::<Result<_, _>>().map_err(|_| Problem::backup_not_found())?;
    if ids.is_empty() {
        return Err(Problem::malformed("The parameter ids is missing: it names what to delete."));
    }
    done(&pod, Wish::Delete { ids }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a backup can be downloaded, without a token, for 5 minutes.
#[utoipa::path(
    get, path = "/v1/backups/{id}/download", tag = "Backups",
    params(("id" = String, Path, description = "Its name.")),
    responses(
        (status = 303, description = "There.", headers(("Location" = String, description = "Relative to this address."))),
        (status = 404, description = "`backup_not_found`"),
    ),
    security(("admin" = []))
)]
pub(super) async fn offer(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Which(id): Which,
) -> Result<impl IntoResponse, Problem> {
    pod.backups.shelf.open(&id).await?;
    let code = pod.backups.offer_download(id)?;
    // Whatever stands before `/v1`.
    Ok((StatusCode::SEE_OTHER, [(LOCATION, format!("../../backup-downloads/{code}"))]))
}

/// Download a backup: its bytes, encrypted.
#[utoipa::path(
    get, path = "/v1/backup-downloads/{code}", tag = "Backups",
    params(("code" = String, Path, description = "See `GET /v1/backups/{id}/download`.")),
    responses(
        (status = 200, description = "Its bytes.", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "`backup_not_found`: it is gone, or the 5 minutes are over."),
    )
)]
pub(super) async fn get(
    State(pod): State<Arc<Pod>>,
    Path(code): Path<String>,
) -> Result<Response, Problem> {
    let id = pod.backups.download(&code).ok_or_else(Problem::backup_not_found)?;
    let (file, length) = pod.backups.shelf.open(&id).await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{id}\"")),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, download::body(file, length)).into_response())
}

/// Upload a backup that was downloaded here or elsewhere.
#[utoipa::path(
    put, path = "/v1/backups/{id}", tag = "Backups",
    params(
        ("id" = String, Path, description = "How it shall be called: letters, digits, `-`, `_`, `.`, and `.tar.zst.age` at the end."),
        ("description" = Option<String>, Query, description = "What a person says of it.", max_length = 256),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "Kept.", body = BackupDetails, headers(("Location" = String, description = "Where it is."))),
        (status = 202, description = "It is being read, for longer than 20 s: it is where Location says when that is done.", body = Begun, headers(("Location" = String, description = "Where it will be."))),
        (status = 409, description = "`backup_in_progress`, or `insufficient_storage`."),
        (status = 422, description = "`backup_damaged`: it isn't encrypted by age; or the name is taken."),
    ),
    security(("admin" = []))
)]
pub(super) async fn put(
    State(pod): State<Arc<Pod>>,
    _: Admin,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let named = format!("The name can't be used: it must end with {ENDING}.");
    let id = Id::try_from(name).map_err(|_| Problem::invalid(named))?;
    let query = Query::new(query.as_deref());
    let description = checked(query.get(&["description"]).map(str::to_owned))?;
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if kind != Some("application/octet-stream") {
        return Err(Problem::not_bytes());
    }
    let uploaded = upload::receive(&pod.backups.incoming, &id, body).await?;
    let wish = Wish::Accept { id: id.clone(), description };
    let mut steps = pod.backups.run(pod.init.clone(), wish);
    match timeout(ANSWERED_WITHIN, over(&mut steps)).await {
        Ok(outcome) => outcome.map(drop)?,
        Err(_) => {
            // It must stay there until it is taken over.
            tokio::spawn(async move {
                let _ = over(&mut steps).await;
                drop(uploaded);
            });
            return Ok(begun(&id));
        }
    }
    drop(uploaded);
    let details = pod.backups.shelf.details(&id).await?;
    Ok((StatusCode::CREATED, [(LOCATION, place_of(&id))], Json(details)).into_response())
}

/// Restore a backup, in two steps.
///
/// With its key: all of it is decrypted and verified, and nothing is changed yet; the answer is a
/// code. With that: everything that there is gives way to it, and the Pod starts anew.
#[utoipa::path(
    put, path = "/v1/backups/{id}/restore", tag = "Backups",
    params(("id" = String, Path, description = "Its name.")),
    request_body = Restoration,
    responses(
        (status = 200, description = "Where events are accepted, to the first step: `backup-restore-progress`, then `backup-restore-success` or `backup-restore-error`, then `end`.", content_type = "text/event-stream", body = String),
        (status = 202, description = "To the first step: the backup is whole, and lies ready.", body = Confirmation),
        (status = 205, description = "To the second step: the Pod restarts with it."),
        (status = 400, description = "`invalid_backup_key`, or `invalid_confirmation_code`."),
        (status = 404, description = "`backup_not_found`"),
        (status = 409, description = "`backup_in_progress`, or `insufficient_storage`."),
        (status = 422, description = "`backup_damaged`, or `backup_incompatible`; or the code has not 16 characters."),
    ),
    security(("admin" = []))
)]
pub(super) async fn restore(
    State(pod): State<Arc<Pod>>,
    by: Admin,
    Which(id): Which,
    headers: HeaderMap,
    body::Json(wanted): body::Json<Restoration>,
) -> Result<Response, Problem> {
    let key = match wanted {
        Restoration { confirmation: Some(code), passphrase: None, identity: None } => {
            must_be_a_code(&code)?;
            pod.backups.confirm_restoration(&id, &code)?;
            crate::log::info(format_args!("{} restores backup {id}", by.local.as_str()));
            pod.backups.clone().leave(pod.init.clone(), Wish::Restore { id }).await?;
            return Ok(StatusCode::RESET_CONTENT.into_response());
        }
        Restoration { confirmation: None, passphrase: Some(it), identity: None } => {
            Key::Passphrase(usable(it)?)
        }
        Restoration { confirmation: None, passphrase: None, identity: Some(it) } => {
            Key::Identity(usable(it)?)
        }
        _ => {
            let message = "The body is not right: it must have a passphrase, an identity or a \
                           confirmation.";
            return Err(Problem::invalid(message));
        }
    };
    pod.backups.shelf.open(&id).await?;
    let mut steps = pod.backups.prepare(pod.init.clone(), id.clone(), key).await;
    if sse::is_wanted(&headers) {
        let tell = move |stats| -> Telling {
            let offered = pod.backups.offer_restoration(&id);
            Box::pin(async move { Ok(Told::Prepared { confirmation: offered?, stats }) })
        };
        return Ok(events("backup-restore", steps, tell));
    }
    let prepared = timeout(ANSWERED_WITHIN, over(&mut steps)).await;
    prepared.map_err(|_| Problem::backup_takes_longer())??;
    let confirmation = pod.backups.offer_restoration(&id)?;
    Ok((StatusCode::ACCEPTED, Json(Confirmation { confirmation })).into_response())
}

/// Codes of another length were never given.
pub(super) fn must_be_a_code(code: &str) -> Result<(), Problem> {
    let message = format!("The body is not right: a confirmation has {CODE} characters.");
    (code.chars().count() == CODE).then_some(()).ok_or_else(|| Problem::invalid(message))
}

/// How it goes, then what `tell` says of what came of it.
fn events(
    name: &'static str,
    mut steps: watch::Receiver<Step>,
    tell: impl FnOnce(Stats) -> Telling + Send + 'static,
) -> Response {
    sse::answer(move |events| async move {
        loop {
            let step = steps.borrow_and_update().clone();
            let outcome = match step {
                Step::Under(progress) => {
                    events.send(&format!("{name}-progress"), name, &progress).await;
                    match steps.changed().await {
                        Ok(()) => continue,
                        Err(_) => Err(Problem::internal()),
                    }
                }
                Step::Over(outcome) => outcome,
            };
            let told = match outcome {
                Ok(stats) => tell(stats).await,
                Err(problem) => Err(problem),
            };
            match told {
                Ok(told) => events.send(&format!("{name}-success"), name, &told).await,
                Err(problem) => {
                    events.send(&format!("{name}-error"), name, &problem.shown()).await;
                }
            }
            return;
        }
    })
}

/// What doesn't take long.
async fn done(pod: &Pod, wish: Wish) -> Result<Stats, Problem> {
    let outcome = pod.backups.run_within(pod.init.clone(), wish, ANSWERED_WITHIN).await;
    outcome.unwrap_or_else(|| Err(Problem::backup_in_progress()))
}

/// It goes on by itself.
fn begun(id: &Id) -> Response {
    let message = "The backup will be there when all of it is written.".to_owned();
    let begun = Json(Begun { id: id.to_string(), message });
    (StatusCode::ACCEPTED, [(LOCATION, place_of(id))], begun).into_response()
}

fn place_of(id: &Id) -> String {
    format!("/v1/backups/{id}")
}

/// A name of its own: by its date, so that files sort by it.
fn fresh() -> Result<Id, Problem> {
    let random = secret::random("").and_then(|all| {
        let part = all.reveal().get(..8).unwrap_or_default();
        Id::try_from(format!("{}-{part}{ENDING}", pod::now())).map_err(|error| error.to_string())
    });
    random.map_err(|error| {
        crate::log::error(format_args!("cannot name a backup: {error}"));
        Problem::internal()
    })
}

fn checked(description: Option<String>) -> Result<Option<String>, Problem> {
    let is_fine = |text: &String| {
        (1..=LONGEST_DESCRIPTION).contains(&text.chars().count())
            && !text.chars().any(char::is_control)
    };
    match description {
        Some(text) if !is_fine(&text) => {
            Err(Problem::invalid("A description has 1 to 256 characters, on one line."))
        }
        description => Ok(description),
    }
}

fn usable(text: String) -> Result<Secret, Problem> {
    Secret::try_from(text).map_err(|error| Problem::invalid(format!("It can't be used: {error}.")))
}

/// Whoever has the file may guess for years.
fn strong(passphrase: String, least: usize) -> Result<Secret, Problem> {
    if passphrase.chars().count() < least {
        let message = format!("The passphrase must have at least {least} characters.");
        return Err(Problem::invalid(message));
    }
    usable(passphrase)
}
