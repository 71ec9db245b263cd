//! The management API: routes of sources, sinks and tasks.
//!
//! A request goes through `frame` (id, CORS, time limit, errors), then as `call::ApiCall` through
//! the checks that the OpenAPI document names for its operation, then to a handler. A handler checks
//! what needs the store or the mapper, and starts a task for everything that changes something.

mod admin;
mod aggregation;
mod answer;
mod body;
mod call;
mod cascade;
mod columns;
mod config;
mod dashboard;
mod definitions;
mod document;
mod error;
mod former;
mod frame;
mod in_flight;
mod index;
mod letters;
mod lifecycle;
mod mapper;
mod mapping;
mod operation;
mod pace;
mod params;
mod quotas;
mod random;
mod refused;
mod retry;
mod settings;
mod sinks;
mod sources;
mod statistics;
mod table_check;
mod tables;
mod tasks;
mod test_mapping;
mod topics;
mod try_mapping;
mod types;
mod validate;
mod versions;
mod wrong_tokens;

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
pub use letters::{Choice, Discard, KeptLetter, LetterFailure, Letters, Replay};
pub use mapper::{ColumnProblem, Mapper, TestCell, TestError, TestRecord, TestTable};
pub use random::RandomSource;
pub use table_check::TableBackends;
pub use topics::Topics;

use crate::auth::Authenticate;
use crate::task::Tasks;
use dashboard::Dashboard;
use document::Documents;
use error::ApiError;
use in_flight::BodyLimiter;
use operation::Operations;
use pace::Pace;
use random::Random;
use refused::Refusals;
use wrong_tokens::WrongTokens;

/// What the API is built from.
pub struct ApiDeps {
    /// Where definitions and tasks are. Its defaults are shown as those of settings.
    pub repo: Repo,
    /// What compiles mappings.
    pub mapper: Arc<dyn Mapper>,
    /// What keeps dead letters.
    pub letters: Arc<dyn Letters>,
    /// What knows tokens.
    pub auth: Arc<dyn Authenticate>,
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
    pub topics: Arc<dyn Topics>,
    /// What knows whether paths find something.
    pub path_uses: Arc<dyn PathUses>,
    /// Addresses and limits of requests.
    pub config: ApiConfig,
}

/// The reason for which a request is refused that only an operator may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Status of the response.
    pub status: StatusCode,
    /// For people.
    pub message: String,
    /// Seconds after which it may be sent again.
    pub retry_after: Option<u32>,
}

/// The management API of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Shared);

type Shared = Arc<Inner>;

struct Inner {
    repo: Repo,
    mapper: Arc<dyn Mapper>,
    letters: Arc<dyn Letters>,
    auth: Arc<dyn Authenticate>,
    clock: Arc<dyn Clock>,
    random: Random,
    backends: BTreeSet<TableBackend>,
    tables: Arc<dyn TableBackends>,
    quotas: Quotas,
    pace: Pace,
    refusals: Refusals,
    bodies: BodyLimiter,
    wrong_tokens: WrongTokens,
    topics: Arc<dyn Topics>,
    path_uses: Arc<dyn PathUses>,
    config: ApiConfig,
    tasks: Tasks,
    operations: Operations,
    documents: Documents,
    dashboard: Dashboard,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// All routes that are documented.
fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(document::Frame::openapi())
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
        .routes(routes!(try_mapping::try_mapping))
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
        .routes(routes!(statistics::balance))
        .routes(routes!(statistics::delivery))
        .routes(routes!(columns::columns))
        .routes(routes!(retry::retry_sink))
        .routes(routes!(retry::reject_file))
        .routes(routes!(letters::list))
        .routes(routes!(letters::get))
        .routes(routes!(letters::replay))
        .routes(routes!(letters::discard))
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
        let tasks = Tasks::new(
            deps.repo.clone(),
            deps.clock.clone(),
            deps.node.0,
            deps.config.task_timeout.0,
        );
        Self(Arc::new(Inner {
            repo: deps.repo,
            mapper: deps.mapper,
            letters: deps.letters,
            auth: deps.auth,
            clock: deps.clock,
            random: Random::new(deps.random),
            backends: deps.backends,
            tables: deps.tables,
            quotas: deps.quotas,
            pace: Pace::new(deps.config.requests_per_second),
            refusals: Refusals::new(),
            bodies: BodyLimiter::new(deps.config.max_bytes_in_flight),
            wrong_tokens: WrongTokens::new(deps.config.wrong_tokens_per_second),
            topics: deps.topics,
            path_uses: deps.path_uses,
            config: deps.config,
            tasks,
            operations: Operations::new(&document),
            documents: Documents::new(&document),
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
            .route(dashboard::PART, get(dashboard::part))
            .fallback(index::not_found)
            .layer(from_fn_with_state(self.0.clone(), tasks::wait))
            .layer(from_fn_with_state(self.0.clone(), frame::frame))
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
    ) -> Result<(), Refused> {
        let refused = |e: ApiError| {
            let status = e.name.status();
            let mut message = e.message;
            if status.is_server_error() {
                tracing::warn!(cause = message, "a token can't be looked up");
                message = "the token can't be looked up now".to_owned();
            }
            Refused {
                status,
                message,
                retry_after: e.retry_after,
            }
        };
        let who = call::identify(&self.0, headers, from).await;
        if who.map_err(refused)?.operator {
            return Ok(());
        }
        let text = "only a token of an operator opens this";
        Err(refused(ApiError::forbidden(text)))
    }

    /// Takes no more tasks and waits for those that run, up to `grace`; what is left then ends with
    /// an error. `true` when all came to their own end.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.0.tasks.shutdown(grace).await
    }
}

#[cfg(test)]
mod tests;
