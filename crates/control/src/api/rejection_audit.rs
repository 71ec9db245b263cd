//! Audits requests that were rejected for lack of permission: attempts to change or administer
//! something.
//!
//! Such requests cost their sender nothing, so entries are rate limited: per project a burst of
//! ten, then one in ten minutes. The next entry reports how many were skipped.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request};
use forebay_meta::Repo;
use forebay_meta::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use forebay_model::quota::{BucketLevel, TokenBucket};
use forebay_model::{Actor, ActorKind, AuditStamp, HumanDuration, ProjectId, Timestamp};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use crate::auth::CallerIdentity;

/// Project of entries with an unknown token.
const UNKNOWN_PROJECT: ProjectId = ProjectId(0);
/// Cost of an entry in a bucket that fills by one a second.
const ENTRY_COST: u64 = 600;
/// Allows a burst of ten.
const WINDOW: HumanDuration = HumanDuration::secs(10 * ENTRY_COST);
/// Maximum characters of a path in an entry.
const PATH_MAX: usize = 256;

/// The caller of a request; set once it is identified.
#[derive(Clone, Debug, Default)]
pub(super) struct CallerCell(Arc<OnceLock<CallerIdentity>>);

impl CallerCell {
    pub(super) fn set(&self, who: &CallerIdentity) {
        // Each request is authenticated once.
        drop(self.0.set(who.clone()));
    }
}

/// Details of a request for an audit entry.
#[derive(Debug)]
pub(super) struct AuditedRequest {
    method: Method,
    path: String,
    from: Option<String>,
    caller: CallerCell,
}

impl AuditedRequest {
    /// `None` for requests that change and administer nothing.
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
    /// Rejections since the last entry.
    skipped: u64,
}

/// Recent entries per project.
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

    /// Whether an entry is allowed, and how many were skipped since the last. Contains only
    /// projects that have a token, and [`UNKNOWN_PROJECT`].
    fn admit(&self, project: ProjectId) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        let mut all = self.projects.lock();
        let rejections = all.entry(project).or_default();
        let bucket = TokenBucket::new(1, WINDOW, Arc::clone(&rejections.bucket))?;
        if bucket.take(now, ENTRY_COST).is_err() {
            rejections.skipped += 1;
            return None;
        }
        Some(std::mem::take(&mut rejections.skipped))
    }

    /// Audits a request that was rejected for lack of permission.
    pub(super) async fn record(
        &self,
        repo: &Repo,
        now: Timestamp,
        request: &AuditedRequest,
        error: &ApiError,
    ) {
        if !matches!(
            error.status(),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
        ) {
            return;
        }
        let who = request.caller.0.get();
        let project = who.map_or(UNKNOWN_PROJECT, |who| who.project);
        let Some(skipped) = self.admit(project) else {
            return;
        };
        let unknown = || AuditStamp {
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
            action: AuditAction::Reject,
            description: format!("{}{more}", error.message),
            old_version: None,
            new_version: None,
            stamp: who.map_or_else(unknown, |who| AuditStamp {
                by: Actor {
                    from: request.from.clone(),
                    ..who.audit_stamp(now).by
                },
                at: now,
            }),
        };
        if let Err(error) = repo.record_rejection(&change).await {
            tracing::warn!(%error, "failed to audit a rejected request");
        }
    }
}
