//! Helpers to run jobs in tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_connect::keyed::sqlite::SqliteKeyed;
use forebay_connect::keyed::{CellValue, KeyedRow, KeyedTable};
use forebay_jobs::definition::JobDefinition;
use forebay_jobs::state::JobState;
use forebay_jobs::{JobContext, JobOutcome, JobProgress, JobSummary};
use forebay_model::{Clock, DeadLetterSelection, Timestamp};
use forebay_test_support::{WAIT_MAX, poll_until};
use tokio_util::sync::CancellationToken;

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

/// A running job.
pub(crate) struct Running {
    task: tokio::task::JoinHandle<JobOutcome>,
    state_dir: PathBuf,
    pub(crate) stop: CancellationToken,
    pub(crate) progress: Arc<JobProgress>,
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

    /// Reads a definition; `${TOKEN}` is the only reference that resolves.
    pub(crate) fn define(&self, yaml: &str) -> JobDefinition {
        self.try_define(yaml).unwrap_or_else(|e| panic!("{e}"))
    }

    pub(crate) fn try_define(&self, yaml: &str) -> Result<JobDefinition, String> {
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
        JobDefinition::read(&file, &substitute).map_err(|e| e.to_string())
    }

    pub(crate) fn start(&self, definition: &JobDefinition) -> Running {
        self.start_on(definition, JobState::open(&definition.state_dir()).unwrap())
    }

    /// Runs to the end, with only these environment variables.
    pub(crate) async fn run_in(
        &self,
        definition: &JobDefinition,
        variables: &'static [(&'static str, &'static str)],
    ) -> (JobOutcome, JobSummary) {
        let mut context = job_context();
        context.variable = Arc::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let state = JobState::open(&definition.state_dir()).unwrap();
        let end = forebay_jobs::run(definition, state, &context).await;
        (end, context.progress.summary(Duration::from_secs(1)))
    }

    fn start_on(&self, definition: &JobDefinition, state: JobState) -> Running {
        let context = job_context();
        let definition = definition.clone();
        Running {
            state_dir: definition.state_dir(),
            stop: context.stop.clone(),
            progress: Arc::clone(&context.progress),
            task: tokio::spawn(
                async move { forebay_jobs::run(&definition, state, &context).await },
            ),
        }
    }

    /// Runs until the job ends.
    pub(crate) async fn run(&self, definition: &JobDefinition) -> (JobOutcome, JobSummary) {
        self.start(definition).end().await
    }

    pub(crate) async fn replay(
        &self,
        definition: &JobDefinition,
        selection: DeadLetterSelection,
    ) -> (JobOutcome, JobSummary) {
        let context = job_context();
        let state = JobState::open(&definition.state_dir()).unwrap();
        let end = forebay_jobs::replay(definition, &selection, state, &context).await;
        (end, context.progress.summary(Duration::from_secs(1)))
    }

    /// A row of the table `products` in `rows.db` by id.
    pub(crate) async fn row(&self, id: i64) -> Option<KeyedRow> {
        let store = SqliteKeyed::new(self.path("rows.db"));
        let shape = store.describe("products").await.unwrap().unwrap();
        store
            .get(&Arc::new(shape), &[CellValue::Integer(id)])
            .await
            .unwrap()
    }

    /// The number that a query returns on `rows.db`.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let connection = rusqlite::Connection::open(self.path("rows.db")).unwrap();
        connection.query_row(sql, [], |r| r.get(0)).unwrap()
    }
}

fn job_context() -> JobContext {
    JobContext {
        clock: Arc::new(RealClock),
        variable: Arc::new(|name| std::env::var(name).ok()),
        stop: CancellationToken::new(),
        progress: Arc::default(),
    }
}

impl Running {
    pub(crate) async fn end(self) -> (JobOutcome, JobSummary) {
        let end = tokio::time::timeout(WAIT_MAX, self.task).await;
        let end = end.expect("the job has to end").unwrap();
        (end, self.progress.summary(Duration::from_secs(1)))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Simulates a kill: no task continues, nothing is finished.
    pub(crate) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
        // The job's tasks end when the runtime polls them next.
        poll_until("the end of the job's tasks", || {
            JobState::open(&self.state_dir).is_ok()
        })
        .await;
    }
}

/// Dead letters of a job.
pub(crate) async fn dead(dir: &Path) -> Vec<forebay_jobs::state::JobDeadLetter> {
    let state = JobState::inspect(dir).unwrap();
    state.dead_letters(0, 1000).await.unwrap().dead_letters
}
