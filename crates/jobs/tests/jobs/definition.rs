//! Definitions: all violations are reported together; files of the older engine are read.

use forebay_jobs::definition::{JobDefinition, JobDestination, JobSource};

use crate::world::World;

const GOOD: &str = "\
source: { type: http_api, baseUrl: 'http://127.0.0.1:1' }
destination: { type: http, url: 'http://127.0.0.1:1/' }
";

fn message(yaml: &str) -> String {
    World::new().try_define(yaml).unwrap_err()
}

#[test]
fn name_and_state_directory_default_to_the_file() {
    let world = World::new();
    let definition = world.define(GOOD);
    assert_eq!(definition.name, "job");
    assert_eq!(definition.state_dir(), world.path("forebay-jobs/job"));
}

#[test]
fn all_violations_are_reported_together() {
    let text = message(
        "source:\n  type: http_api\n  baseURL: x\n  timeout: 5\n  rateLimit: { requests: 0, period: 1s }\n\
         processing: { url: 'http://a/', workers: many }\n\
         destination:\n  type: tabel\nqueu: 3\n",
    );
    for part in [
        "source.baseURL is not a known key; did you mean baseUrl?",
        "source.baseUrl is missing",
        "source.timeout is 5, it has to be a string",
        "source.rateLimit.requests is 0, allowed is 1 to 100000",
        "processing.workers is \"many\", it has to be a whole number",
        "destination.type is \"tabel\", allowed is http, table; did you mean table?",
        "queu is not a known key; did you mean queue?",
    ] {
        assert!(text.contains(part), "{part}\n--- {text}");
    }
}

#[test]
fn strings_are_kept_as_written() {
    let world = World::new();
    let yaml = |name: &str, path: &str| {
        format!(
            "name: {name}\nsource: {{ type: http_api, baseUrl: 'http://127.0.0.1:1', headers: {{ X-Version: {path} }} }}\n\
             destination:\n  type: table\n  store: {{ type: sqlite, path: 07 }}\n  table: y\n  columns:\n\
             \x20 - {{ name: no, path: {path}, key: yes }}\n"
        )
    };
    for name in ["n", "07302", "1.10", "true", "1e3", "0x1F", "2024-01-01"] {
        let definition = world.define(&yaml(name, name));
        assert_eq!(definition.name, name);
        let JobDestination::Table(table) = &definition.destination else {
            panic!("{definition:?}")
        };
        assert_eq!(table.table, "y");
        let column = &table.columns[0];
        assert_eq!(
            (column.name.as_str(), column.path.as_deref(), column.key),
            ("no", Some(name), true)
        );
        let JobSource::HttpApi(api) = &definition.source else {
            panic!("{definition:?}")
        };
        assert_eq!(api.headers["X-Version"], name);
    }
    let message = world
        .try_define(&yaml("a", "~").replace(", path: ~", ""))
        .unwrap_err();
    assert!(
        message.contains("headers.X-Version is empty, it has to be a string"),
        "{message}"
    );
    let message = world.try_define("name: a\nname: b\n").unwrap_err();
    assert!(
        message.contains("line 2, column 1: duplicate key \"name\""),
        "{message}"
    );
    let message = world.try_define("queue: 1.10\n").unwrap_err();
    assert!(
        message.contains("queue is 1.10, it has to be a whole number"),
        "{message}"
    );
}

#[test]
fn only_timestamps_have_a_unit() {
    let world = World::new();
    let yaml = |kind: &str, unit: &str| {
        format!(
            "source: {{ type: files, paths: [a] }}\n\
             destination:\n  type: table\n  store: {{ type: sqlite, path: a.db }}\n  table: t\n  columns:\n\
             \x20 - {{ name: a, key: true, type: {kind}, unit: {unit} }}\n"
        )
    };
    for unit in ["s", "ms", "us", "ns"] {
        world.define(&yaml("timestamp", unit));
    }
    let message = world.try_define(&yaml("integer", "ms")).unwrap_err();
    assert!(
        message.contains("destination.columns[0].unit is ms, which only a timestamp has"),
        "{message}"
    );
    let message = world.try_define(&yaml("timestamp", "m")).unwrap_err();
    assert!(
        message.contains("unit is \"m\", allowed is s, ms, us, ns"),
        "{message}"
    );
}

