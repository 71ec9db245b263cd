//! State that all handlers share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::extract::FromRef;
use forebay_meta::Repo;
use forebay_model::quota::Quotas;
use forebay_model::{Clock, TableBackend};

use super::body_limiter::BodyLimiter;
use super::config::ApiConfig;
use super::dashboard::Dashboard;
use super::dead_letters::DeadLetterService;
use super::document::ApiDocuments;
use super::mapper::Mapper;
use super::operation::ApiOperations;
use super::random_text::RandomText;
use super::rejection_audit::RejectionAudit;
use super::services::{NodeService, PathUses, TableBackends, TapService, TopicService};
use super::token_rate_limiter::TokenRateLimiter;
use super::wrong_token_limiter::WrongTokenLimiter;
use crate::auth::TokenAuthenticator;
use crate::sink_monitor::SinkMonitor;
use crate::task::TaskRunner;

/// State of the handlers.
pub(super) type SharedApi = Arc<ApiState>;

/// Dependencies, limits and documents.
pub(super) struct ApiState {
    pub(super) repo: Repo,
    pub(super) mapper: Arc<dyn Mapper>,
    pub(super) dead_letters: Arc<dyn DeadLetterService>,
    pub(super) auth: Arc<dyn TokenAuthenticator>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: RandomText,
    pub(super) backends: BTreeSet<TableBackend>,
    pub(super) tables: Arc<dyn TableBackends>,
    pub(super) quotas: Quotas,
    pub(super) rate_limiter: TokenRateLimiter,
    pub(super) rejection_audit: RejectionAudit,
    pub(super) bodies: BodyLimiter,
    pub(super) wrong_tokens: WrongTokenLimiter,
    pub(super) topics: Arc<dyn TopicService>,
    pub(super) path_uses: Arc<dyn PathUses>,
    pub(super) taps: Arc<dyn TapService>,
    pub(super) monitor: SinkMonitor,
    pub(super) node_status: Arc<dyn NodeService>,
    pub(super) config: ApiConfig,
    pub(super) tasks: TaskRunner,
    pub(super) operations: ApiOperations,
    pub(super) documents: ApiDocuments,
    pub(super) dashboard: Dashboard,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl FromRef<SharedApi> for ApiDocuments {
    fn from_ref(api: &SharedApi) -> Self {
        api.documents.clone()
    }
}

impl FromRef<SharedApi> for Dashboard {
    fn from_ref(api: &SharedApi) -> Self {
        api.dashboard.clone()
    }
}
