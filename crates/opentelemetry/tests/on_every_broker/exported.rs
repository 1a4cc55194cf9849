//! An exporter that keeps spans.

use std::fmt;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;

/// All spans that have ended.
#[derive(Debug, Default, Clone)]
pub(crate) struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl Exported {
    /// The spans of this name, in the order in which they ended.
    pub(crate) fn named(&self, name: &str) -> Vec<SpanData> {
        self.all().into_iter().filter(|span| span.name == name).collect()
    }

    pub(crate) fn all(&self) -> Vec<SpanData> {
        self.0.lock().expect("no panic holds it").clone()
    }

    /// Has the spans of this thread exported to it.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let provider = SdkTracerProvider::builder().with_simple_exporter(self.clone()).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::set_default(tracing_subscriber::registry().with(layer))
    }
}

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic holds it").extend(batch);
        Ok(())
    }
}

/// The value of an attribute.
pub(crate) fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| fmt::format(format_args!("{}", attribute.value)))
}
