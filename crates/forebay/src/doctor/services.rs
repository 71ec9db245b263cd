//! Checks of other systems: staging, PostgreSQL, providers, the running server.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use forebay_connect::http::{HttpClient, HttpClientConfig, HttpRequest};
use forebay_connect::staging::{Staging, StagingConfig};
use forebay_connect::table::postgres::PostgresTable;
use forebay_model::Clock;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::DoctorFinding;
use crate::clock::SystemClock;
use crate::config::{Config, Environment, ProviderSection, ProviderType};
use crate::endpoints::Endpoints;
use crate::random;

/// Maximum duration of a step.
const LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn examine(config: &Config, env: &Environment) -> Vec<DoctorFinding> {
    let mut findings = vec![staging(config, env).await, postgres(config).await];
    let providers = config.providers.iter().map(provider);
    findings.extend(
        stream::iter(providers)
            .buffered(8)
            .collect::<Vec<_>>()
            .await,
    );
    if config.providers.is_empty() {
        findings.push(DoctorFinding::skipped("providers", "none configured"));
    }
    if let Some(url) = config
        .telemetry
        .otlp
        .endpoint
        .as_ref()
        .and_then(|url| https(url.expose()))
    {
        findings.push(tls("telemetry.otlp", url).await);
    }
    findings.push(server(config).await);
    findings
}

async fn limited<T, E: fmt::Display>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(LIMIT, work).await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn staging(config: &Config, env: &Environment) -> DoctorFinding {
    const NAME: &str = "staging";
    let resolved = config.staging.resolve(&config.data_dir, env);
    let (resolved, is_s3) = match resolved {
        Ok(resolved) => {
            let is_s3 = matches!(resolved, StagingConfig::S3(_));
            (resolved, is_s3)
        }
        Err(e) => return DoctorFinding::failed(NAME, e, "correct the section staging"),
    };
    if let StagingConfig::Local(local) = &resolved
        && !local.dir.exists()
    {
        return DoctorFinding::ok(NAME, "the folder will be created by the first start");
    }
    let advice = if is_s3 {
        "check bucket, region, endpoint and keys; they need the rights to list, put, get and delete"
    } else {
        "the folder must be writable"
    };
    let staging = match Staging::open(&resolved) {
        Ok(staging) => staging,
        Err(e) => return DoctorFinding::failed(NAME, e, advice),
    };
    match limited(probe(&staging)).await {
        Ok(()) => DoctorFinding::ok(
            NAME,
            format!("{}: list, put, get and delete work", staging.display_name()),
        ),
        Err(e) => DoctorFinding::failed(NAME, e, advice),
    }
}

/// Writes, reads and deletes an object.
async fn probe(staging: &Staging) -> Result<(), String> {
    const CONTENT: &[u8] = b"forebay doctor\n";
    staging.check().await.map_err(|e| e.to_string())?;
    let path = format!("forebay-doctor-{:032x}", random::id_bits()());
    let content = stream::iter([Ok(Bytes::from_static(CONTENT))]).boxed();
    staging
        .put(&path, content)
        .await
        .map_err(|e| e.to_string())?;
    let read = async {
        let chunks = staging.get(&path).await.map_err(|e| e.to_string())?;
        let read: Vec<Bytes> = chunks.try_collect().await.map_err(|e| e.to_string())?;
        if read.concat() == CONTENT {
            Ok(())
        } else {
            Err("an object was read with another content than was written".to_owned())
        }
    };
    let read = read.await;
    staging.delete(&path).await.map_err(|e| e.to_string())?;
    read
}

async fn postgres(config: &Config) -> DoctorFinding {
    const NAME: &str = "PostgreSQL";
    let postgres = match config.table.resolve_postgres() {
        Ok(Some(postgres)) => postgres,
        Ok(None) => return DoctorFinding::skipped(NAME, "not configured"),
        Err(e) => return DoctorFinding::failed(NAME, e, "correct the section table.postgres"),
    };
    let advice = "check table.postgres: url, password, sslMode and caFile";
    let table = match PostgresTable::open(&postgres) {
        Ok(table) => table,
        Err(e) => return DoctorFinding::failed(NAME, e, advice),
    };
    let name = table.display_name().to_owned();
    let found = match limited(table.diagnose()).await {
        Ok(found) => found,
        Err(e) => return DoctorFinding::failed(NAME, e, advice),
    };
    let (user, version) = (&found.user, &found.version);
    if found.is_read_only {
        return DoctorFinding::failed(
            NAME,
            format!("{name} is read-only, or a standby"),
            "use the address of the primary server",
        );
    }
    if !found.can_create_schema {
        return DoctorFinding::failed(
            NAME,
            format!("{name}: user {user} may not create schemas in the database"),
            format!("GRANT CREATE ON DATABASE … TO {user}"),
        );
    }
    if !found.is_durable {
        return DoctorFinding::failed(
            NAME,
            format!("{name} can lose committed rows in a crash of its machine"),
            "turn on fsync and full_page_writes",
        );
    }
    DoctorFinding::ok(
        NAME,
        format!("{name}: version {version}, user {user} may create schemas"),
    )
}

