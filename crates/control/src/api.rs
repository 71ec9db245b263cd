//! The management API: routes of sources, sinks and tasks.
//!
//! A request passes `request_scope` (id, CORS, time limit, errors), then `call::ApiCall`, which
//! makes the checks of its operation in the OpenAPI document, then a handler. A handler makes the
//! checks that need the store or the mapper, and starts a task for every change.

mod admin;
mod aggregation;
mod body;
mod body_limiter;
mod call;
mod cascade;
mod client_buckets;
mod columns;
mod config;
mod dashboard;
mod dead_letters;
mod definitions;
mod document;
mod dry_run;
mod error;
mod id_reuse;
mod index;
mod json_response;
mod lifecycle;
mod mapper;
mod mapping;
mod operation;
mod quotas;
mod random_text;
mod redirect;
mod rejection_audit;
mod request_scope;
mod retry;
mod services;
mod settings;
mod sinks;
mod sources;
mod state;
mod statistics;
mod status;
mod table_check;
mod tables;
mod tap;
mod tasks;
mod test_mapping;
mod token_rate_limiter;
mod topics;
mod validate;
mod verify;
mod versions;
mod views;
mod wrong_token_limiter;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use forebay_meta::Repo;
use forebay_model::quota::Quotas;
use forebay_model::{Clock, NodeId, TableBackend};
use http::{HeaderMap, StatusCode};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use config::{ApiConfig, is_http_url};
pub use dead_letters::{
    DeadLetterEntries, DeadLetterEntry, DeadLetterQuery, DeadLetterReplay, DeadLetterSelection,
    DeadLetterService, DeadLetterServiceError, DiscardSummary, ReplaySummary,
};
pub use mapper::{ColumnProblem, Mapper, TestCell, TestError, TestRecord, TestTable};
pub use mapping::mapping_from_request;
pub use random_text::RandomSource;
pub use services::{
    NodeService, PathUses, TableBackends, TapError, TapRequest, TapService, TapStage, TapStream,
    TopicService,
};
pub use topics::message_from_request;

use crate::auth::TokenAuthenticator;
use crate::sink_monitor::SinkMonitor;
use crate::task::TaskRunner;
use body_limiter::BodyLimiter;
use dashboard::Dashboard;
use document::ApiDocuments;
use error::ApiError;
use operation::ApiOperations;
use random_text::RandomText;
use rejection_audit::RejectionAudit;
use state::{ApiState, SharedApi};
use token_rate_limiter::TokenRateLimiter;
use wrong_token_limiter::WrongTokenLimiter;

/// Dependencies of the API.
pub struct ApiDeps {
    /// Definitions and tasks. Its defaults are shown as the defaults of settings.
    pub repo: Repo,
    pub mapper: Arc<dyn Mapper>,
    pub dead_letters: Arc<dyn DeadLetterService>,
    pub auth: Arc<dyn TokenAuthenticator>,
    pub clock: Arc<dyn Clock>,
    /// Source of secrets.
    pub random: RandomSource,
    /// Id of this node, recorded with its tasks.
    pub node: NodeId,
    /// Available table backends besides the default one.
    pub backends: BTreeSet<TableBackend>,
    pub tables: Arc<dyn TableBackends>,
    /// Default quotas of sources and projects.
    pub quotas: Quotas,
    pub topics: Arc<dyn TopicService>,
    /// Counts of path lookups.
    pub path_uses: Arc<dyn PathUses>,
    /// Live records of this node.
    pub taps: Arc<dyn TapService>,
    /// State of the sinks.
    pub monitor: SinkMonitor,
    /// The server itself.
    pub node_status: Arc<dyn NodeService>,
    /// Addresses and limits.
    pub config: ApiConfig,
}

/// Rejection of a request that needs an operator token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRejection {
    pub status: StatusCode,
    /// For users.
    pub message: String,
    /// Seconds to wait before a retry.
    pub retry_after: Option<u32>,
}

/// The management API of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(SharedApi);

