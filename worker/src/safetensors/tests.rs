//! Tests of reading and validating safetensors models.

use super::*;
