//! Architectures that the own decoder does not know, through candle-transformers' own models: one sequence at a time.
//!
//! This module owns which architectures those are, what of their files candle may see, and how a model with one private
//! cache stands behind [`StepModel`](crate::engine::step::StepModel). It does not compute: the arithmetic is candle's, in
//! candle's order of sums, and so results are not promised to be the same bytes on two machines. Files are untrusted and
//! validated before candle gets them; what it says or panics about becomes an error of the load or of the job.
//!
//! candle chooses its number of threads by itself, once a process, from `RAYON_NUM_THREADS` or the number of cores:
//! [`LoadOptions::threads`] cannot reach it.

mod candle_model;
mod dense_configs;
mod dense_models;
mod dense_weights;
mod gguf_content;
mod gguf_models;
mod hf_config;
mod sequential;
mod shape;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;

use crate::engine::forward::panic_text;
use crate::gguf::Gguf;
use crate::safetensors::Safetensors;

use super::memory::MemoryPlan;
use super::{LoadError, LoadOptions, LoadedModel, Text, numerics};

use candle_model::CandleModel;
use dense_models::DenseFamily;
pub(super) use gguf_content::ggml_type;
use gguf_models::GgufFamily;
use sequential::SequentialModel;
pub(super) use sequential::candle_text;
use shape::Shape;

/// GGUF architectures that run here, for messages.
pub fn gguf_architectures() -> String {
    gguf_models::ARCHITECTURES.join(", ")
}

/// Values of `model_type` that run here, for messages.
pub fn model_types() -> String {
    dense_models::model_types().collect::<Vec<_>>().join(", ")
}

/// Whether a GGUF file is one of these.
pub fn runs_gguf(gguf: &Gguf) -> bool {
    GgufFamily::of(gguf).is_some()
}

/// Whether a safetensors model is one of these.
pub fn runs_safetensors(model: &Safetensors) -> bool {
    dense_models::model_type(&model.config)
        .and_then(DenseFamily::of)
        .is_some()
}

/// Loads a GGUF file for which [`runs_gguf`] is true.
///
/// # Errors
/// As [`super::load_gguf`].
pub fn load_gguf(gguf: Gguf, options: &LoadOptions) -> Result<LoadedModel, LoadError> {
    let path = gguf.path().to_owned();
    let unsupported = |problem: String| unsupported(&path, problem);
    let Some(family) = GgufFamily::of(&gguf) else {
        let architecture = gguf.architecture()?;
        return Err(unsupported(format!(
            "its architecture is `{architecture}`, which candle does not run"
        )));
    };
    let shape = family.shape(&gguf).map_err(unsupported)?;
    let text = Text::from_gguf(&gguf)?;
    let weights = gguf
        .tensors()
        .map(|info| GgufFamily::loaded_bytes(&gguf, info))
        .sum();
    let gguf = Arc::new(gguf);
    let build = |context: usize, device: &Device| family.load(&gguf, context, device);
    let loaded = Loading {
        path: &path,
        architecture: family.architecture(),
        shape,
        weights,
        text,
        options,
    }
    .load(build)?;
    for info in gguf.tensors() {
        gguf.release(&info.name);
    }
    gguf.check_unchanged()?;
    Ok(loaded)
}

/// Loads a safetensors model for which [`runs_safetensors`] is true, with its tokenizer and template.
///
/// # Errors
/// The model is damaged, too large for the memory, or of a kind that candle does not compute rightly.
pub fn load_safetensors(
    model: &Safetensors,
    text: Text,
    options: &LoadOptions,
) -> Result<LoadedModel, LoadError> {
    let path = model.dir();
    let model_type = dense_models::model_type(&model.config).unwrap_or("unknown");
    let Some(family) = DenseFamily::of(model_type) else {
        return Err(unsupported(
            path,
            format!("its model_type is `{model_type}`, which candle does not run"),
        ));
    };
    let (config, shape) = family
        .read(model)
        .map_err(|problem| unsupported(path, problem))?;
    let weights = family.weight_bytes(&config, model);
    let loaded = Loading {
        path,
        architecture: family.model_type,
        shape,
        weights,
        text,
        options,
    }
    .load(|context, device| family.load(config, (model, device), context))?;
    model.check_unchanged()?;
    Ok(loaded)
}

fn unsupported(path: &Path, problem: String) -> LoadError {
    LoadError::Unsupported {
        path: path.to_owned(),
        problem,
    }
}

/// What is known of a model before its weights are read.
struct Loading<'a> {
    path: &'a Path,
    architecture: &'static str,
    shape: Shape,
    /// Bytes of the weights as candle holds them.
    weights: u64,
    text: Text,
    options: &'a LoadOptions,
}

impl Loading<'_> {
    fn load(
        self,
        build: impl FnOnce(usize, &Device) -> candle_core::Result<Box<dyn CandleModel>>,
    ) -> Result<LoadedModel, LoadError> {
        if self.text.tokenizer.vocab_size() > self.shape.vocab {
            return Err(unsupported(
                self.path,
                "its tokenizer has more tokens than its embedding".to_owned(),
            ));
        }
        let (memory, context) = self.plan()?;
        let unsupported = |problem: String| unsupported(self.path, problem);
        let device = self.options.device.open().map_err(unsupported)?;
        let built = catch_unwind(AssertUnwindSafe(|| build(context, &device)));
        let model = match built {
            Ok(Ok(model)) => model,
            Ok(Err(error)) => {
                return Err(unsupported(format!("candle says: {}", candle_text(&error))));
            }
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                return Err(unsupported(format!("candle panicked: {text}")));
            }
        };
        let mut model = SequentialModel::new((model, device), self.shape.vocab, context);
        model
            .try_out()
            .map_err(|error| unsupported(format!("its tensors do not fit: {}", error.message)))?;
        Ok(LoadedModel {
            model: Box::new(model),
            tokenizer: self.text.tokenizer,
            template: self.text.template,
            memory,
            architecture: self.architecture.to_owned(),
            sequential: true,
            numerics: numerics::of_candle(self.architecture, self.options.device),
            reproducible: false,
        })
    }

    fn plan(&self) -> Result<(MemoryPlan, usize), LoadError> {
        let options = self.options;
        let budget = options.budget();
        let planned =
            budget.and_then(|budget| self.shape.plan(self.weights, options.context, budget));
        let (memory, context) = planned.map_err(|problem| LoadError::TooLarge {
            path: self.path.to_owned(),
            problem,
        })?;
        let asked = options.context.unwrap_or(self.shape.context);
        if context < asked.min(self.shape.context) {
            tracing::warn!(
                context,
                "the memory holds a shorter context than the model's, because candle computes a prompt in one piece"
            );
        }
        let threads = candle_core::utils::get_num_threads();
        if threads != options.threads {
            tracing::info!(
                threads,
                "candle chooses its threads by itself; RAYON_NUM_THREADS sets them"
            );
        }
        Ok((memory, context))
    }
}

#[cfg(test)]
mod tests;
