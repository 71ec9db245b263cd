//! HTTP clients for the requests of the `object_store` library. Its own client follows every
//! redirect and turns a PUT into a GET: any success of that GET would count as a stored object. So
//! its client only makes read requests (ADR 1341).

use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use reqwest::{Certificate, Method};

/// Creates the HTTP clients of a store.
#[derive(Debug)]
pub(super) struct S3Connector {
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Duration,
    /// CA certificates trusted besides the system's.
    pub(super) ca_pem: Option<Vec<u8>>,
}

/// A client for reads, and one that follows no redirects.
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
        reason = "a client for a library that makes its own requests; it follows no redirects"
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
