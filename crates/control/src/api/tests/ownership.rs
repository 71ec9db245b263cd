//! Random operations of two projects and an operator, checked against a model in which neither
//! project can write, alter or drop the other's tables. The store and the tables are real; the
//! importer's checks before a write are made here in the same order (`delivery/src/import/owner.rs`).

use std::collections::{BTreeMap, BTreeSet};

use forebay_connect::table::sqlite::query;
use forebay_connect::table::{Import, RowBatch, Table};
use forebay_meta::catalog::tables::{TableFillState, TableOwnerError};
use forebay_model::{
    Actor, AuditStamp, Clock, File, FileState, Sink, SinkKey, SliceState, StagedChecksum,
    Statistics, TableBackend,
};
use futures::{StreamExt, stream};
use http::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::world::{S, World};

mod model;

use model::{Model, Rows, done, id, source_key, table_sink};

const PROJECTS: [(&str, u64); 2] = [("admin", 123), ("other", 456)];
/// Two of them are the same table for SQLite; the last one existed before.
const TABLES: [&str; 5] = ["in.a.t", "in.a.T", "in.a.u", "in.b.t", HAND];
const HAND: &str = "in.hand.made";
const SEEDS: u64 = 12;
const STEPS: usize = 80;

struct Fuzz {
    world: World,
    model: Model,
    random: StdRng,
    /// Number of operations by outcome.
    counts: BTreeMap<&'static str, u32>,
    trace: Vec<String>,
    file: u32,
}

fn sink_body(name: &str, table: &str) -> Value {
    json!({ "type": "table", "name": name, "sinkId": name, "table": { "type": "keboola",
        "tableId": table, "mapping": { "columns": [{ "type": "body", "name": "who" }] } } })
}

/// Whether a sink is disabled with its source only.
fn is_with_source(disabled: &forebay_model::DisableInfo) -> bool {
    disabled.reason == "Auto-disabled with the parent source."
}

