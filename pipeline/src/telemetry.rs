//! Traces for others: spans of runs and steps to a collector, OTLP over HTTP. Off unless the
//! service's configuration names one.
//!
//! A collector that is away, slow or broken costs its spans and a line of the log, never a run: spans
//! wait in a bounded queue on a thread of their own.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::runtime::Handle;

/// The target of spans that are exported; nothing else has it.
pub(crate) const TARGET: &str = "pitlane_traces";
/// Longest that a collector may take for one batch.
const POST_TIME: Duration = Duration::from_secs(5);
/// Longest that the end of the service waits for the last batch.
const LAST_TIME: Duration = Duration::from_secs(6);
/// Most bytes of an answer that are read: a collector says nothing or which spans it refused.
const MAX_ANSWER: usize = 64 * 1024;

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// `http://host:4318` or https: a collector that takes OTLP over HTTP. Spans of runs and steps
    /// are sent to `/v1/traces` there.
    pub otlp: String,
}

/// Spans on their way; ends with [`Exporting::stop`].
#[derive(Debug)]
pub(crate) struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Starts the thread that sends; requests are made on this runtime.
    pub(crate) fn start(to: &Telemetry, runtime: Handle) -> anyhow::Result<(Self, SdkTracer)> {
        let base = to.otlp.trim_end_matches('/');
        let known = base.starts_with("http://") || base.starts_with("https://");
        ensure!(known, "field `telemetry.otlp`: `{base}` is no http or https address");
        let client = reqwest::Client::builder()
            .timeout(POST_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("field `telemetry`")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post { client, runtime, failing: AtomicBool::new(false) })
            .with_endpoint(format!("{base}/v1/traces"))
            .with_timeout(POST_TIME)
            .build()
            .context("field `telemetry.otlp`")?;
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let instance = format!("{}-{}", host.unwrap_or_default(), std::process::id());
        let resource = Resource::builder_empty()
            .with_service_name("pitlane")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        let provider = provider.build();
        let tracer = provider.tracer("pitlane");
        Ok((Self(provider), tracer))
    }

    /// Sends what is left. Blocks; the runtime must still live.
    pub(crate) fn stop(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_TIME) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The service's own HTTP client, for the exporter's thread.
#[derive(Debug)]
struct Post {
    client: reqwest::Client,
    runtime: Handle,
    failing: AtomicBool,
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        // The exporter's thread has no runtime that could wait for a socket.
        let answer = self.runtime.spawn(async move { post(&client, request).await }).await;
        let answer = answer.unwrap_or_else(|ended| Err(ended.into()));
        let failed = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        // Said once, until it works again.
        let before = self.failing.swap(failed.is_some(), Ordering::Relaxed);
        if let (Some(why), false) = (&failed, before) {
            tracing::warn!("traces are lost: the collector does not take them: {why}");
        } else if before && failed.is_none() {
            tracing::info!("the collector takes traces again");
        }
        answer
    }
}

async fn post(
    client: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = request.into_parts();
    let sent = client.post(parts.uri.to_string()).headers(parts.headers).body(body).send().await;
    let mut answer = sent.map_err(reqwest::Error::without_url)?;
    let mut bytes = Vec::new();
    while let Some(part) = answer.chunk().await? {
        bytes.extend_from_slice(&part);
        if bytes.len() > MAX_ANSWER {
            return Err(format!("an answer of more than {MAX_ANSWER} bytes").into());
        }
    }
    let mut made = Response::new(Bytes::from(bytes));
    *made.status_mut() = answer.status();
    Ok(made)
}