#[test]
fn violations_beyond_the_schema_are_reported() {
    let http = |extra: &str| GOOD.replace("http://127.0.0.1:1'", extra);
    let columns = |columns: &str| {
        format!(
            "source: {{ type: files, paths: [a] }}\ndestination: {{ type: table, store: {{ type: sqlite, path: a.db }}, table: t, columns: [{columns}] }}"
        )
    };
    for (yaml, part) in [
        (http("ftp://x'"), "source.baseUrl has the scheme ftp"),
        (http("not a url'"), "which is not a URL"),
        (http("http://u:p@x'"), "use auth"),
        (http("http://x', timeout: 2h"), "source.timeout is 2h0m0s, allowed is 1ms to 1h0m0s"),
        (http("http://x', auth: { token: '${NOPE}' }"), "source.auth.token: the variable NOPE is not set"),
        (http("http://x', auth: { token: '' }"), "source.auth.token is empty"),
        (http("http://x', headers: { 'a b': c }"), "a b is not a valid header name"),
        (http("http://x', headers: { Idempotency-Key: c }"), "headers.Idempotency-Key can't be set"),
        (http("http://x', auth: { token: t, header: Content-Length }"), "auth.header is Content-Length"),
        (http("http://x', results: 'a[*]'"), "source.results is \"a[*]\", which is not a path: character 3: "),
        (http("http://x', results: '$.a['"), "source.results is \"$.a[\", which is not a path: character 5: "),
        (http("http://x', paging: { type: cursor, cursor: '$ref' }"), "source.paging.cursor is \"$ref\""),
        (
            columns("{ name: id, key: true }, { name: m, path: 'name[*]' }, { name: '\"q\"' }, { name: l, path: '$.l[*]' }"),
            "destination.columns[1].path is \"name[*]\", which is not a path: character 6: ",
        ),
        (columns("{ name: id, key: true }, { name: a/b, path: /a/b }"), "written [\"/a/b\"]"),
        (columns("{ name: id, key: true }, { name: '\"q\"' }"), "destination.columns[1].name is"),
        (
            columns("{ name: id, key: true }, { name: l, path: '$.l[*]' }"),
            "which can select many values: the type of the column has to be json",
        ),
        ("source: [".to_owned(), "line"),
        ("- a".to_owned(), "has to be a mapping"),
        ("source: { type: files, paths: ['gs://b/x'] }\ndestination: { type: http, url: 'http://x/' }".to_owned(), "allowed is s3://"),
        (
            "source: { type: files, paths: [a] }\ndestination: { type: table, store: { type: sqlite, path: a.db }, table: t, columns: [{ name: a }] }".to_owned(),
            "has no key",
        ),
    ] {
        let text = message(&yaml);
        assert!(text.contains(part), "{part}\n--- {text}");
    }
    let missing = JobDefinition::read(std::path::Path::new("/no/such.yaml"), &|_| Ok(None));
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("/no/such.yaml: can't be read")
    );
}

#[test]
fn a_file_of_the_older_engine_is_read() {
    let world = World::new();
    let definition = world.define(
        "defaultClientTimeout: 6s\ndefaultWorkersCount: 2\n\n\
         sourceApiBaseUrl: \"https://example.com\"\nsourceApiAuthToken: \"example\"\n\
         sourceClientTimeout: 5s\nsourceApiRateLimit: 120\nsourceApiRateLimitPeriodSecs: 60\n\n\
         processingApiBaseUrl: \"https://example2.com\"\nprocessingClientTimeout: 7s\n\
         processingWorkersCount: 4\n\nstorageApiBaseUrl: \"https://example3.com\"\n",
    );
    let JobSource::HttpApi(api) = &definition.source else {
        panic!("{definition:?}")
    };
    let limit = api.rate_limit.unwrap();
    assert_eq!(
        (limit.requests, limit.period.to_string()),
        (120, "1m0s".to_owned())
    );
    assert_eq!(
        (api.path.as_str(), api.timeout.to_string()),
        ("/messages", "5s".to_owned())
    );
    assert_eq!(api.auth.as_ref().unwrap().header, "X-Auth-Token");
    let processing = definition.processing.as_ref().unwrap();
    assert_eq!(
        (processing.workers, processing.timeout.to_string()),
        (4, "7s".to_owned())
    );
    let JobDestination::Http(storage) = &definition.destination else {
        panic!("{definition:?}")
    };
    assert_eq!(
        (storage.workers, storage.timeout.to_string()),
        (2, "6s".to_owned())
    );
    assert_eq!(storage.retry.attempts, 3);
    // Defaults of the older engine.
    let least = world.define("sourceApiBaseUrl: http://a\nstorageApiBaseUrl: http://b\n");
    let JobDestination::Http(storage) = &least.destination else {
        panic!("{least:?}")
    };
    assert_eq!(
        (storage.workers, storage.timeout.to_string()),
        (3, "5s".to_owned())
    );
    let text = message("sourceApiBaseURL: http://a\nsourceApiRateLimitPeriodSecs: 3\n");
    for part in [
        "did you mean sourceApiBaseUrl?",
        "sourceApiBaseUrl is missing",
        "storageApiBaseUrl is missing",
        "needs sourceApiRateLimit",
    ] {
        assert!(text.contains(part), "{part}\n--- {text}");
    }
}

#[test]
fn the_schema_describes_every_key() {
    let schema = JobDefinition::schema();
    let mut without = Vec::new();
    let objects = schema["$defs"]
        .as_object()
        .unwrap()
        .values()
        .chain([&schema]);
    for object in objects {
        for (name, property) in object["properties"].as_object().into_iter().flatten() {
            let is_tag = property.get("const").is_some();
            if !is_tag && property.get("description").is_none() {
                without.push(name.clone());
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
}
