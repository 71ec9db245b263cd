//! Requests that were refused for who sent them, in the audit: who tried to change or administer
//! something without being allowed to.
//!
//! Such requests cost their sender nothing, so there is a bound: of each project ten at once and then
//! one in ten minutes are noted, and the next one that is noted says how many were not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::extract::{ConnectInfo, Request};
use forebay_meta::repo::audit::{Action, Change, What};
use forebay_model::quota::{Bucket, Spent};
use forebay_model::{By, ByKind, ProjectId, Span, Stamp};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::Inner;
use super::error::ApiError;
use crate::auth::Identity;

/// Where requests are noted whose token nobody knows.
const NOBODY: ProjectId = ProjectId(0);
/// What a note takes of a bucket that gets one a second.
const NOTE: u64 = 600;
/// So that ten can be taken at once.
const WINDOW: Span = Span::secs(10 * NOTE);
/// Characters of an address that are kept.
const PATH_MAX: usize = 256;

/// Who has sent a request; set once that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller(Arc<OnceLock<Identity>>);

impl Caller {
    pub(super) fn is(&self, who: &Identity) {
        // Each request is checked once.
        drop(self.0.set(who.clone()));
    }
}

/// What is noted of a request if it is refused.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
    path: String,
    from: Option<String>,
    caller: Caller,
}

impl Asked {
    /// Of a request that changes or administers something; `None` of others.
    pub(super) fn of(request: &mut Request) -> Option<Self> {
        let (method, path) = (request.method().clone(), request.uri().path());
        if method.is_safe() && !path.starts_with("/v1/admin/") {
            return None;
        }
        let path = path.chars().take(PATH_MAX).collect();
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let from = from.map(|peer| peer.0.ip().to_string());
        let caller = Caller::default();
        request.extensions_mut().insert(caller.clone());
        Some(Self {
            method,
            path,
            from,
            caller,
        })
    }
}

#[derive(Debug, Default)]
struct Noted {
    spent: Spent,
    /// Refused since the last note.
    missed: u64,
}

/// How many were noted of late, by project.
#[derive(Debug)]
pub(super) struct Refusals {
    start: Instant,
    noted: Mutex<HashMap<ProjectId, Noted>>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            noted: Mutex::default(),
        }
    }

    /// Whether one more may be noted, and how many were not since the last one. Only projects that
    /// have a token are in here, and the one of nobody.
    fn may_note(&self, project: ProjectId) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        let mut all = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = all.entry(project).or_default();
        let bucket = Bucket::new(1, WINDOW, Arc::clone(&noted.spent))?;
        if bucket.take(now, NOTE).is_err() {
            noted.missed += 1;
            return None;
        }
        Some(std::mem::take(&mut noted.missed))
    }
}

/// Notes a request that was refused for who has sent it.
pub(super) async fn note(api: &Inner, asked: &Asked, error: &ApiError) {
    if !matches!(
        error.name.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return;
    }
    let now = api.clock.now();
    let who = asked.caller.0.get();
    let project = who.map_or(NOBODY, |who| who.project);
    let Some(missed) = api.refusals.may_note(project) else {
        return;
    };
    let nobody = || Stamp {
        at: now,
        by: By {
            kind: ByKind::User,
            from: asked.from.clone(),
            ..By::system()
        },
    };
    let more = match missed {
        0 => String::new(),
        n => format!(" ({n} more since the last entry)"),
    };
    let change = Change {
        project,
        what: What::Request(format!("{} {}", asked.method, asked.path)),
        action: Action::Refuse,
        description: format!("{}{more}", error.message),
        old_version: None,
        new_version: None,
        stamp: who.map_or_else(nobody, |who| Stamp {
            by: By {
                from: asked.from.clone(),
                ..who.stamp(now).by
            },
            at: now,
        }),
    };
    if let Err(error) = api.repo.note_refused(&change).await {
        tracing::warn!(%error, "a refused request could not be noted");
    }
}
