//! What a test needs to run jobs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_model::{Clock, Timestamp};
use forebay_pull::definition::Definition;
use forebay_pull::state::State;
use forebay_pull::{End, Progress, Selection, Summary, Surroundings};
use forebay_remote::keyed::sqlite::SqliteKeyed;
use forebay_remote::keyed::{KeyedTable, Row, Value};
use tokio_util::sync::CancellationToken;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }
}

/// A folder with a definition.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

/// A job that runs.
pub(crate) struct Running {
    task: tokio::task::JoinHandle<End>,
    state_dir: PathBuf,
    pub(crate) stop: CancellationToken,
    pub(crate) progress: Arc<Progress>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Reads a definition, with `$NAME$` of nothing in it: references name what is in `pairs`.
    pub(crate) fn define(&self, yaml: &str) -> Definition {
        self.try_define(yaml).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn try_define(&self, yaml: &str) -> Result<Definition, String> {
        let file = self.path("job.yaml");
        std::fs::write(&file, yaml).unwrap();
        let substitute = |text: &str| match text.strip_prefix("${") {
            None => Ok(None),
            Some("TOKEN}") => Ok(Some("s3cret-token".to_owned())),
            Some(other) => Err(format!(
                "the variable {} is not set",
                other.trim_end_matches('}')
            )),
        };
        Definition::read(&file, &substitute).map_err(|e| e.to_string())
    }

    pub(crate) fn start(&self, definition: &Definition) -> Running {
        self.start_on(definition, State::open(&definition.state_dir()).unwrap())
    }

    /// Runs to the end, with these variables in the environment and no others.
    pub(crate) async fn run_in(
        &self,
        definition: &Definition,
        variables: &'static [(&'static str, &'static str)],
    ) -> (End, Summary) {
        let mut around = surroundings();
        around.variable = Arc::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let state = State::open(&definition.state_dir()).unwrap();
        let end = forebay_pull::run(definition, state, &around).await;
        (end, around.progress.summary(Duration::from_secs(1)))
    }

    fn start_on(&self, definition: &Definition, state: State) -> Running {
        let around = surroundings();
        let definition = definition.clone();
        Running {
            state_dir: definition.state_dir(),
            stop: around.stop.clone(),
            progress: Arc::clone(&around.progress),
            task: tokio::spawn(async move { forebay_pull::run(&definition, state, &around).await }),
        }
    }

    /// Runs to the end, whatever that is.
    pub(crate) async fn run(&self, definition: &Definition) -> (End, Summary) {
        self.start(definition).end().await
    }

    pub(crate) async fn replay(
        &self,
        definition: &Definition,
        selection: Selection,
    ) -> (End, Summary) {
        let around = surroundings();
        let state = State::open(&definition.state_dir()).unwrap();
        let end = forebay_pull::replay(definition, &selection, state, &around).await;
        (end, around.progress.summary(Duration::from_secs(1)))
    }

    /// A row of the table `products` in `rows.db` by its id.
    pub(crate) async fn row(&self, id: i64) -> Option<Row> {
        let store = SqliteKeyed::new(self.path("rows.db"));
        let shape = store.describe("products").await.unwrap().unwrap();
        store
            .get(&Arc::new(shape), &[Value::Integer(id)])
            .await
            .unwrap()
    }

    /// One number that SQL answers on `rows.db`.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path("rows.db")).unwrap();
        connection.query_row(sql, [], |r| r.get(0)).unwrap()
    }
}

fn surroundings() -> Surroundings {
    Surroundings {
        clock: Arc::new(RealClock),
        variable: Arc::new(|name| std::env::var(name).ok()),
        stop: CancellationToken::new(),
        progress: Arc::default(),
    }
}

impl Running {
    pub(crate) async fn end(self) -> (End, Summary) {
        let end = tokio::time::timeout(PATIENCE, self.task).await;
        let end = end.expect("the job has to end").unwrap();
        (end, self.progress.summary(Duration::from_secs(1)))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// As a kill does: nothing of it runs on, nothing is finished.
    pub(crate) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        // Its tasks end when the runtime next looks at them.
        until("the end of its tasks", || {
            State::open(&self.state_dir).is_ok()
        })
        .await;
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"));
}

/// Dead letters of a job.
pub(crate) async fn dead(dir: &Path) -> Vec<forebay_pull::state::DeadLetter> {
    let state = State::look(dir).unwrap();
    state.dead(0, 1000).await.unwrap().letters
}