/// All documented routes.
fn routes() -> OpenApiRouter<SharedApi> {
    OpenApiRouter::with_openapi(document::ApiDoc::openapi())
        .routes(routes!(index::root))
        .routes(routes!(index::index))
        .routes(routes!(document::json3))
        .routes(routes!(document::yaml3))
        .routes(routes!(document::json2))
        .routes(routes!(document::yaml2))
        .routes(routes!(document::moved))
        .routes(routes!(index::health_check))
        .routes(routes!(sources::create, sources::list))
        .routes(routes!(sources::list_deleted))
        .routes(routes!(sources::get, sources::update, sources::delete))
        .routes(routes!(settings::get_source, settings::update_source))
        .routes(routes!(test_mapping::test))
        .routes(routes!(dry_run::dry_run))
        .routes(routes!(tap::tap))
        .routes(routes!(statistics::clear_source))
        .routes(routes!(lifecycle::disable_source))
        .routes(routes!(lifecycle::enable_source))
        .routes(routes!(lifecycle::undelete_source))
        .routes(routes!(lifecycle::rotate_secret))
        .routes(routes!(versions::list_source))
        .routes(routes!(versions::get_source))
        .routes(routes!(versions::rollback_source))
        .routes(routes!(aggregation::aggregation))
        .routes(routes!(aggregation::one))
        .routes(routes!(status::status))
        .routes(routes!(definitions::validate))
        .routes(routes!(sinks::create, sinks::list))
        .routes(routes!(sinks::list_deleted))
        .routes(routes!(sinks::get, sinks::update, sinks::delete))
        .routes(routes!(settings::get_sink, settings::update_sink))
        .routes(routes!(statistics::total))
        .routes(routes!(statistics::files))
        .routes(routes!(statistics::slices))
        .routes(routes!(statistics::reconciliation))
        .routes(routes!(statistics::delivery))
        .routes(routes!(columns::columns))
        .routes(routes!(retry::retry_sink))
        .routes(routes!(retry::reject_file))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::causes))
        .routes(routes!(dead_letters::export))
        .routes(routes!(dead_letters::get))
        .routes(routes!(dead_letters::replay))
        .routes(routes!(dead_letters::discard))
        .routes(routes!(statistics::clear_sink))
        .routes(routes!(lifecycle::disable_sink))
        .routes(routes!(lifecycle::enable_sink))
        .routes(routes!(lifecycle::pause_sink))
        .routes(routes!(lifecycle::resume_sink))
        .routes(routes!(lifecycle::undelete_sink))
        .routes(routes!(versions::list_sink))
        .routes(routes!(versions::get_sink))
        .routes(routes!(versions::rollback_sink))
        .routes(routes!(tasks::get))
        .routes(routes!(admin::create_token, admin::list_tokens))
        .routes(routes!(admin::get_token, admin::revoke_token))
        .routes(routes!(admin::rotate_token))
        .routes(routes!(admin::audit))
        .routes(routes!(quotas::get_quota, quotas::set_quota))
        .routes(routes!(tables::list))
        .routes(routes!(tables::get))
        .routes(routes!(tables::transfer))
        .routes(routes!(tables::share))
        .routes(routes!(tables::unshare))
}

impl Api {
    /// Builds the API; nothing runs before the first request.
    pub fn new(deps: ApiDeps) -> Self {
        let document = routes().to_openapi();
        let document = document::finish(
            &document,
            config::base(&deps.config.public_url),
            deps.repo.limits(),
            deps.config.name_limits,
        );
        let tasks = TaskRunner::new(
            deps.repo.clone(),
            deps.clock.clone(),
            deps.node.0,
            deps.config.task_timeout.0,
        );
        Self(Arc::new(ApiState {
            repo: deps.repo,
            mapper: deps.mapper,
            dead_letters: deps.dead_letters,
            auth: deps.auth,
            clock: deps.clock,
            random: RandomText::new(deps.random),
            backends: deps.backends,
            tables: deps.tables,
            quotas: deps.quotas,
            rate_limiter: TokenRateLimiter::new(deps.config.requests_per_second),
            rejection_audit: RejectionAudit::new(),
            bodies: BodyLimiter::new(deps.config.max_bytes_in_flight),
            wrong_tokens: WrongTokenLimiter::new(deps.config.wrong_tokens_per_second),
            topics: deps.topics,
            path_uses: deps.path_uses,
            taps: deps.taps,
            monitor: deps.monitor,
            node_status: deps.node_status,
            config: deps.config,
            tasks,
            operations: ApiOperations::new(&document),
            documents: ApiDocuments::new(&document),
            dashboard: Dashboard::new(),
        }))
    }

    /// The router. More routes can be merged in; the API's checks do not apply to them, and a path
    /// in neither returns `endpointNotFound`.
    ///
    /// Serve it with the peer's address (`into_make_service_with_connect_info::<SocketAddr>`): the
    /// test of a mapping shows it.
    pub fn router(&self) -> Router {
        let (router, _) = routes().split_for_parts();
        router
            .route(document::PAGE, get(document::page))
            .route(dashboard::PAGE, get(dashboard::page))
            .route(dashboard::ASSET, get(dashboard::asset))
            .fallback(index::not_found)
            .layer(from_fn_with_state(self.0.clone(), tasks::wait))
            .layer(from_fn_with_state(
                self.0.clone(),
                request_scope::middleware,
            ))
            .with_state(self.0.clone())
    }

    /// The OpenAPI 3 document in JSON, as served.
    pub fn document(&self) -> &str {
        self.0.documents.json.as_str()
    }

    /// Whether a request has an operator token. For routes served beside the API.
    pub async fn is_operator(&self, headers: &HeaderMap, from: Option<IpAddr>) -> bool {
        self.admit_operator(headers, from).await.is_ok()
    }

    /// Rejects a request without an operator token. Wrong tokens count as those of the API do.
    pub async fn admit_operator(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<(), AccessRejection> {
        let rejection = |e: ApiError| {
            let status = e.status();
            let mut message = e.message;
            if status.is_server_error() {
                tracing::warn!(cause = message, "token lookup failed");
                message = "token lookup failed, try again later".to_owned();
            }
            AccessRejection {
                status,
                message,
                retry_after: e.retry_after,
            }
        };
        let who = call::identify(&self.0, headers, from).await;
        if who.map_err(rejection)?.operator {
            return Ok(());
        }
        let text = "an operator token is required";
        Err(rejection(ApiError::forbidden(text)))
    }

    /// Accepts no more tasks and waits up to `grace` for running ones; the others end with an
    /// error. Returns whether all tasks finished by themselves.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.tasks.shutdown(grace).await
    }
}

#[cfg(test)]
mod tests;
