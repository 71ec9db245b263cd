//! Requests that were refused for who sent them, in the audit: who tried to change or administer
//! something without being allowed to.
//!
//! Such requests cost their sender nothing, so there is a bound: of each project ten at once and then
//! one in ten minutes are noted, and the next one that is noted says how many were not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::extract::{ConnectInfo, Request};
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::quota::{BucketLevel, TokenBucket};
use forebay_model::{Actor, ActorKind, AuditStamp, HumanDuration, ProjectId};
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::ApiState;
use super::error::ApiError;
use crate::auth::CallerIdentity;

/// Where requests are noted whose token nobody knows.
const UNKNOWN_PROJECT: ProjectId = ProjectId(0);
/// What a note takes of a bucket that gets one a second.
const ENTRY_COST: u64 = 600;
/// So that ten can be taken at once.
const WINDOW: HumanDuration = HumanDuration::secs(10 * ENTRY_COST);
/// Characters of an address that are kept.
const PATH_MAX: usize = 256;

/// Who has sent a request; set once that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerCell(Arc<OnceLock<CallerIdentity>>);

impl CallerCell {
    pub(super) fn set(&self, who: &CallerIdentity) {
        // Each request is checked once.
        drop(self.0.set(who.clone()));
    }
}

/// What is noted of a request if it is refused.
#[derive(Debug)]
pub(super) struct AuditedRequest {
    method: Method,
    path: String,
    from: Option<String>,
    caller: CallerCell,
}

impl AuditedRequest {
    /// Of a request that changes or administers something; `None` of others.
    pub(super) fn from_request(request: &mut Request) -> Option<Self> {
        let (method, path) = (request.method().clone(), request.uri().path());
        if method.is_safe() && !path.starts_with("/v1/admin/") {
            return None;
        }
        let path = path.chars().take(PATH_MAX).collect();
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let from = from.map(|peer| peer.0.ip().to_string());
        let caller = CallerCell::default();
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
struct ProjectRejections {
    bucket: BucketLevel,
    /// Refused since the last note.
    skipped: u64,
}

/// How many were noted of late, by project.
#[derive(Debug)]
pub(super) struct RejectionAudit {
    start: Instant,
    projects: Mutex<HashMap<ProjectId, ProjectRejections>>,
}

impl RejectionAudit {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            projects: Mutex::default(),
        }
    }

    /// Whether one more may be noted, and how many were not since the last one. Only projects that
    /// have a token are in here, and the one of nobody.
    fn admit(&self, project: ProjectId) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        let mut all = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let rejections = all.entry(project).or_default();
        let bucket = TokenBucket::new(1, WINDOW, Arc::clone(&rejections.bucket))?;
        if bucket.take(now, ENTRY_COST).is_err() {
            rejections.skipped += 1;
            return None;
        }
        Some(std::mem::take(&mut rejections.skipped))
    }
}

/// Notes a request that was refused for who has sent it.
pub(super) async fn record_rejection(api: &ApiState, request: &AuditedRequest, error: &ApiError) {
    if !matches!(
        error.name.status(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return;
    }
    let now = api.clock.now();
    let who = request.caller.0.get();
    let project = who.map_or(UNKNOWN_PROJECT, |who| who.project);
    let Some(skipped) = api.rejection_audit.admit(project) else {
        return;
    };
    let nobody = || AuditStamp {
        at: now,
        by: Actor {
            kind: ActorKind::User,
            from: request.from.clone(),
            ..Actor::system()
        },
    };
    let more = match skipped {
        0 => String::new(),
        n => format!(" ({n} more since the last entry)"),
    };
    let change = AuditEvent {
        project,
        what: AuditSubject::Request(format!("{} {}", request.method, request.path)),
        action: AuditAction::Refuse,
        description: format!("{}{more}", error.message),
        old_version: None,
        new_version: None,
        stamp: who.map_or_else(nobody, |who| AuditStamp {
            by: Actor {
                from: request.from.clone(),
                ..who.audit_stamp(now).by
            },
            at: now,
        }),
    };
    if let Err(error) = api.repo.record_rejection(&change).await {
        tracing::warn!(%error, "a refused request could not be noted");
    }
}
