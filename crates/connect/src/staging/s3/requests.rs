//! The requests that the library makes. Its own client follows each redirect, and makes a GET of a
//! PUT: whatever answers that with success would count as an object that is stored. So only what
//! reads is left to it (ADR 1341).

use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::{Certificate, Method};

/// Makes the clients of a store.
#[derive(Debug)]
pub(super) struct S3Connector {
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Duration,
    /// Of authorities that are trusted beside the system's.
    pub(super) ca_pem: Option<Vec<u8>>,
}

/// A client for what reads, and one that follows nothing.
#[derive(Debug)]
struct RequestClients {
    reading: HttpClient,
    changing: reqwest::Client,
}

impl HttpConnector for S3Connector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient, object_store::Error> {
        let reading = ReqwestConnector::default().connect(options)?;
        let changing = self.changing().map_err(|e| object_store::Error::Generic {
            store: "HTTP client",
            source: Box::new(e),
        })?;
        Ok(HttpClient::new(RequestClients { reading, changing }))
    }
}

impl S3Connector {
    #[expect(
        clippy::disallowed_methods,
        reason = "a client for a library that makes its own requests; it follows nothing"
    )]
    fn changing(&self) -> Result<reqwest::Client, reqwest::Error> {
        let ca = self.ca_pem.as_deref().unwrap_or_default();
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.read_timeout)
            .tls_certs_merge(Certificate::from_pem_bundle(ca)?)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .build()
    }
}

#[async_trait]
impl HttpService for RequestClients {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        match *request.method() {
            Method::GET | Method::HEAD => self.reading.execute(request).await,
            _ => self.changing.call(request).await,
        }
    }
}
