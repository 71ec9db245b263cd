//! What a schema can't say: addresses, ranges of times and sizes, what fits together.

use std::time::Duration;

use forebay_model::{ByteSize, Span, is_own_http_header};
use forebay_record::path::Path;
use http::{HeaderName, HeaderValue};

use super::{
    Auth, Cache, Definition, Destination, HttpApi, HttpStage, Kind, Lookup, Paging, Pairs, Source,
    Store, TableDestination,
};

#[derive(Default)]
struct Found(Vec<String>);

impl Found {
    fn add(&mut self, text: String) {
        self.0.push(text);
    }

    fn span(&mut self, at: &str, given: Span, min: Span, max: Span) {
        if given < min || given > max {
            self.add(format!("{at} is {given}, allowed is {min} to {max}"));
        }
    }

    fn wait(&mut self, at: &str, given: Span) {
        self.span(at, given, Span::millis(1), Span::hours(1));
    }

    fn size(&mut self, at: &str, given: ByteSize, min: ByteSize, max: ByteSize) {
        if given < min || given > max {
            self.add(format!("{at} is {given}, allowed is {min} to {max}"));
        }
    }

    fn url(&mut self, at: &str, url: &str) {
        let parsed = reqwest::Url::parse(url);
        match parsed {
            Err(e) => self.add(format!("{at} is \"{url}\", which is not a URL: {e}")),
            Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") => self.add(format!(
                "{at} has the scheme {}, allowed is http and https",
                parsed.scheme()
            )),
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                self.add(format!("{at} has a user or password in it: use auth"));
            }
            Ok(_) => {}
        }
    }

    fn headers(&mut self, at: &str, headers: &Pairs) {
        for (name, value) in headers {
            if HeaderName::try_from(name).is_err() {
                self.add(format!("{at}.{name} is not the name of a header"));
            } else if is_own_http_header(name) {
                self.add(format!(
                    "{at}.{name} can't be set: each request has its own"
                ));
            }
            if HeaderValue::try_from(value).is_err() {
                self.add(format!("{at}.{name} has a value that no header can have"));
            }
        }
    }

    /// The path, if it is one.
    fn path(&mut self, at: &str, text: &str) -> Option<Path> {
        let compiled = Path::compile(text);
        compiled
            .map_err(|e| self.add(format!("{at} is \"{text}\", which is no path: {e}")))
            .ok()
    }

    fn auth(&mut self, at: &str, auth: Option<&Auth>) {
        let Some(auth) = auth else { return };
        if HeaderName::try_from(&auth.header).is_err() {
            self.add(format!("{at}.header is not the name of a header"));
        } else if is_own_http_header(&auth.header) {
            let header = &auth.header;
            self.add(format!(
                "{at}.header is {header}, which each request has of its own"
            ));
        }
        if auth.token.expose().is_empty() {
            self.add(format!("{at}.token is empty"));
        } else if HeaderValue::try_from(auth.token.expose()).is_err() {
            self.add(format!(
                "{at}.token has a character that no header can have"
            ));
        }
    }
}

pub(super) fn definition(definition: &Definition) -> Vec<String> {
    let mut found = Found::default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = &definition.name;
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(plain)
        || name.len() > 64
    {
        found.add(format!(
            "name is \"{name}\": use letters, digits, -, _ and . (at most 64 characters)"
        ));
    }
    match &definition.source {
        Source::HttpApi(api) => http_api(&mut found, api),
        Source::Files(files) => {
            for (i, path) in files.paths.iter().enumerate() {
                let at = format!("source.paths[{i}]");
                if let Some((scheme, rest)) = path.split_once("://") {
                    if scheme != "s3" {
                        found.add(format!("{at} begins with {scheme}://, allowed is s3://"));
                    } else if rest.is_empty() || rest.starts_with('/') {
                        found.add(format!("{at} names no bucket"));
                    }
                } else if path.is_empty() {
                    found.add(format!("{at} is empty"));
                }
            }
            let (kb, gb) = (ByteSize::kb(1), ByteSize::mb(1024));
            found.size("source.maxLineSize", files.max_line_size, kb, gb);
            let (min, max) = (ByteSize::kb(4), ByteSize::mb(64));
            found.size("source.chunkSize", files.chunk_size, min, max);
        }
    }
    if let Some(stage) = &definition.processing {
        http_stage(&mut found, "processing", stage);
    }
    match &definition.destination {
        Destination::Http(stage) => http_stage(&mut found, "destination", stage),
        Destination::Table(table) => {
            columns(&mut found, table);
            if let Err(e) = table.shape().check() {
                found.add(format!("destination: {e}"));
            }
            for (i, column) in table.columns.iter().enumerate() {
                if let (Some(unit), true) = (column.unit, column.kind != Kind::Timestamp) {
                    found.add(format!(
                        "destination.columns[{i}].unit is {}, which only a timestamp has",
                        unit.name()
                    ));
                }
            }
            store(
                &mut found,
                "destination.store",
                &table.store,
                &[&table.table],
            );
            let max = Span::hours(24);
            found.span(
                "destination.outageMax",
                table.outage_max,
                Span::default(),
                max,
            );
            cache(&mut found, &table.cache);
        }
    }
    found.0
}

