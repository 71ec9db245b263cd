//! A real HTTP server that records its requests and fails on demand.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[derive(Default)]
struct State {
    down: bool,
    rejected: BTreeSet<u64>,
    seen: Vec<u64>,
    methods: Vec<String>,
    keys: BTreeSet<String>,
    repeated: usize,
}

/// Accepts one message per request; its number is in the header `X-N`.
pub(crate) struct Endpoint {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    _runtime: Runtime,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let kept = Arc::clone(&state);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&kept);
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let status = state.lock().unwrap().answer(&request);
                        let mut response = Response::new(String::new());
                        *response.status_mut() = status;
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    // A killed client leaves its connection.
                    drop(
                        connection
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self {
            address,
            state,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// Makes it respond 503, or recover.
    pub(crate) fn set_down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// Makes it reject this message for good.
    pub(crate) fn refuse(&self, n: u64) {
        self.state.lock().unwrap().rejected.insert(n);
    }

    /// Makes it accept this message again.
    pub(crate) fn accept(&self, n: u64) {
        self.state.lock().unwrap().rejected.remove(&n);
    }

    /// Method of each request.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.state.lock().unwrap().methods.clone()
    }

    /// Accepted messages in order, each once by its idempotency key; and the number of repeats.
    pub(crate) fn seen(&self) -> (Vec<u64>, usize) {
        let state = self.state.lock().unwrap();
        (state.seen.clone(), state.repeated)
    }
}

impl State {
    fn answer(&mut self, request: &Request<Incoming>) -> StatusCode {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.and_then(|v| v.to_str().ok()).unwrap_or_default()
        };
        if header("authorization") != "Bearer hush-hush" {
            return StatusCode::UNAUTHORIZED;
        }
        if self.down {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let n = header("x-n").parse().unwrap();
        if self.rejected.contains(&n) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        if self.keys.insert(header("idempotency-key").to_owned()) {
            self.seen.push(n);
            self.methods.push(request.method().to_string());
        } else {
            self.repeated += 1;
        }
        StatusCode::OK
    }
}
