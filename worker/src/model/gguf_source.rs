//! Tensors of a GGUF file, for packing.

use std::borrow::Cow;

use crate::gguf::Gguf;

use super::weights::{RawTensor, TensorSource};

/// A GGUF file as a source of tensors; its names are the ones that the decoder asks for.
pub struct GgufSource<'a>(pub &'a Gguf);

impl TensorSource for GgufSource<'_> {
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let tensor = self.0.tensor(name)?;
        let k = tensor.info.shape[0];
        let n = tensor.info.elements() / k;
        Some(RawTensor {
            dtype: tensor.info.dtype,
            n,
            k,
            data: Cow::Borrowed(tensor.data),
        })
    }

    fn release(&self, name: &str) {
        self.0.release(name);
    }
}
