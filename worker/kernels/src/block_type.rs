//! The element types of tensors: their numbers in a file, names and block layouts, as ggml defines them.

/// How a tensor's elements are stored. Quantised types come in blocks of [`BlockType::block_len`] elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
}

impl BlockType {
    /// All types, for tests that go over every one.
    pub const ALL: [BlockType; 14] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::BF16,
        BlockType::Q4_0,
        BlockType::Q4_1,
        BlockType::Q5_0,
        BlockType::Q5_1,
        BlockType::Q8_0,
        BlockType::Q2K,
        BlockType::Q3K,
        BlockType::Q4K,
        BlockType::Q5K,
        BlockType::Q6K,
        BlockType::Q8K,
    ];

    /// Elements in one block; 1 for the float types.
    pub const fn block_len(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => 1,
            BlockType::Q4_0
            | BlockType::Q4_1
            | BlockType::Q5_0
            | BlockType::Q5_1
            | BlockType::Q8_0 => 32,
            BlockType::Q2K
            | BlockType::Q3K
            | BlockType::Q4K
            | BlockType::Q5K
            | BlockType::Q6K
            | BlockType::Q8K => 256,
        }
    }

    /// Whether its values are integers with scales.
    pub const fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::BF16 => 2,
            BlockType::Q4_0 => 2 + 16,
            BlockType::Q4_1 => 2 + 2 + 16,
            BlockType::Q5_0 => 2 + 4 + 16,
            BlockType::Q5_1 => 2 + 2 + 4 + 16,
            BlockType::Q8_0 => 2 + 32,
            BlockType::Q2K => 16 + 64 + 2 + 2,
            BlockType::Q3K => 32 + 64 + 12 + 2,
            BlockType::Q4K => 2 + 2 + 12 + 128,
            BlockType::Q5K => 2 + 2 + 12 + 32 + 128,
            BlockType::Q6K => 128 + 64 + 16 + 2,
            BlockType::Q8K => 4 + 256 + 32,
        }
    }

    /// Bytes of `elements` elements, or `None` when that is no whole number of blocks or overflows.
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_len()) {
            return None;
        }
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The name that ggml and model cards use, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "F32",
            BlockType::F16 => "F16",
            BlockType::BF16 => "BF16",
            BlockType::Q4_0 => "Q4_0",
            BlockType::Q4_1 => "Q4_1",
            BlockType::Q5_0 => "Q5_0",
            BlockType::Q5_1 => "Q5_1",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q2K => "Q2_K",
            BlockType::Q3K => "Q3_K",
            BlockType::Q4K => "Q4_K",
            BlockType::Q5K => "Q5_K",
            BlockType::Q6K => "Q6_K",
            BlockType::Q8K => "Q8_K",
        }
    }

    /// The type's number in a GGUF file.
    pub const fn id(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q4_0 => 2,
            BlockType::Q4_1 => 3,
            BlockType::Q5_0 => 6,
            BlockType::Q5_1 => 7,
            BlockType::Q8_0 => 8,
            BlockType::Q2K => 10,
            BlockType::Q3K => 11,
            BlockType::Q4K => 12,
            BlockType::Q5K => 13,
            BlockType::Q6K => 14,
            BlockType::Q8K => 15,
            BlockType::BF16 => 30,
        }
    }

    /// The type with that number in a GGUF file.
    ///
    /// # Errors
    /// The name of a type that ggml has and rbee cannot compute with, or `type N` for one unknown to both.
    pub fn from_id(id: u32) -> Result<BlockType, String> {
        BlockType::ALL
            .into_iter()
            .find(|kind| kind.id() == id)
            .ok_or_else(|| {
                FOREIGN_TYPES
                    .iter()
                    .find(|(foreign, _)| *foreign == id)
                    .map_or_else(|| format!("number {id}"), |(_, name)| (*name).to_owned())
            })
    }
}

impl std::fmt::Display for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Types of ggml that rbee does not compute with, so that the refusal can name them.
const FOREIGN_TYPES: [(u32, &str); 21] = [
    (4, "Q4_2 (removed from ggml)"),
    (5, "Q4_3 (removed from ggml)"),
    (9, "Q8_1"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];
