//! The template pool with real worker processes. This binary is its own worker, so it has a main
//! function of its own instead of the test harness; it takes names of tests as arguments.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test, which the lints can't tell without the harness"
)]

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use forebay_ingest::template::{
    PoolConfig, TemplatePool, TemplateResult, WORKER_SUBCOMMAND, WorkerCommand, worker_main,
};
use forebay_model::ByteSize;
use forebay_record::{
    RecordContext, RecordErrorKind, RequestHeaders, RequestInfo, TemplateProgram,
};
use forebay_test_support::poll_for;
use tokio::time::Instant;

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), || Box::pin($name()))),*]
    };
}

const TESTS: &[(&str, Test)] = tests![
    answers_come_in_order_and_typed,
    a_worker_gets_only_what_templates_use,
    an_endless_template_fails_alone,
    templates_that_take_all_memory_fail_alone,
    deep_recursion_is_an_error_of_its_own,
    a_sink_with_an_endless_template_does_not_hold_up_others,
    a_tripped_template_is_tried_again,
    killing_workers_under_load_fails_nothing,
    a_worker_that_grows_is_replaced_and_fails_nothing,
    batches_keep_their_order,
    a_worker_that_cannot_start_is_reported,
    forbidden_template_features_fail,
    closing_answers_pending_evaluations,
    workers_end_with_their_parent,
];

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == WORKER_SUBCOMMAND) {
        return worker_main();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    if args.iter().any(|a| a == "be-a-parent") {
        runtime.block_on(be_a_parent());
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|a| a == "--bench") {
        runtime.block_on(bench());
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|a| a == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = args.iter().filter(|a| !a.starts_with('-')).collect();
    for (name, test) in TESTS {
        if filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str())) {
            let start = Instant::now();
            runtime.block_on(test());
            println!("test {name} ... ok ({:.1?})", start.elapsed());
        }
    }
    ExitCode::SUCCESS
}

fn this_binary() -> WorkerCommand {
    WorkerCommand::this_binary().unwrap()
}

fn config() -> PoolConfig {
    PoolConfig {
        workers: 2,
        time_limit: Duration::from_millis(300),
        ..PoolConfig::default()
    }
}

fn pool() -> TemplatePool {
    TemplatePool::new(config(), this_binary())
}

fn record(body: &str) -> RecordContext {
    let mut headers = http::HeaderMap::new();
    headers.insert(
        "content-type",
        http::HeaderValue::from_static("application/json"),
    );
    headers.insert("x-one", http::HeaderValue::from_static("1"));
    let request = RequestInfo {
        received: "2026-11-21T17:57:09.043Z".parse().unwrap(),
        client_ip: "1.2.3.4".parse().unwrap(),
        headers: RequestHeaders::from(headers),
    };
    RecordContext::new(Arc::new(request), body.to_owned().into())
}

fn template(source: &str) -> Arc<TemplateProgram> {
    Arc::new(TemplateProgram::new(source, true))
}

fn ok(text: &str) -> TemplateResult {
    Ok(text.as_bytes().to_vec())
}

async fn one(pool: &TemplatePool, source: &str, body: &str) -> TemplateResult {
    pool.evaluate(&[template(source)], &record(body))
        .await
        .remove(0)
}

const ENDLESS: &str = "local f(x) = f(x) tailstrict; f(1)";

/// Ids of our own worker processes.
fn workers_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after.split_whitespace();
        let state = fields.next();
        fields.next() == Some(&parent.to_string())
            && state != Some("Z")
            && line.contains(WORKER_SUBCOMMAND)
    })
    .collect()
}

fn kill_nine(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended just now.
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
}

