//! The management API: routes of sources, sinks and tasks.
//!
//! A request goes through `frame` (id, CORS, time limit, errors), then as `call::ApiCall` through
//! the checks that the OpenAPI document names for its operation, then to a handler. A handler checks
//! what needs the store or the mapper, and starts a task for everything that changes something.

mod admin;
mod aggregation;
mod body;
mod body_limiter;
mod call;
mod cascade;
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
mod params;
mod quotas;
mod random_text;
mod rejection_audit;
mod request_scope;
mod retry;
mod settings;
mod sinks;
mod sources;
mod statistics;
mod table_check;
mod tables;
mod tasks;
mod test_mapping;
mod token_rate_limiter;
mod topics;
mod types;
mod validate;
mod versions;
mod wrong_token_limiter;

use std::collections::BTreeSet;
use std::fmt;
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

pub use columns::PathUses;
pub use config::{ApiConfig, is_http_url};
pub use dead_letters::{
    DeadLetterEntry, DeadLetterSelection, DeadLetterService, DeadLetterServiceError,
    DiscardSummary, ReplaySummary,
};
pub use mapper::{ColumnProblem, Mapper, TestCell, TestError, TestRecord, TestTable};
pub use random_text::RandomSource;
pub use table_check::TableBackends;
pub use topics::TopicService;

use crate::auth::TokenAuthenticator;
use crate::task::TaskRunner;
use body_limiter::BodyLimiter;
use dashboard::Dashboard;
use document::ApiDocuments;
use error::ApiError;
use operation::ApiOperations;
use random_text::RandomText;
use rejection_audit::RejectionAudit;
use token_rate_limiter::TokenRateLimiter;
use wrong_token_limiter::WrongTokenLimiter;

/// What the API is built from.
pub struct ApiDeps {
    /// Where definitions and tasks are. Its defaults are shown as those of settings.
    pub repo: Repo,
    /// What compiles mappings.
    pub mapper: Arc<dyn Mapper>,
    /// What keeps dead letters.
    pub dead_letters: Arc<dyn DeadLetterService>,
    /// What knows tokens.
    pub auth: Arc<dyn TokenAuthenticator>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Secrets are made from it.
    pub random: RandomSource,
    /// This node: tasks that it leaves unfinished are known by it.
    pub node: NodeId,
    /// Table backends that can be named besides the default one.
    pub backends: BTreeSet<TableBackend>,
    /// What keeps tables.
    pub tables: Arc<dyn TableBackends>,
    /// What the server's configuration allows sources and projects.
    pub quotas: Quotas,
    /// What delivers topics.
    pub topics: Arc<dyn TopicService>,
    /// What knows whether paths find something.
    pub path_uses: Arc<dyn PathUses>,
    /// Addresses and limits of requests.
    pub config: ApiConfig,
}

/// The reason for which a request is refused that only an operator may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRejection {
    /// Status of the response.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// Seconds after which it may be sent again.
    pub retry_after: Option<u32>,
}

/// The management API of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(SharedApi);

type SharedApi = Arc<ApiState>;

struct ApiState {
    repo: Repo,
    mapper: Arc<dyn Mapper>,
    dead_letters: Arc<dyn DeadLetterService>,
    auth: Arc<dyn TokenAuthenticator>,
    clock: Arc<dyn Clock>,
    random: RandomText,
    backends: BTreeSet<TableBackend>,
    tables: Arc<dyn TableBackends>,
    quotas: Quotas,
    rate_limiter: TokenRateLimiter,
    rejection_audit: RejectionAudit,
    bodies: BodyLimiter,
    wrong_tokens: WrongTokenLimiter,
    topics: Arc<dyn TopicService>,
    path_uses: Arc<dyn PathUses>,
    config: ApiConfig,
    tasks: TaskRunner,
    operations: ApiOperations,
    documents: ApiDocuments,
    dashboard: Dashboard,
}

impl fmt::Debug for ApiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// All routes that are documented.
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
    #[must_use]
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
            config: deps.config,
            tasks,
            operations: ApiOperations::new(&document),
            documents: ApiDocuments::new(&document),
            dashboard: Dashboard::new(),
        }))
    }

    /// The routes, to be served. More can be merged in; they are not touched by the API's checks,
    /// and what is found in neither answers `endpointNotFound`.
    ///
    /// Serve it with the peer's address (`into_make_service_with_connect_info::<SocketAddr>`), so
    /// that the test of a mapping can show it.
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

    /// The OpenAPI 3 document in JSON, as it is served.
    #[must_use]
    pub fn document(&self) -> &str {
        self.0.documents.json.as_str()
    }

    /// Whether a request has a token that may administer all projects of the server. For what is
    /// served beside the API.
    pub async fn is_operator(&self, headers: &HeaderMap, from: Option<IpAddr>) -> bool {
        self.admit_operator(headers, from).await.is_ok()
    }

    /// The same, with the reason to refuse it. Wrong tokens count as those of the API do.
    ///
    /// # Errors
    /// When it has no such token.
    pub async fn admit_operator(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<(), AccessRejection> {
        let rejection = |e: ApiError| {
            let status = e.name.status();
            let mut message = e.message;
            if status.is_server_error() {
                tracing::warn!(cause = message, "a token can't be looked up");
                message = "the token can't be looked up now".to_owned();
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
        let text = "only a token of an operator opens this";
        Err(rejection(ApiError::forbidden(text)))
    }

    /// Takes no more tasks and waits for those that run, up to `grace`; what is left then ends with
    /// an error. `true` when all came to their own end.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.tasks.shutdown(grace).await
    }
}

#[cfg(test)]
mod tests;
