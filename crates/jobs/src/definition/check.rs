//! Checks that a JSON schema can't express: URLs, ranges of durations and sizes, combinations of settings.

use std::time::Duration;

use forebay_model::{ByteSize, DataType, HumanDuration};

use super::{
    FileSourceConfig, HttpApi, HttpStage, JobDefinition, JobDestination, JobSource, LookupConfig,
    RowHashCacheConfig, TableDestination, TableStore,
};

mod paging;
mod violations;

use violations::DefinitionViolations;

pub(super) fn definition(definition: &JobDefinition) -> Vec<String> {
    let mut violations = DefinitionViolations::default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = &definition.name;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(plain)
        || name.len() > 64
    {
        violations.add(format!(
            "name is \"{name}\": use letters, digits, -, _ and . (at most 64 characters)"
        ));
    }
    match &definition.source {
        JobSource::HttpApi(api) => http_api(&mut violations, api),
        JobSource::Files(files) => file_source(&mut violations, files),
    }
    if let Some(stage) = &definition.processing {
        http_stage(&mut violations, "processing", stage);
    }
    match &definition.destination {
        JobDestination::Http(stage) => http_stage(&mut violations, "destination", stage),
        JobDestination::Table(table) => {
            columns(&mut violations, table);
            if let Err(e) = table.shape().check() {
                violations.add(format!("destination: {e}"));
            }
            for (i, column) in table.columns.iter().enumerate() {
                if let (Some(unit), true) = (column.unit, column.kind != DataType::Timestamp) {
                    violations.add(format!(
                        "destination.columns[{i}].unit is {}, which only a timestamp has",
                        unit.name()
                    ));
                }
            }
            store(
                &mut violations,
                "destination.store",
                &table.store,
                &[&table.table],
            );
            let max = HumanDuration::hours(24);
            violations.range(
                "destination.outageMax",
                table.outage_max,
                HumanDuration::default(),
                max,
            );
            cache(&mut violations, &table.cache);
        }
    }
    violations.0
}

fn file_source(violations: &mut DefinitionViolations, files: &FileSourceConfig) {
    for (i, path) in files.paths.iter().enumerate() {
        let at = format!("source.paths[{i}]");
        if let Some((scheme, rest)) = path.split_once("://") {
            if scheme != "s3" {
                violations.add(format!("{at} begins with {scheme}://, allowed is s3://"));
            } else if rest.is_empty() || rest.starts_with('/') {
                violations.add(format!("{at} has no bucket"));
            }
        } else if path.is_empty() {
            violations.add(format!("{at} is empty"));
        }
    }
    for problem in files.s3.settings().violations() {
        violations.add(format!("source.s3.{problem}"));
    }
    let (kb, gb) = (ByteSize::kb(1), ByteSize::mb(1024));
    violations.range("source.maxLineSize", files.max_line_size, kb, gb);
    let (min, max) = (ByteSize::kb(4), ByteSize::mb(64));
    violations.range("source.chunkSize", files.chunk_size, min, max);
}

fn columns(violations: &mut DefinitionViolations, table: &TableDestination) {
    for (i, column) in table.columns.iter().enumerate() {
        let (at, text) = match &column.path {
            Some(path) => (format!("destination.columns[{i}].path"), path),
            // Without a path, the name is the path.
            None => (format!("destination.columns[{i}].name"), &column.name),
        };
        let path = violations.path(&at, text);
        if path.is_some_and(|p| !p.is_singular()) && column.kind != DataType::Json {
            violations.add(format!(
                "{at} is \"{text}\", which can select many values: the type of the column has to be json, for their list"
            ));
        }
    }
}

fn cache(violations: &mut DefinitionViolations, cache: &RowHashCacheConfig) {
    if let RowHashCacheConfig::Redis { url, ttl, ca_file } = cache {
        let known = ["redis://", "rediss://"];
        if !known.iter().any(|p| url.expose().starts_with(p)) {
            violations
                .add("destination.cache.url has to begin with redis:// or rediss://".to_owned());
        }
        if ca_file.is_some() && !url.expose().starts_with("rediss://") {
            violations.add(
                "destination.cache.caFile is for TLS: the url has to begin with rediss://"
                    .to_owned(),
            );
        }
        let (min, max) = (HumanDuration::secs(1), HumanDuration::hours(8760));
        violations.range("destination.cache.ttl", *ttl, min, max);
    }
}