impl Fuzz {
    async fn new(seed: u64) -> Self {
        let world = World::with(|c| c.task_timeout = forebay_model::HumanDuration::secs(5)).await;
        for (token, _) in PROJECTS {
            for source in ["s0", "s1"] {
                let body = json!({ "type": "http", "name": source, "sourceId": source });
                let made = world
                    .call_as(token, Method::POST, S, body.to_string())
                    .await;
                done(&world, token, &made).await.unwrap();
            }
        }
        let mapping = &table_sink(HAND).mapping;
        world
            .tables
            .sqlite
            .prepare(&id(HAND), mapping)
            .await
            .unwrap();
        Self {
            world,
            model: Model::default(),
            random: StdRng::seed_from_u64(seed),
            counts: BTreeMap::new(),
            trace: Vec::new(),
            file: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    /// Sends a request of a project; returns whether it and its task succeeded.
    async fn ask(&mut self, token: &str, method: Method, path: &str, body: &Value) -> Option<bool> {
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let reply = self.world.call_as(token, method.clone(), path, text).await;
        let outcome = done(&self.world, token, &reply).await;
        self.trace
            .push(format!("{token}: {method} {path} {body}: {outcome:?}"));
        let good = outcome.is_ok();
        if let Err(why) = outcome {
            // No project learns the other's number.
            let others = PROJECTS.iter().filter(|(t, _)| *t != token);
            assert!(
                token == "operator"
                    || others
                        .into_iter()
                        .all(|(_, p)| !why.contains(&p.to_string())),
                "{why}"
            );
        }
        Some(good)
    }

    async fn sinks(&self) -> Vec<Sink> {
        let mut all = Vec::new();
        for (_, project) in PROJECTS {
            for source in ["s0", "s1"] {
                let key = source_key(project, source);
                let listed = self.world.repo.sinks(&key, "", 100).await.unwrap();
                all.extend(listed.items);
            }
        }
        all
    }

    #[expect(clippy::too_many_lines, reason = "a table of operations")]
    async fn step(&mut self) {
        let (token, project) = PROJECTS[self.below(2)];
        let source = ["s0", "s1"][self.below(2)];
        let name = ["k0", "k1"][self.below(2)];
        let table = TABLES[self.below(TABLES.len())];
        let at = format!("{S}/{source}");
        let mut key = SinkKey {
            source: source_key(project, source),
            sink: forebay_model::SinkId::from_raw(name),
        };
        // Mostly an existing sink.
        let mut there = self.sinks().await;
        there.retain(|s| s.key.source.branch.project.0 == project);
        if !there.is_empty() && self.below(5) > 0 {
            key = there.swap_remove(self.below(there.len())).key;
        }
        let sink = format!("{S}/{}/sinks/{}", key.source.source, key.sink);
        match self.below(16) {
            0..=2 => {
                let body = sink_body(name, table);
                let path = format!("{at}/sinks");
                let made = self.ask(token, Method::POST, &path, &body).await == Some(true);
                let key = SinkKey {
                    source: source_key(project, source),
                    sink: forebay_model::SinkId::from_raw(name),
                };
                self.gained(made, "create", &key).await;
            }
            3..=4 => {
                let body = json!({ "table": { "tableId": table } });
                let moved = self.ask(token, Method::PATCH, &sink, &body).await;
                self.gained(moved == Some(true), "move", &key).await;
            }
            5 => {
                self.ask(token, Method::DELETE, &sink, &Value::Null).await;
            }
            6 => {
                self.ask(token, Method::DELETE, &sink, &Value::Null).await;
                self.operator(project, table).await;
                let path = format!("{sink}/undelete");
                let back = self.ask(token, Method::PUT, &path, &Value::Null).await;
                self.gained(back == Some(true), "undelete", &key).await;
            }
            7 => {
                let path = format!("{sink}/disable");
                self.ask(token, Method::PUT, &path, &Value::Null).await;
            }
            8 => {
                let path = format!("{sink}/disable");
                self.ask(token, Method::PUT, &path, &Value::Null).await;
                self.operator(project, table).await;
                let is_off = self.world.repo.sink(&key).await;
                let is_off =
                    is_off.is_ok_and(|s| s.disabled.as_ref().is_some_and(|d| !is_with_source(d)));
                let path = format!("{sink}/enable");
                let on = self.ask(token, Method::PUT, &path, &Value::Null).await;
                self.gained(on == Some(true) && is_off, "enable", &key)
                    .await;
            }
            9 => {
                let body = json!({ "table": { "tableId": table } });
                self.ask(token, Method::PATCH, &sink, &body).await;
                self.operator(project, table).await;
                let path = format!("{sink}/versions/1/rollback");
                let before = self
                    .world
                    .repo
                    .sink(&key)
                    .await
                    .ok()
                    .map(|s| s.value.target);
                let back = self.ask(token, Method::PUT, &path, &Value::Null).await;
                let after = self
                    .world
                    .repo
                    .sink(&key)
                    .await
                    .ok()
                    .map(|s| s.value.target);
                self.gained(back == Some(true) && before != after, "rollback", &key)
                    .await;
            }
            10 => self.source_comes_back(token, project, source).await,
            11 => self.cascade(token, project, source).await,
            12 => self.crash_while_dropping(project, source).await,
            13 => self.operator(project, table).await,
            _ => self.import_all().await,
        }
        self.check().await;
    }

    /// A created, changed or undeleted sink has a table that its project may use.
    async fn gained(&mut self, good: bool, what: &'static str, key: &SinkKey) {
        *self.counts.entry(what).or_default() += u32::from(good);
        if !good {
            return;
        }
        let sink = self.world.repo.sink(key).await.unwrap();
        let table = sink.target.table().unwrap().table.to_string();
        let project = key.source.branch.project.0;
        assert!(
            self.model.may(project, &table),
            "{what} of {key} got {table}"
        );
        let is_hand = table == HAND && !self.model.owner.contains_key(HAND);
        assert!(!is_hand, "{what} of {key} got a table that was there");
    }

    /// Deletes and undeletes, or disables and enables a source: none of its sinks accepts records
    /// for a table of another project.
    async fn source_comes_back(&mut self, token: &str, project: u64, source: &str) {
        let at = format!("{S}/{source}");
        let (away, back) = match self.below(2) {
            0 => ((Method::DELETE, at.clone()), format!("{at}/undelete")),
            _ => (
                (Method::PUT, format!("{at}/disable")),
                format!("{at}/enable"),
            ),
        };
        self.ask(token, away.0, &away.1, &Value::Null).await;
        let table = TABLES[self.below(TABLES.len())];
        self.operator(project, table).await;
        if self.ask(token, Method::PUT, &back, &Value::Null).await != Some(true) {
            return;
        }
        for sink in self.sinks().await {
            let is_its = sink.key.source == source_key(project, source);
            if is_its && sink.is_active() {
                self.gained(true, "with its source", &sink.key).await;
            }
        }
    }

    /// Deletes a source with its tables while a sink of another source is created.
    async fn cascade(&mut self, token: &str, project: u64, source: &str) {
        let key = source_key(project, source);
        let at = format!("{S}/{source}");
        self.ask(token, Method::DELETE, &at, &Value::Null).await;
        self.import_all().await;
        if self.world.repo.files_in_flight(&key).await.unwrap() > 0 {
            return;
        }
        let before = self.there().await;
        let table = TABLES[self.below(TABLES.len())];
        let elsewhere = ["s1", "s0"][usize::from(source == "s1")];
        let body = sink_body("race", table).to_string();
        let path = format!("{S}/{elsewhere}/sinks");
        let cascade = format!("{at}?cascade=true");
        let (dropped, made) = tokio::join!(
            async {
                let reply = self
                    .world
                    .call_as(token, Method::DELETE, &cascade, "")
                    .await;
                done(&self.world, token, &reply).await
            },
            async {
                let reply = self.world.call_as(token, Method::POST, &path, body).await;
                done(&self.world, token, &reply).await
            }
        );
        self.trace.push(format!(
            "{token}: cascade of {source}: {dropped:?}, {table}: {made:?}"
        ));
        *self.counts.entry("cascade").or_default() += u32::from(dropped.is_ok());
        for gone in before.difference(&self.there().await) {
            assert_eq!(
                self.model.owner.get(gone),
                Some(&project),
                "{gone} was dropped"
            );
            self.model.owner.remove(gone);
            self.model.rows.remove(gone);
            self.model.shared.retain(|(t, _)| t != gone);
            *self.counts.entry("drop").or_default() += 1;
        }
        if made.is_ok() {
            let race = SinkKey {
                source: source_key(project, elsewhere),
                sink: forebay_model::SinkId::from_raw("race"),
            };
            self.gained(true, "create", &race).await;
            let path = format!("{path}/race");
            self.ask(token, Method::DELETE, &path, &Value::Null).await;
        }
        let body = json!({ "type": "http", "name": source, "sourceId": source });
        self.ask(token, Method::POST, S, &body).await;
    }

    /// A crash between the mark and the drop leaves the mark.
    async fn crash_while_dropping(&mut self, project: u64, source: &str) {
        let (key, repo) = (source_key(project, source), self.world.repo.clone());
        if repo.files_in_flight(&key).await.unwrap() > 0 || repo.deleted_source(&key).await.is_err()
        {
            return;
        }
        for table in repo.filled_tables(&key).await.unwrap() {
            let decision = repo.begin_drop(&key, &table, &self.stamp()).await;
            self.trace
                .push(format!("{project}: mark {}: {decision:?}", table.table));
        }
    }

    async fn operator(&mut self, project: u64, table: &str) {
        let lower = table.to_ascii_lowercase();
        let at = format!("/v1/admin/tables/sqlite/{table}");
        let force = self.below(3) == 0;
        let body = json!({ "projectId": project, "force": force });
        match self.below(3) {
            0 => {
                if self
                    .ask("operator", Method::POST, &format!("{at}/transfer"), &body)
                    .await
                    == Some(true)
                {
                    self.model.shared.remove(&(lower.clone(), project));
                    self.model.owner.insert(lower, project);
                }
            }
            1 => {
                let body = json!({ "projectId": project });
                if self
                    .ask("operator", Method::POST, &format!("{at}/share"), &body)
                    .await
                    == Some(true)
                {
                    // A table that was never filled belongs to the project of the first sink that
                    // named it.
                    let key = id(table);
                    let entry = self.world.repo.table_entry(TableBackend::Sqlite, &key);
                    let owner = entry.await.unwrap().unwrap().owner.0;
                    let known = self.model.owner.entry(lower.clone()).or_insert(owner);
                    assert_eq!(*known, owner, "{table}");
                    self.model.shared.insert((lower, project));
                }
            }
            _ => {
                if self
                    .ask("operator", Method::POST, &format!("{at}/unshare"), &body)
                    .await
                    == Some(true)
                {
                    self.model.shared.remove(&(lower, project));
                }
            }
        }
    }

    fn stamp(&self) -> AuditStamp {
        AuditStamp {
            at: self.world.clock.now(),
            by: Actor::system(),
        }
    }

    /// Every file gets one record and is imported if its table allows it.
    async fn import_all(&mut self) {
        let repo = self.world.repo.clone();
        let (volumes, now) = (
            [forebay_model::VolumeId("vol1".to_owned())],
            self.world.clock.now(),
        );
        for file in repo.active_files(None).await.unwrap() {
            if file.file.state == FileState::Writing {
                repo.rotate_file(&file.file.key, &volumes, now)
                    .await
                    .unwrap();
            }
        }
        let one = Statistics {
            records: 1,
            ..Statistics::default()
        };
        for file in repo.active_files(None).await.unwrap() {
            if file.file.state == FileState::Closing {
                for slice in file.slices.iter().map(|s| &s.slice) {
                    assert_eq!(slice.state, SliceState::Closing);
                    repo.slice_uploading(&slice.key, one, now).await.unwrap();
                    let staged = StagedChecksum {
                        bytes: 1,
                        crc32c: 0,
                    };
                    repo.slice_uploaded(&slice.key, staged, 0, now)
                        .await
                        .unwrap();
                }
                repo.file_importing(&file.file.key, now).await.unwrap();
            }
        }
        for file in repo.active_files(None).await.unwrap() {
            if file.file.state == FileState::Importing {
                self.import(&file.file.value).await;
            }
        }
    }

    async fn import(&mut self, file: &File) {
        let (repo, project) = (self.world.repo.clone(), file.key.sink.source.branch.project);
        let (backend, table) = (file.table.backend, &file.table.table);
        let name = table.to_string().to_ascii_lowercase();
        let filling = match repo.table_fill_state(project, backend, table).await {
            Ok(filling) => filling,
            Err(TableOwnerError::Rejected(rejection)) => {
                self.trace.push(format!("{project}: {rejection}"));
                *self.counts.entry("parked").or_default() += 1;
                return;
            }
            Err(e) => panic!("{e}"),
        };
        if let TableFillState::First { may_exist } = filling {
            let found = self.world.tables.inspect(table, &file.table.mapping).await;
            let found = found.unwrap().exists;
            if found && !may_exist {
                return;
            }
            repo.fill_table(project, backend, table, found, &self.stamp())
                .await
                .unwrap();
        }
        assert!(
            self.model.may(project.0, &name),
            "{project} writes into {name}"
        );
        let tables = &self.world.tables;
        // Fails only if it is another name of a table for SQLite, in another case.
        if tables.prepare(table, &file.table.mapping).await.is_err() {
            return;
        }
        let mut batch = RowBatch::new(1);
        batch.push_row(&[project.to_string()]);
        let import = Import {
            id: format!("fuzz/{}", file.key),
            table: table.clone(),
            mapping: file.table.mapping.clone(),
        };
        let rows = stream::iter([Ok(batch)]).boxed();
        let done = tables.import(&import, rows).await.unwrap();
        assert!(!done.already_done);
        repo.file_imported(&file.key, done.rows, self.world.clock.now())
            .await
            .unwrap();
        self.file += 1;
        self.model.owner.entry(name.clone()).or_insert(project.0);
        self.model
            .rows
            .entry(name)
            .or_default()
            .push(project.to_string());
    }

    async fn there(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for table in TABLES {
            let (key, target) = (id(table), table_sink(table));
            let inspection = self.world.tables.sqlite.inspect(&key, &target.mapping);
            if inspection.await.unwrap().exists {
                all.insert(table.to_ascii_lowercase());
            }
        }
        all
    }

    /// Each table has exactly the rows of the model.
    async fn check(&self) {
        for table in self.there().await {
            let sql = format!("SELECT who FROM \"{table}\" ORDER BY rowid");
            let mut rows = Rows(Vec::new());
            let path = self.world.tables.sqlite.path();
            query(path, &sql, None, &mut rows).unwrap();
            let wanted = self.model.rows.get(&table).cloned().unwrap_or_default();
            assert_eq!(rows.0, wanted, "{table}");
        }
        for table in self.model.rows.keys() {
            assert!(self.there().await.contains(table), "{table} is gone");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_project_writes_alters_or_drops_tables_of_another() {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 0..SEEDS {
        let mut fuzz = Fuzz::new(seed).await;
        for step in 0..STEPS {
            let start = fuzz.trace.len();
            fuzz.step().await;
            for line in &fuzz.trace[start..] {
                println!("seed {seed}, step {step}: {line}");
            }
        }
        for (what, count) in fuzz.counts {
            *counts.entry(what).or_default() += count;
        }
        *counts.entry("import").or_default() += fuzz.file;
    }
    println!("{counts:?}");
    // Each outcome has occurred, or the test proves nothing.
    for what in [
        "create",
        "move",
        "undelete",
        "enable",
        "rollback",
        "cascade",
        "drop",
        "parked",
        "import",
        "with its source",
    ] {
        assert!(
            counts.get(what).is_some_and(|n| *n > 0),
            "no {what}: {counts:?}"
        );
    }
}
