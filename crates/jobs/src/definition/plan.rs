//! A summary of a definition for people.

use forebay_model::words::counted;

use super::{
    HttpApi, HttpStage, JobDefinition, JobDestination, JobSource, Paging, RowHashCacheConfig,
    TableDestination, TableStore,
};

pub(super) fn plan(definition: &JobDefinition) -> Vec<String> {
    let mut lines = vec![format!("job {}", definition.name)];
    match &definition.source {
        JobSource::HttpApi(api) => http_api(&mut lines, api),
        JobSource::Files(files) => {
            let paths: Vec<String> = files.paths.iter().map(|p| files.display_path(p)).collect();
            lines.push(format!("reads JSON lines of {}", paths.join(", ")));
            lines.push(format!(
                "  {}, {} of {} in parallel, up to {}",
                counted(files.readers, "reader"),
                counted(definition.concurrency(), "chunk"),
                files.chunk_size,
                counted(files.max_errors, "bad line")
            ));
        }
    }
    if let Some(stage) = &definition.processing {
        http_stage(&mut lines, "posts each record for processing to", stage);
    }
    match &definition.destination {
        JobDestination::Http(stage) => http_stage(&mut lines, "posts each record to", stage),
        JobDestination::Table(destination) => table(&mut lines, destination),
    }
    lines.push(format!(
        "stores its state in {}",
        definition.state_dir().display()
    ));
    lines
}

fn http_api(lines: &mut Vec<String>, api: &HttpApi) {
    let auth = match &api.auth {
        None => "no token".to_owned(),
        Some(auth) if auth.header == "bearer" => "a bearer token".to_owned(),
        Some(auth) => format!("a token in {}", auth.header),
    };
    lines.push(format!("reads {}{} with {auth}", api.base_url, api.path));
    let paging = match &api.paging {
        Paging::Cursor {
            cursor,
            param: None,
            ..
        } => format!("the cursor `{cursor}` in the path"),
        Paging::Cursor {
            cursor,
            param: Some(param),
            ..
        } => format!("the cursor `{cursor}` in ?{param}="),
        Paging::Offset { param, size, .. } => {
            format!("?{param}=, {} each", counted(*size, "record"))
        }
        Paging::Page { param, first, .. } => format!("?{param}=, from {first}"),
        Paging::Next { path } => format!("the URL at `{path}`"),
        Paging::Link => "the header Link".to_owned(),
    };
    lines.push(format!("  next page by {paging}"));
    lines.push(match api.rate_limit {
        Some(limit) => format!(
            "  at most {} in any {}",
            counted(limit.requests, "request"),
            limit.period
        ),
        None => "  without a rate limit".to_owned(),
    });
    let until = &api.until;
    let mut ends = Vec::new();
    if until.empty_page {
        ends.push("a page is empty".to_owned());
    }
    if until.no_next {
        ends.push("a page has no next page".to_owned());
    }
    if let Some(field) = &until.field {
        ends.push(format!("`{field}` is {}", until.last_value()));
    }
    if !until.status.is_empty() {
        let statuses: Vec<String> = until.status.iter().map(u16::to_string).collect();
        ends.push(format!("a response has status {}", statuses.join(", ")));
    }
    if until.repeat {
        ends.push("a page repeats".to_owned());
    }
    ends.extend(
        until
            .pages
            .map(|n| format!("{} were read", counted(n, "page"))),
    );
    ends.extend(
        until
            .records
            .map(|n| format!("{} were read", counted(n, "record"))),
    );
    lines.push(if ends.is_empty() {
        "  for ever".to_owned()
    } else {
        format!("  until {}", ends.join(" or "))
    });
}

fn http_stage(lines: &mut Vec<String>, what: &str, stage: &HttpStage) {
    lines.push(format!("{what} {}", stage.url));
    lines.push(format!(
        "  {}, {} of {} each",
        counted(stage.workers, "worker"),
        counted(stage.retry.attempts, "attempt"),
        stage.timeout
    ));
}

fn table(lines: &mut Vec<String>, table: &TableDestination) {
    let store = match &table.store {
        TableStore::Sqlite { path } => format!("SQLite file {}", path.display()),
        TableStore::Postgres { .. } => "PostgreSQL".to_owned(),
        TableStore::Cassandra { nodes, tls, .. } => {
            let how = if tls.is_some() { " over TLS" } else { "" };
            format!("Cassandra at {}{how}", nodes.join(", "))
        }
    };
    lines.push(format!("writes rows of table {} in {store}", table.table));
    let shape = table.shape();
    let columns: Vec<String> = shape
        .columns
        .iter()
        .map(|c| {
            let key = if c.is_key { " key" } else { "" };
            format!("{} {}{key}", c.name, c.kind)
        })
        .collect();
    lines.push(format!("  {}", columns.join(", ")));
    lines.push(format!(
        "  {}, up to {} per batch",
        counted(table.writers(), "worker"),
        counted(table.batch, "row")
    ));
    match &table.cache {
        RowHashCacheConfig::None => {}
        RowHashCacheConfig::Embedded { max_rows } => lines.push(format!(
            "  skips unchanged rows (embedded cache of at most {max_rows})"
        )),
        RowHashCacheConfig::Redis { .. } => {
            lines.push("  skips unchanged rows (Redis cache)".to_owned())
        }
    }
}
