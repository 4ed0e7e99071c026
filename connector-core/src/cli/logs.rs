//! Log lines on stderr and, where the configuration names a collector, traces over OTLP.
//!
//! Both hold only what this workspace says: nobody knows what another library's lines hold.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Level, Log, LogFormat, Otlp};

/// Longest wait for a collector.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is still to be sent at the end.
pub(super) struct Logging(Option<SdkTracerProvider>);

impl Logging {
    /// Sends the last spans.
    pub async fn end(self) {
        if let Some(provider) = self.0 {
            let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(TIMEOUT)).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::warn!("the collector of log.otlp did not take the last spans");
            }
        }
    }
}

/// Starts logging for the whole process.
pub(super) fn start_logging(log: &Log) -> Result<Logging, ExporterBuildError> {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let provider = log.otlp.as_ref().map(provider).transpose()?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("cht-connectors"))
            .with_location(false)
            .with_threads(false)
            .with_filter(own(LevelFilter::INFO))
    });
    tracing_subscriber::registry().with(lines.with_filter(own(level))).with(traces).init();
    Ok(Logging(provider))
}

fn own(level: LevelFilter) -> Targets {
    Targets::new()
        .with_targets(["connector", "cht_core_client", "patient_matching"].map(|name| (name, level)))
}

fn provider(otlp: &Otlp) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(otlp.url.as_str())
        .with_timeout(TIMEOUT)
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::TraceIdRatioBased(otlp.share))
        .with_resource(Resource::builder().with_service_name("cht-connectors").build())
        .build())
}
