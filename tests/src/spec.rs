//! The small models that tests are made of: their families, shapes and peculiarities.

/// The family decides tensor names, norms, fused projections and where positions are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Qwen2,
    Qwen3,
    Phi3,
    Gemma3,
}

/// Which tokenizer the model carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabularyKind {
    /// Byte-level BPE, `gpt2` in GGUF, with this pre-tokenizer.
    Bpe { pre: &'static str },
    /// SentencePiece with byte fallback, `llama` in GGUF.
    Spm,
}

/// How rotation frequencies are changed for contexts longer than the trained one.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// Llama 3.1's smooth interpolation; a tensor of factors in GGUF.
    Llama3 {
        factor: f32,
        low: f32,
        high: f32,
        original_context: usize,
    },
    /// Phi 3's two tensors of factors.
    LongRope {
        short: Vec<f32>,
        long: Vec<f32>,
        original_context: usize,
    },
    /// Positions divided by a factor; in Gemma 3 on its global layers only.
    Linear {
        factor: f32,
    },
}

/// The shape of a generated model.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    pub name: &'static str,
    pub family: Family,
    pub vocabulary: VocabularyKind,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub context: usize,
    /// The output head is the embedding.
    pub tied: bool,
    pub rope_base: f32,
    pub rope_scaling: RopeScaling,
    /// Rotated dimensions of a head; fewer than `head_dim` in some Phi models.
    pub rope_dims: usize,
    /// Positions that a local layer of Gemma 3 sees.
    pub window: usize,
    pub rms_eps: f32,
    pub seed: u64,
}

/// Every sixth layer of Gemma 3 sees all positions.
pub const GEMMA3_PATTERN: usize = 6;
/// The rotation base of Gemma 3's local layers.
pub const GEMMA3_LOCAL_BASE: f32 = 10_000.0;

impl ModelSpec {
    fn base(name: &'static str, family: Family) -> ModelSpec {
        ModelSpec {
            name,
            family,
            vocabulary: VocabularyKind::Bpe { pre: "qwen2" },
            layers: 3,
            hidden: 192,
            heads: 6,
            kv_heads: 2,
            head_dim: 32,
            ffn: 320,
            context: 512,
            tied: true,
            rope_base: 10_000.0,
            rope_scaling: RopeScaling::None,
            rope_dims: 32,
            window: 0,
            rms_eps: 1e-5,
            seed: 7,
        }
    }

    /// Llama 3.1's kind: rope factors, tied output; hidden is not a multiple of 256.
    pub fn llama3() -> ModelSpec {
        ModelSpec {
            vocabulary: VocabularyKind::Bpe { pre: "llama-bpe" },
            rope_base: 500_000.0,
            rope_scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low: 1.0,
                high: 4.0,
                original_context: 64,
            },
            ..ModelSpec::base("llama3", Family::Llama)
        }
    }

    /// Mistral's kind: `llama` in GGUF, SentencePiece, an output of its own; all columns are multiples of 256.
    pub fn mistral() -> ModelSpec {
        ModelSpec {
            vocabulary: VocabularyKind::Spm,
            layers: 2,
            hidden: 256,
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
            ffn: 512,
            rope_dims: 64,
            tied: false,
            ..ModelSpec::base("mistral", Family::Llama)
        }
    }

    /// A head length that is not hidden / heads, as Mistral Nemo has.
    pub fn wide_heads() -> ModelSpec {
        ModelSpec {
            hidden: 160,
            heads: 4,
            kv_heads: 1,
            head_dim: 64,
            rope_dims: 64,
            ..ModelSpec::base("wide-heads", Family::Llama)
        }
    }

    /// Biases on q, k and v, an output of its own.
    pub fn qwen2() -> ModelSpec {
        ModelSpec {
            tied: false,
            rope_base: 1_000_000.0,
            rms_eps: 1e-6,
            ..ModelSpec::base("qwen2", Family::Qwen2)
        }
    }

    /// Norms on q and k, heads wider than hidden / heads.
    pub fn qwen3() -> ModelSpec {
        ModelSpec {
            hidden: 256,
            heads: 4,
            kv_heads: 2,
            head_dim: 128,
            ffn: 768,
            rope_dims: 128,
            rope_base: 1_000_000.0,
            rms_eps: 1e-6,
            ..ModelSpec::base("qwen3", Family::Qwen3)
        }
    }

    /// Fused projections.
    pub fn phi3() -> ModelSpec {
        ModelSpec {
            vocabulary: VocabularyKind::Spm,
            heads: 6,
            kv_heads: 6,
            tied: false,
            ..ModelSpec::base("phi3", Family::Phi3)
        }
    }

    /// Fused projections, partly rotated heads and two sets of rope factors.
    pub fn phi3_longrope() -> ModelSpec {
        let dims = 24;
        let factors = |start: f32, step: f32| -> Vec<f32> {
            (0..dims / 2).map(|at| start + step * at as f32).collect()
        };
        ModelSpec {
            name: "phi3-longrope",
            rope_dims: dims,
            rope_scaling: RopeScaling::LongRope {
                short: factors(1.0, 0.05),
                long: factors(1.1, 0.6),
                original_context: 128,
            },
            kv_heads: 3,
            ..ModelSpec::phi3()
        }
    }

    /// A window of 16 positions on five layers of six, two rotation bases, norms on both sides.
    pub fn gemma3() -> ModelSpec {
        ModelSpec {
            vocabulary: VocabularyKind::Spm,
            layers: 7,
            hidden: 160,
            heads: 4,
            kv_heads: 1,
            head_dim: 64,
            rope_dims: 64,
            ffn: 320,
            window: 16,
            rope_base: 1_000_000.0,
            rms_eps: 1e-6,
            ..ModelSpec::base("gemma3", Family::Gemma3)
        }
    }

    /// Gemma 3's larger sizes divide the positions of their global layers.
    pub fn gemma3_linear() -> ModelSpec {
        ModelSpec {
            name: "gemma3-linear",
            rope_scaling: RopeScaling::Linear { factor: 8.0 },
            ..ModelSpec::gemma3()
        }
    }

    /// One of every kind.
    pub fn zoo() -> Vec<ModelSpec> {
        vec![
            ModelSpec::llama3(),
            ModelSpec::mistral(),
            ModelSpec::wide_heads(),
            ModelSpec::qwen2(),
            ModelSpec::qwen3(),
            ModelSpec::phi3(),
            ModelSpec::phi3_longrope(),
            ModelSpec::gemma3(),
            ModelSpec::gemma3_linear(),
        ]
    }

    /// Columns of the q projection's output.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the k and of the v projection's output.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The name of the architecture in GGUF.
    pub fn architecture(&self) -> &'static str {
        match self.family {
            Family::Llama => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Phi3 => "phi3",
            Family::Gemma3 => "gemma3",
        }
    }
}
