//! Spans of `tracing` as OTLP traces.

use opentelemetry::trace::TracerProvider;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

use super::receiver::{OtlpReceiver, Signal};
use crate::telemetry::TraceLayer;

/// Spans that wait for export; further ones are dropped.
const QUEUE_MAX: usize = 2_048;

/// Creates the provider, which batches spans in a thread of its own.
pub(super) fn provider(
    receiver: &OtlpReceiver,
    resource: &Resource,
    percent: u32,
) -> SdkTracerProvider {
    let exporter = OtlpSpanExporter {
        receiver: receiver.clone(),
        runtime: Handle::current(),
        resource: resource.into(),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_MAX)
        .build();
    let batches = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    let share = Sampler::TraceIdRatioBased(f64::from(percent) / 100.0);
    SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Sampler::ParentBased(Box::new(share)))
        .with_span_processor(batches)
        .build()
}

/// The layer that records spans of Forebay's own crates.
pub(super) fn layer(provider: &SdkTracerProvider) -> TraceLayer {
    let own = Targets::new().with_target("forebay", LevelFilter::DEBUG);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("forebay"))
        .with_location(false)
        .with_threads(false)
        .with_filter(own)
        .boxed()
}

#[derive(Debug)]
struct OtlpSpanExporter {
    receiver: OtlpReceiver,
    /// The batches' thread has no runtime, which the HTTP client needs.
    runtime: Handle,
    resource: ResourceAttributesWithSchema,
}

impl SpanExporter for OtlpSpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let receiver = self.receiver.clone();
        let export = async move { receiver.export(Signal::Traces, &request).await };
        let failed = |text: String| OTelSdkError::InternalFailure(text);
        match self.runtime.spawn(export).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(failed("the export failed".to_owned())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