async fn answers_come_in_order_and_typed() {
    let pool = pool();
    let templates = [
        "Body('a')",
        "Body('zz')",
        "error 'x'",
        "Ip() + Header('X-ONE')",
        "Now()",
        "{b: 1, a: Body('a')}",
    ];
    let templates: Vec<_> = templates.iter().map(|s| template(s)).collect();
    let answers = pool.evaluate(&templates, &record(r#"{"a":"é"}"#)).await;
    assert_eq!(answers[0], ok("é"));
    let kind = |i: usize| answers[i].as_ref().unwrap_err().kind;
    assert_eq!(kind(1), RecordErrorKind::PathNotFound);
    assert_eq!(kind(2), RecordErrorKind::Template);
    assert_eq!(answers[2].as_ref().unwrap_err().message, "1:1-10 x");
    assert_eq!(answers[3], ok("1.2.3.41"));
    assert_eq!(answers[4], ok("2026-11-21T17:57:09.043Z"));
    assert_eq!(answers[5], ok(r#"{"a":"é","b":1}"#));
    let broken = pool.evaluate(&templates[..1], &record("{")).await;
    assert_eq!(broken[0].as_ref().unwrap_err().kind, RecordErrorKind::Body);
    assert!(pool.evaluate(&[], &record("{}")).await.is_empty());
}

async fn a_worker_gets_only_what_templates_use() {
    let pool = pool();
    assert_eq!(one(&pool, "Ip()", r#"{"a":1}"#).await, ok("1.2.3.4"));
    assert_eq!(
        one(&pool, "BodyStr()", r#"{"a":1}"#).await,
        ok(r#"{"a":1}"#)
    );
    assert_eq!(one(&pool, "std.length(HeaderStr())", "{}").await, ok("40"));
    // Even when the name of the function is hidden.
    let hidden = r#"std.native("\u0042ody")("a", 1)"#;
    assert_eq!(one(&pool, hidden, r#"{"a":7}"#).await, ok("7"));
}

async fn an_endless_template_fails_alone() {
    let pool = pool();
    for source in [
        ENDLESS,
        "std.foldl(function(a, x) a + x, std.makeArray(100000000, function(i) i), 0)",
        "local a = std.makeArray(20, function(i) [i, i]); std.foldl(function(t, x) [t, t], std.range(1, 60), 1) == 5 || std.length(std.manifestJson(std.foldl(function(t, x) [t, t], std.range(1, 60), 1))) > 0",
    ] {
        let before = pool.stats();
        let error = one(&pool, source, "{}").await.unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::TemplateLimit, "{error}");
        assert_eq!(one(&pool, "1 + 1", "{}").await, ok("2"));
        assert_eq!(pool.stats().trips, before.trips + 1);
    }
}

async fn templates_that_take_all_memory_fail_alone() {
    let pool = pool();
    for source in [
        "local double(s, n) = if n == 0 then s else double(s + s, n - 1); std.length(double('xxxxxxxx', 60))",
        "std.length(std.repeat('x', 1e12))",
        "std.length(std.repeat('x', 1000000000))",
        "std.range(0, 1e15)",
        "std.length(std.range(0, 100000000))",
        "std.makeArray(1e15, function(i) i)",
        "local f(a) = f(a + a) tailstrict; f([1])",
    ] {
        let error = one(&pool, source, "{}").await.unwrap_err();
        assert!(
            matches!(
                error.kind,
                RecordErrorKind::TemplateLimit | RecordErrorKind::Template
            ),
            "{source}: {error:?}"
        );
        assert_eq!(one(&pool, "'fine'", "{}").await, ok("fine"), "{source}");
    }
}

async fn deep_recursion_is_an_error_of_its_own() {
    // With a second one, that would be started while the first one returns.
    let workers = 1;
    let config = PoolConfig {
        workers,
        ..config()
    };
    let pool = TemplatePool::new(config, this_binary());
    let source = "local f(n) = if n == 0 then 0 else 1 + f(n - 1); f(100000)";
    for _ in 0..3 {
        let error = one(&pool, source, "{}").await.unwrap_err();
        assert!(
            error.message.contains("more than 500 calls deep"),
            "{error}"
        );
    }
    // It costs little, so the breaker does not trip, and the worker continues: only the quarantine
    // worker was started besides.
    let stats = pool.stats();
    assert_eq!((stats.trips, stats.worker_starts), (0, 2));
}

async fn a_sink_with_an_endless_template_does_not_hold_up_others() {
    let pool = Arc::new(pool());
    let good = template("Body('n') + 1");
    assert_eq!(
        pool.evaluate(std::slice::from_ref(&good), &record(r#"{"n":1}"#))
            .await,
        [ok("2")]
    );
    let stop = Arc::new(AtomicBool::new(false));
    let bad = {
        let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let both = [template(ENDLESS), template("'beside'")];
                let answers = pool.evaluate(&both, &record("{}")).await;
                assert_eq!(
                    answers[0].as_ref().unwrap_err().kind,
                    RecordErrorKind::TemplateLimit
                );
                assert_eq!(answers[1], ok("beside"), "the same record's other sink");
            }
        })
    };
    // Until the endless one was tried for the third time.
    let mut between = [0; 3];
    let mut count = 0;
    while let Some(good_ones) = between.get_mut(pool.stats().trips as usize) {
        let body = format!(r#"{{"n":{count}}}"#);
        let answers = pool
            .evaluate(std::slice::from_ref(&good), &record(&body))
            .await;
        assert_eq!(answers, [ok(&(count + 1).to_string())]);
        *good_ones += 1;
        count += 1;
    }
    stop.store(true, Ordering::Relaxed);
    bad.await.unwrap();
    // An endless evaluation ahead of each of ours would let one through for each trip.
    assert!(between.iter().all(|n| *n > 3), "{between:?}");
}

async fn a_tripped_template_is_tried_again() {
    let pool = pool();
    let source = "if Body('slow') then (local f(x) = f(x) tailstrict; f(1)) else 'fine'";
    assert_eq!(one(&pool, source, r#"{"slow":false}"#).await, ok("fine"));
    assert!(one(&pool, source, r#"{"slow":true}"#).await.is_err());
    assert!(one(&pool, source, r#"{"slow":false}"#).await.is_err());
    for offences in [1, 2] {
        assert_eq!(pool.stats().trips, offences);
        loop {
            match one(&pool, source, r#"{"slow":false}"#).await {
                Ok(fine) => break assert_eq!(fine, b"fine"),
                Err(error) => assert!(error.message.contains("tried again in"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(pool.stats().tripped_templates, 0);
        assert!(one(&pool, source, r#"{"slow":true}"#).await.is_err());
    }
}

async fn killing_workers_under_load_fails_nothing() {
    let pool = Arc::new(pool());
    let good = template("{n: Body('n'), text: std.join('-', ['a', 'b', 'c'])}");
    pool.evaluate(std::slice::from_ref(&good), &record(r#"{"n":0}"#))
        .await;
    let done = Arc::new(AtomicU32::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..32 {
        let (pool, good) = (Arc::clone(&pool), good.clone());
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        clients.spawn(async move {
            let mut i = 0;
            while !stop.load(Ordering::Relaxed) {
                let n = client * 1_000_000 + i;
                let answers = pool
                    .evaluate(
                        std::slice::from_ref(&good),
                        &record(&format!(r#"{{"n":{n}}}"#)),
                    )
                    .await;
                let expected = format!(r#"{{"n":{n},"text":"a-b-c"}}"#);
                assert_eq!(answers, [ok(&expected)]);
                done.fetch_add(1, Ordering::Relaxed);
                i += 1;
            }
        });
    }
    let mut killed = 0;
    let goes_on = async || {
        let before = done.load(Ordering::Relaxed);
        let more = || (done.load(Ordering::Relaxed) > before + 100).then_some(());
        poll_for("more answers", more).await;
    };
    for _ in 0..12 {
        goes_on().await;
        for pid in workers_of(std::process::id()) {
            kill_nine(pid);
            killed += 1;
        }
    }
    goes_on().await;
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(killed >= 10, "{killed}");
    assert_eq!(pool.stats().trips, 0);
}

async fn a_worker_that_grows_is_replaced_and_fails_nothing() {
    let config = PoolConfig {
        workers: 1,
        memory_limit: ByteSize::mb(24),
        ..config()
    };
    let pool = TemplatePool::new(config, this_binary());
    let template = template("std.length(Body())");
    // Each record brings 500 keys that were never seen before; keys stay in memory.
    for i in 0..600 {
        let keys: Vec<_> = (0..500)
            .map(|k| format!(r#""a-long-key-{i}-{k}-{}":1"#, "x".repeat(60)))
            .collect();
        let body = format!("{{{}}}", keys.join(","));
        let answers = pool
            .evaluate(std::slice::from_ref(&template), &record(&body))
            .await;
        assert_eq!(answers, [ok("500")], "{i}");
    }
    let stats = pool.stats();
    assert!(stats.worker_starts > 3 && stats.trips == 0, "{stats:?}");
}

async fn batches_keep_their_order() {
    let pool = pool();
    let templates = [
        template("Body('n')"),
        template("Body('n') * 2"),
        template("Body('zz')"),
    ];
    for _ in 0..2 {
        let records: Vec<_> = (0..1000)
            .map(|n| record(&format!(r#"{{"n":{n}}}"#)))
            .collect();
        let answers = pool.evaluate_batch(&templates, &records).await;
        assert_eq!(answers.len(), 1000);
        for (n, answers) in answers.iter().enumerate() {
            assert_eq!(answers[..2], [ok(&n.to_string()), ok(&(n * 2).to_string())]);
            assert!(answers[2].is_err());
        }
    }
    // A batch of which one record's template never ends loses that one.
    let cruel = [template(
        "if Body('n') == 50 then (local f(x) = f(x) tailstrict; f(1)) else Body('n')",
    )];
    let records: Vec<_> = (0..100)
        .map(|n| record(&format!(r#"{{"n":{n}}}"#)))
        .collect();
    let answers = pool.evaluate_batch(&cruel, &records[..50]).await;
    assert!(answers.iter().all(|a| a[0].is_ok()));
    let answers = pool.evaluate_batch(&cruel, &records).await;
    assert!(answers[50][0].is_err());
    assert!(answers[..50].iter().all(|a| a[0].is_ok()), "{answers:?}");
}

async fn a_worker_that_cannot_start_is_reported() {
    for program in ["/nonexistent", "/bin/true"] {
        let command = WorkerCommand {
            program: program.into(),
            ..this_binary()
        };
        let pool = TemplatePool::new(config(), command);
        let error = one(&pool, "1", "{}").await.unwrap_err();
        assert_eq!(error.kind, RecordErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("does not start"), "{error}");
    }
}

async fn forbidden_template_features_fail() {
    let pool = pool();
    for source in [
        "import 'x'",
        "importstr '/etc/passwd'",
        "importbin '/etc/passwd'",
        "std.extVar('HOME')",
        "(",
        "Nope",
    ] {
        assert!(one(&pool, source, "{}").await.is_err(), "{source}");
    }
    assert_eq!(
        one(&pool, "std.trace('noise', 'fine')", "{}").await,
        ok("fine")
    );
}

async fn closing_answers_pending_evaluations() {
    let pool = Arc::new(pool());
    let slow = template("std.foldl(function(a, x) a + x, std.range(1, 50000), 0)");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (pool, slow) = (Arc::clone(&pool), slow.clone());
            tokio::spawn(async move { pool.evaluate(&[slow], &record("{}")).await })
        })
        .collect();
    poll_for("all of them in progress", || {
        (pool.stats().queued == 8).then_some(())
    })
    .await;
    pool.close().await;
    for task in tasks {
        assert_eq!(task.await.unwrap(), [ok("1250025000")]);
    }
    let late = one(&pool, "1", "{}").await.unwrap_err();
    assert_eq!(late.kind, RecordErrorKind::Unavailable);
    assert!(workers_of(std::process::id()).is_empty());
}

/// The other side of [`workers_end_with_their_parent`].
async fn be_a_parent() {
    let config = PoolConfig {
        time_limit: Duration::from_secs(600),
        ..config()
    };
    let pool = TemplatePool::new(config, this_binary());
    one(&pool, ENDLESS, "{}").await.unwrap_err();
}

async fn workers_end_with_their_parent() {
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("be-a-parent")
        .spawn()
        .unwrap();
    let workers = poll_for("a worker", || {
        let workers = workers_of(parent.id());
        (!workers.is_empty()).then_some(workers)
    })
    .await;
    // It is in the middle of the evaluation then.
    poll_for("an evaluation", || {
        (cpu_us(&workers) > 100_000).then_some(())
    })
    .await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    poll_for("the worker's end", || {
        let alive = |pid: &u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains(WORKER_SUBCOMMAND)
        };
        (!workers.iter().any(alive)).then_some(())
    })
    .await;
}

/// CPU time of this process and its children so far, in microseconds.
fn cpu_us(pids: &[u32]) -> u64 {
    let of = |pid: u32| -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        let tasks = tasks.into_iter().flatten().filter_map(Result::ok);
        let stats = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok());
        stats
            .filter_map(|s| s.split(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    pids.iter().map(|pid| of(*pid)).sum::<u64>() / 1000
}

/// `--bench`: CPU of both sides for a record with three templates.
async fn bench() {
    let pool = Arc::new(TemplatePool::new(PoolConfig::default(), this_binary()));
    let templates = [
        template("Body('user.name') + '-' + Body('id')"),
        template("{id: Body('id'), kind: std.asciiUpper(Body('event')), ip: Ip()}"),
        template("if Body('props.price', 0) > 10 then 'high' else 'low'"),
    ];
    let body = format!(
        r#"{{"id":17,"event":"view","user":{{"name":"somebody","tags":["a","b"]}},"props":{{"price":12.5,"text":"{}"}}}}"#,
        "x".repeat(900)
    );
    pool.evaluate(&templates, &record(&body)).await;
    for clients in [1, 64] {
        let total = 40_000;
        let mut tasks = tokio::task::JoinSet::new();
        pool.evaluate(&templates, &record(&body)).await;
        let mut pids = workers_of(std::process::id());
        pids.push(std::process::id());
        let (start, before) = (Instant::now(), cpu_us(&pids));
        for _ in 0..clients {
            let (pool, templates, body) = (Arc::clone(&pool), templates.clone(), body.clone());
            tasks.spawn(async move {
                for _ in 0..total / clients {
                    let answers = pool.evaluate(&templates, &record(&body)).await;
                    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        pids.extend(
            workers_of(std::process::id())
                .into_iter()
                .filter(|p| !pids.contains(p))
                .collect::<Vec<_>>(),
        );
        let (wall, cpu) = (start.elapsed(), cpu_us(&pids) - before);
        println!(
            "{clients} clients: {:.1} us CPU a record (both sides, own context included), {:.0} records/s",
            cpu as f64 / total as f64,
            total as f64 / wall.as_secs_f64()
        );
    }
}