async fn provider(section: &ProviderSection) -> DoctorFinding {
    let name = format!("provider {}", section.name);
    let addresses = match section.r#type {
        ProviderType::Kafka => brokers(section.brokers.as_deref().unwrap_or_default()),
        ProviderType::Http => {
            let url = section.url.as_ref().map(|url| url.expose());
            url.and_then(http_address).into_iter().collect()
        }
    };
    if addresses.is_empty() {
        let advice = "correct its url or brokers";
        return DoctorFinding::failed(&name, "its address can't be read", advice);
    }
    for (host, port) in &addresses {
        if let Err(cause) = reach(host, *port).await {
            return DoctorFinding::failed(
                &name,
                cause,
                "check the address, DNS and firewalls; records wait until it answers",
            );
        }
    }
    let shown: Vec<String> = addresses.iter().map(|(h, p)| format!("{h}:{p}")).collect();
    let shown = shown.join(", ");
    let url = section.url.as_ref().map(|url| url.expose());
    let url = url.filter(|_| section.r#type == ProviderType::Http);
    match url.and_then(https) {
        Some(url) => tls(&name, url).await,
        None => DoctorFinding::ok(&name, format!("{shown} accepts connections")),
    }
}

/// The address, if it is one with TLS.
fn https(url: &str) -> Option<Url> {
    let url = Url::parse(url).ok();
    url.filter(|url| url.scheme() == "https")
}

/// Requests the root of a server with TLS, without any secret. Every response shows that the handshake
/// works and that the certificate is valid.
async fn tls(name: &str, mut url: Url) -> DoctorFinding {
    const ADVICE: &str = "check the server's certificate chain, its name and dates, and the CA certificates of this machine (SSL_CERT_FILE)";
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    // An address with TLS has a host, so both can be removed.
    _ = (url.set_username(""), url.set_password(None));
    let client = HttpClient::new(HttpClientConfig {
        headers: HeaderMap::new(),
        timeout: LIMIT,
        response_max: 64 << 10,
        authorities: Vec::new(),
    });
    let prepared = client.and_then(|client| client.prepare(&url).map(|()| client));
    let client = match prepared {
        Ok(client) => client,
        Err(cause) => return DoctorFinding::failed(name, cause, ADVICE),
    };
    let request = HttpRequest {
        method: Method::HEAD,
        ..HttpRequest::get(url.clone())
    };
    match client.send(request, SystemClock.now()).await {
        Err(error) if error.status.is_none() => DoctorFinding::failed(name, error, ADVICE),
        Ok(_) | Err(_) => {
            DoctorFinding::ok(name, format!("{url}: TLS works, the certificate is valid"))
        }
    }
}

fn http_address(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port_or_known_default()?))
}

/// Hosts and ports of Kafka brokers.
fn brokers(list: &str) -> Vec<(String, u16)> {
    const PORT: u16 = 9092;
    let brokers = list.split(',').map(str::trim).filter(|b| !b.is_empty());
    let brokers = brokers.map(|broker| {
        let (_, address) = broker.split_once("://").unwrap_or(("", broker));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().unwrap_or(PORT)),
            _ => (address, PORT),
        };
        (host.trim_matches(['[', ']']).to_owned(), port)
    });
    brokers.collect()
}

/// Looks a host up and connects to it.
async fn reach(host: &str, port: u16) -> Result<(), String> {
    let found = limited(lookup_host((host, port))).await;
    let found: Vec<_> = found
        .map_err(|e| format!("can't look {host} up: {e}"))?
        .collect();
    if found.is_empty() {
        return Err(format!("{host} has no address"));
    }
    let connected = limited(TcpStream::connect(found.as_slice())).await;
    connected
        .map(drop)
        .map_err(|e| format!("can't connect to {host}:{port}: {e}"))
}

/// The server that runs on the data directory.
async fn server(config: &Config) -> DoctorFinding {
    const NAME: &str = "server";
    let endpoints = Endpoints::find(&config.data_dir).ok().flatten();
    let Some(url) = endpoints.and_then(|e| e.api) else {
        return DoctorFinding::skipped(NAME, "none runs on this data directory");
    };
    let Some((host, port)) = http_address(&url) else {
        return DoctorFinding::skipped(NAME, format!("its address {url} can't be read"));
    };
    match reach(&host, port).await {
        Ok(()) => DoctorFinding::ok(NAME, format!("{url} accepts connections")),
        Err(cause) => DoctorFinding::failed(
            NAME,
            cause,
            "it published its address and does not listen: is it hung, or was it killed?",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_providers_are_read() {
        let of = |h: &str, p| (h.to_owned(), p);
        assert_eq!(http_address("https://a.b/c"), Some(of("a.b", 443)));
        assert_eq!(http_address("http://[::1]:80/"), Some(of("::1", 80)));
        assert_eq!(http_address("nope"), None);
        assert_eq!(
            brokers("a:1, SASL_SSL://b:2,[::1]:3,[::1],c"),
            [
                of("a", 1),
                of("b", 2),
                of("::1", 3),
                of("::1", 9092),
                of("c", 9092)
            ]
        );
    }
}