fn columns(found: &mut Found, table: &TableDestination) {
    for (i, column) in table.columns.iter().enumerate() {
        let (at, text) = match &column.path {
            Some(path) => (format!("destination.columns[{i}].path"), path),
            // Its name is its path.
            None => (format!("destination.columns[{i}].name"), &column.name),
        };
        let path = found.path(&at, text);
        if path.is_some_and(|p| !p.is_singular()) && column.kind != Kind::Json {
            found.add(format!(
                "{at} is \"{text}\", which can select many values: the type of the column has to be json, for their list"
            ));
        }
    }
}

fn cache(found: &mut Found, cache: &Cache) {
    if let Cache::Redis { url, ttl, ca_file } = cache {
        let known = ["redis://", "rediss://"];
        if !known.iter().any(|p| url.expose().starts_with(p)) {
            found.add("destination.cache.url has to begin with redis:// or rediss://".to_owned());
        }
        if ca_file.is_some() && !url.expose().starts_with("rediss://") {
            found.add(
                "destination.cache.caFile is for TLS: the url has to begin with rediss://"
                    .to_owned(),
            );
        }
        let (min, max) = (Span::secs(1), Span::hours(8760));
        found.span("destination.cache.ttl", *ttl, min, max);
    }
}

fn http_api(found: &mut Found, api: &HttpApi) {
    found.url("source.baseUrl", &api.base_url);
    if !api.path.is_empty() && !api.path.starts_with('/') {
        found.add(format!(
            "source.path is \"{}\": it has to begin with /",
            api.path
        ));
    }
    found.headers("source.headers", &api.headers);
    found.auth("source.auth", api.auth.as_ref());
    found.wait("source.timeout", api.timeout);
    found.wait("source.emptyPageWait", api.empty_page_wait);
    found.wait("source.errorWait", api.error_wait);
    found.wait("source.errorWaitMax", api.error_wait_max);
    let (kb, gb) = (ByteSize::kb(1), ByteSize::mb(1024));
    found.size("source.maxPageSize", api.max_page_size, kb, gb);
    if let Some(limit) = api.rate_limit {
        let (min, max) = (Span::millis(1), Span::hours(24));
        found.span("source.rateLimit.period", limit.period, min, max);
    }
    found.path("source.results", &api.results);
    if let Paging::Cursor { cursor, .. } = &api.paging {
        if cursor.is_empty() {
            found.add("source.paging.cursor is empty".to_owned());
        }
        found.path("source.paging.cursor", cursor);
    }
}

fn http_stage(found: &mut Found, at: &str, stage: &HttpStage) {
    found.url(&format!("{at}.url"), &stage.url);
    found.headers(&format!("{at}.headers"), &stage.headers);
    found.auth(&format!("{at}.auth"), stage.auth.as_ref());
    found.wait(&format!("{at}.timeout"), stage.timeout);
    found.wait(&format!("{at}.retry.wait"), stage.retry.wait);
    found.wait(&format!("{at}.retry.waitMax"), stage.retry.wait_max);
}

pub(super) fn lookup(lookup: &Lookup) -> Vec<String> {
    let mut found = Found::default();
    let tables: Vec<&str> = lookup.routes.iter().map(|r| r.table.as_str()).collect();
    store(&mut found, "store", &lookup.store, &tables);
    let taken = ["/health", "/metrics", "/openapi.json"];
    for (i, route) in lookup.routes.iter().enumerate() {
        let path = &route.path;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !path.starts_with('/')
            || path.len() < 2
            || path.ends_with('/')
            || !path.chars().all(plain)
        {
            found.add(format!(
                "routes[{i}].path is \"{path}\": it has to be like /product"
            ));
        }
        if taken.iter().any(|t| path.starts_with(t)) {
            found.add(format!("routes[{i}].path is \"{path}\", which is taken"));
        }
        if lookup.routes.iter().take(i).any(|r| r.path == *path) {
            found.add(format!(
                "routes[{i}].path is \"{path}\", and an earlier one too"
            ));
        }
    }
    found.wait("timeout", lookup.timeout);
    found.span(
        "cache.ttl",
        lookup.cache.ttl,
        Span::default(),
        Span::hours(24),
    );
    for violation in lookup.limits.violations() {
        found.add(format!("limits.{violation}"));
    }
    if lookup.cache.rows > 0 && lookup.cache.ttl.0 == Duration::ZERO {
        found.add("cache.rows needs a cache.ttl".to_owned());
    }
    found.0
}

fn store(found: &mut Found, at: &str, store: &Store, tables: &[&str]) {
    match store {
        Store::Sqlite { path } if path.as_os_str().is_empty() => {
            found.add(format!("{at}.path is empty"));
        }
        Store::Sqlite { .. } => {}
        Store::Postgres { url } => {
            if !cfg!(feature = "postgres") {
                found.add(format!("{at}: this build has no PostgreSQL"));
            }
            if url.expose().is_empty() {
                found.add(format!("{at}.url is empty"));
            }
        }
        Store::Cassandra {
            nodes,
            user,
            password,
            ..
        } => {
            if !cfg!(feature = "cassandra") {
                found.add(format!(
                    "{at}: this build has no Cassandra (cargo feature `cassandra`)"
                ));
            }
            if nodes.is_empty() {
                found.add(format!("{at}.nodes is empty"));
            }
            if user.is_some() != password.is_some() {
                found.add(format!("{at}: user and password have to be given together"));
            }
            for table in tables {
                if table.split('.').count() != 2 {
                    found.add(format!(
                        "table \"{table}\" has to be KEYSPACE.TABLE for Cassandra"
                    ));
                }
            }
        }
    }
}
