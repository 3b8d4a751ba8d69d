//! Where traces are sent, and what a program that cannot send any says to that.

use clap::Args;

#[cfg(not(feature = "otlp"))]
use crate::failure::Failure;
use crate::failure::Outcome;

/// Where traces are sent.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct TracesArgs {
    /// Send traces to the OpenTelemetry collector at this address, as OTEL_EXPORTER_OTLP_ENDPOINT does (in programs that are
    /// built with the feature otlp)
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl TracesArgs {
    /// Does a command's work while its spans are collected.
    #[cfg(feature = "otlp")]
    pub async fn around(self, who: &str, work: impl Future<Output = Outcome>) -> Outcome {
        let traces = crate::otlp::Traces::begin(self.otlp_endpoint.as_deref(), who)?;
        let outcome = work.await;
        if let Some(traces) = traces {
            traces.end().await;
        }
        outcome
    }

    /// Does a command's work, unless its spans are to be collected.
    #[cfg(not(feature = "otlp"))]
    pub async fn around(self, _who: &str, work: impl Future<Output = Outcome>) -> Outcome {
        match self.otlp_endpoint {
            None => work.await,
            Some(_) => Err(Failure::usage(
                "--otlp-endpoint: this program was built without the feature otlp, and can send no traces",
            )),
        }
    }
}