fn http_api(violations: &mut DefinitionViolations, api: &HttpApi) {
    violations.url("source.baseUrl", &api.base_url);
    if !api.path.is_empty() && !api.path.starts_with('/') {
        violations.add(format!(
            "source.path is \"{}\": it has to begin with /",
            api.path
        ));
    }
    violations.headers("source.headers", &api.headers);
    violations.auth("source.auth", api.auth.as_ref());
    violations.wait("source.timeout", api.timeout);
    violations.wait("source.emptyPageWait", api.empty_page_wait);
    violations.wait("source.errorWait", api.error_wait);
    violations.wait("source.errorWaitMax", api.error_wait_max);
    let (kb, gb) = (ByteSize::kb(1), ByteSize::mb(1024));
    violations.range("source.maxPageSize", api.max_page_size, kb, gb);
    if let Some(limit) = api.rate_limit {
        let (min, max) = (HumanDuration::millis(1), HumanDuration::hours(24));
        violations.range("source.rateLimit.period", limit.period, min, max);
    }
    let max = HumanDuration::hours(168);
    violations.range(
        "source.retryAfterMax",
        api.retry_after_max,
        HumanDuration::millis(1),
        max,
    );
    violations.path("source.results", &api.results);
    paging::check(violations, api);
}

fn http_stage(violations: &mut DefinitionViolations, at: &str, stage: &HttpStage) {
    violations.url(&format!("{at}.url"), &stage.url);
    violations.headers(&format!("{at}.headers"), &stage.headers);
    violations.auth(&format!("{at}.auth"), stage.auth.as_ref());
    violations.wait(&format!("{at}.timeout"), stage.timeout);
    violations.wait(&format!("{at}.retry.wait"), stage.retry.wait);
    violations.wait(&format!("{at}.retry.waitMax"), stage.retry.wait_max);
}

pub(super) fn lookup(lookup: &LookupConfig) -> Vec<String> {
    let mut violations = DefinitionViolations::default();
    let tables: Vec<&str> = lookup.routes.iter().map(|r| r.table.as_str()).collect();
    store(&mut violations, "store", &lookup.store, &tables);
    let reserved = ["/health", "/metrics", "/openapi.json"];
    for (i, route) in lookup.routes.iter().enumerate() {
        let path = &route.path;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !path.starts_with('/')
            || path.len() < 2
            || path.ends_with('/')
            || !path.chars().all(plain)
        {
            violations.add(format!(
                "routes[{i}].path is \"{path}\": it has to be like /product"
            ));
        }
        if reserved.iter().any(|t| path.starts_with(t)) {
            violations.add(format!("routes[{i}].path is \"{path}\", which is reserved"));
        }
        if lookup.routes.iter().take(i).any(|r| r.path == *path) {
            violations.add(format!(
                "routes[{i}].path is \"{path}\", as is an earlier one"
            ));
        }
    }
    violations.wait("timeout", lookup.timeout);
    violations.range(
        "cache.ttl",
        lookup.cache.ttl,
        HumanDuration::default(),
        HumanDuration::hours(24),
    );
    for violation in lookup.limits.violations() {
        violations.add(format!("limits.{violation}"));
    }
    if lookup.cache.rows > 0 && lookup.cache.ttl.0 == Duration::ZERO {
        violations.add("cache.rows needs a cache.ttl".to_owned());
    }
    violations.0
}

fn store(violations: &mut DefinitionViolations, at: &str, store: &TableStore, tables: &[&str]) {
    match store {
        TableStore::Sqlite { path } if path.as_os_str().is_empty() => {
            violations.add(format!("{at}.path is empty"));
        }
        TableStore::Sqlite { .. } => {}
        TableStore::Postgres { url } => {
            if !cfg!(feature = "postgres") {
                violations.add(format!("{at}: this build has no PostgreSQL"));
            }
            if url.expose().is_empty() {
                violations.add(format!("{at}.url is empty"));
            }
        }
        TableStore::Cassandra {
            nodes,
            user,
            password,
            ..
        } => {
            if !cfg!(feature = "cassandra") {
                violations.add(format!(
                    "{at}: this build has no Cassandra (cargo feature `cassandra`)"
                ));
            }
            if nodes.is_empty() {
                violations.add(format!("{at}.nodes is empty"));
            }
            if user.is_some() != password.is_some() {
                violations.add(format!("{at}: user and password have to be given together"));
            }
            for table in tables {
                if table.split('.').count() != 2 {
                    violations.add(format!(
                        "table \"{table}\" has to be KEYSPACE.TABLE for Cassandra"
                    ));
                }
            }
        }
    }
}
