//! A source with all that it needs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_ingest::dispatch::{BranchRoute, Dispatcher, RouteTable, SinkRoute};
use forebay_ingest::memory_limiter::MemoryLimiter;
use forebay_ingest::pipeline::{Appender, Pipeline, PipelineShared};
use forebay_ingest::source::http::{HttpSourceConfig, HttpSourceDeps, HttpSourceServer};
use forebay_ingest::template::TemplatePool;
use forebay_model::{
    BlockCompression, ColumnKind, ManualClock, Mapping, MappingColumn, PathColumn, SinkSettings,
    SliceKey, SourceKey, Timestamp,
};
use forebay_record::{CompiledMapping, RowLimits};

use crate::client::{Answer, Client};
use crate::volume::Volume;

pub(crate) const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKL";
pub(crate) const NOW: &str = "2026-11-21T05:01:49.120Z";

pub(crate) struct World {
    pub(crate) source: HttpSourceServer,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) limiter: Arc<MemoryLimiter>,
    pub(crate) shared: Arc<PipelineShared>,
    pub(crate) volume: Volume,
    pub(crate) sinks: Vec<Arc<SinkRoute>>,
}

/// A sink: its id, its columns and its settings.
pub(crate) struct SinkDef(
    pub(crate) &'static str,
    pub(crate) Vec<ColumnKind>,
    pub(crate) SinkSettings,
);

pub(crate) fn path(path: &str) -> ColumnKind {
    ColumnKind::Path(PathColumn {
        path: path.to_owned(),
        default_value: None,
        raw_string: true,
    })
}

pub(crate) fn mapping(kinds: &[ColumnKind]) -> Mapping {
    let columns = kinds
        .iter()
        .enumerate()
        .map(|(i, kind)| MappingColumn::new(format!("c{i}"), kind.clone()));
    Mapping {
        columns: columns.collect(),
    }
}

pub(crate) fn config() -> HttpSourceConfig {
    HttpSourceConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..HttpSourceConfig::default()
    }
}

pub(crate) fn slice(sink: &SinkRoute, number: i64) -> SliceKey {
    let opened: Timestamp = NOW.parse().unwrap();
    let opened = opened.plus(Duration::from_millis(number as u64));
    format!("{}/{NOW}/vol/{opened}", sink.key())
        .parse()
        .unwrap()
}

/// Settings without compression, so that tests read rows as they are.
pub(crate) fn plain() -> SinkSettings {
    SinkSettings::default()
}

impl World {
    /// Starts one source `1/s` with these sinks.
    pub(crate) async fn start(config: HttpSourceConfig, sinks: Vec<SinkDef>) -> Self {
        Self::start_on(Volume::new(), config, sinks).await
    }

    pub(crate) async fn start_on(
        volume: Volume,
        config: HttpSourceConfig,
        sinks: Vec<SinkDef>,
    ) -> Self {
        Self::start_with(None, volume, config, sinks).await
    }

    pub(crate) async fn start_with(
        templates: Option<Arc<TemplatePool>>,
        volume: Volume,
        config: HttpSourceConfig,
        sinks: Vec<SinkDef>,
    ) -> Self {
        let counter = AtomicU64::new(0);
        let random = Arc::new(move || u128::from(counter.fetch_add(1, Ordering::Relaxed)));
        let dispatcher = Dispatcher::new(templates, random);
        let limiter = MemoryLimiter::new(config.max_bytes_in_flight.0);
        let shared = PipelineShared::new(Arc::clone(&limiter));
        let key: SourceKey = "1/2/s".parse().unwrap();
        let mut routes = Vec::new();
        for SinkDef(id, columns, settings) in sinks {
            let route = SinkRoute::new(format!("{key}/{id}").parse().unwrap());
            open(&route, 0, &columns, &settings, &volume.shared(), &shared);
            routes.push(route);
        }
        let branch = BranchRoute {
            key,
            disabled: false,
            handshakes: forebay_model::HandshakeSettings::default(),
            verifier: None,
            sinks: routes.clone(),
        };
        dispatcher.set_table(RouteTable::new([(SECRET.to_owned(), branch)]));
        let deps = HttpSourceDeps {
            dispatcher: Arc::clone(&dispatcher),
            memory_limiter: Arc::clone(&limiter),
            clock: Arc::new(ManualClock::new(NOW.parse().unwrap())),
        };
        let source = HttpSourceServer::bind(config, deps).await.unwrap();
        Self {
            source,
            dispatcher,
            limiter,
            shared,
            volume,
            sinks: routes,
        }
    }

    /// For tests with paused time.
    pub(crate) async fn timed(config: HttpSourceConfig) -> Self {
        let sinks = vec![SinkDef("k", vec![ColumnKind::Body], plain())];
        Self::start_on(Volume::manual(), config, sinks).await
    }

    /// With one sink that keeps the body.
    pub(crate) async fn bodies(config: HttpSourceConfig) -> Self {
        Self::start(config, vec![SinkDef("k", vec![ColumnKind::Body], plain())]).await
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.source.address()).await
    }

    pub(crate) async fn post(&self, body: &str) -> Answer {
        self.client().await.post(&stream(), body).await
    }

    /// Rows of a sink's first slice, as CSV lines, from what is on disk.
    pub(crate) async fn rows(&self, sink: &str) -> Vec<String> {
        let route = self.sinks.iter().find(|s| s.key().sink.as_str() == sink);
        self.volume.rows(&slice(route.expect("a sink"), 0)).await
    }
}

/// Opens a slice of a sink and makes it the current one.
pub(crate) fn open(
    route: &Arc<SinkRoute>,
    number: i64,
    columns: &[ColumnKind],
    settings: &SinkSettings,
    appender: &Arc<dyn Appender>,
    shared: &Arc<PipelineShared>,
) -> Option<Arc<Pipeline>> {
    let mapping = CompiledMapping::compile_checked(&mapping(columns), &RowLimits::default());
    let pipeline = Pipeline::open(
        slice(route, number),
        BlockCompression::Gzip { level: 1 },
        settings,
        Arc::new(mapping),
        appender,
        Arc::clone(shared),
    );
    route.set_pipeline(Some(pipeline.unwrap()))
}

/// The path of the source.
pub(crate) fn stream() -> String {
    format!("/stream/1/s/{SECRET}")
}
