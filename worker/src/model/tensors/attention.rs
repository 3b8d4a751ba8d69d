//! Attention of a step's rows over the keys and values of their sequences.
//!
//! Sequences that want one token each are computed together, padded to the longest of a few; the longer chunks of prompts
//! one by one. What pads is a row of zeros that no score reaches, since the blocks themselves may hold anything.

use candle_core::{DType, Device, Result, Tensor};

use crate::engine::step::{BLOCK_TOKENS, SeqChunk};

/// The keys and values of one layer: `[positions + 1, kv width]`, the last row being zeros.
pub struct LayerKv {
    keys: Tensor,
    values: Tensor,
}

impl LayerKv {
    pub fn new(
        (positions, width): (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<LayerKv> {
        let room = || Tensor::zeros((positions + 1, width), dtype, device);
        Ok(LayerKv {
            keys: room()?,
            values: room()?,
        })
    }

    /// Stores the rows' keys and values, `[rows, kv width]`, at their slots.
    pub fn store(&self, slots: &Tensor, keys: &Tensor, values: &Tensor) -> Result<()> {
        let dtype = self.keys.dtype();
        self.keys.scatter_set(slots, &keys.to_dtype(dtype)?, 0)?;
        self.values.scatter_set(slots, &values.to_dtype(dtype)?, 0)
    }

    /// Keys (or values) at some slots, as `[sequences, kv heads, positions, head_dim]`.
    fn at(&self, all: &Tensor, group: &Group, heads: Heads) -> Result<Tensor> {
        let shape = (
            group.sequences,
            group.positions,
            heads.kv_heads,
            heads.head_dim,
        );
        let found = all.index_select(&group.slots, 0)?.to_dtype(DType::F32)?;
        found.reshape(shape)?.transpose(1, 2)?.contiguous()
    }
}

/// Sizes of a layer's heads.
#[derive(Clone, Copy)]
pub struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// What scores are multiplied with.
    pub scale: f64,
}

/// Sequences that are computed together, each with as many tokens in this step as the others.
struct Group {
    sequences: usize,
    /// Tokens of each sequence in this step.
    tokens: usize,
    /// Positions of the longest sequence, this step's tokens included.
    positions: usize,
    /// The rows of the step, sequence by sequence.
    rows: Tensor,
    /// The slot of each position, sequence by sequence; the row of zeros where a sequence has none.
    slots: Tensor,
    /// For each kind of window what is added to the scores: 0 where a token sees a position.
    /// `[sequences, 1, 1, tokens, positions]`.
    masks: Vec<(Option<usize>, Tensor)>,
}

/// All rows of a step in groups.
pub struct Groups {
    groups: Vec<Group>,
    /// For each row of the step its place among the groups' rows.
    back: Tensor,
}

impl Groups {
    /// `windows` are those of the model's layers, `zeros` is the slot of the row of zeros.
    pub fn new(
        chunks: &[SeqChunk<'_>],
        (windows, zeros): (&[Option<usize>], usize),
        device: &Device,
    ) -> Result<Groups> {
        let mut row = 0;
        let (mut single, mut together) = (Vec::new(), Vec::new());
        for chunk in chunks {
            match chunk.tokens.len() {
                1 => single.push((row, chunk)),
                _ => together.push(vec![(row, chunk)]),
            }
            row += chunk.tokens.len();
        }
        // The longest first; none is padded to more than twice its length.
        single.sort_by_key(|(_, chunk)| std::cmp::Reverse(chunk.end()));
        while let Some((_, longest)) = single.first() {
            let least = longest.end() / 2;
            let fits = single.partition_point(|(_, chunk)| chunk.end() > least);
            together.push(single.drain(..fits.max(1)).collect());
        }
        let mut back = vec![0u32; row];
        let mut place = 0;
        for (first, chunk) in together.iter().flatten() {
            for offset in 0..chunk.tokens.len() {
                back[first + offset] = place;
                place += 1;
            }
        }
        let groups = together
            .iter()
            .map(|chunks| Group::new(chunks, (windows, zeros), device));
        Ok(Groups {
            groups: groups.collect::<Result<_>>()?,
            back: Tensor::new(back, device)?,
        })
    }
}

impl Group {
    fn new(
        chunks: &[(usize, &SeqChunk<'_>)],
        (windows, zeros): (&[Option<usize>], usize),
        device: &Device,
    ) -> Result<Group> {
        let tokens = chunks[0].1.tokens.len();
        let positions = chunks.iter().map(|(_, chunk)| chunk.end()).max();
        let positions = positions.expect("a group has a sequence");
        let rows = chunks
            .iter()
            .flat_map(|(row, _)| (*row as u32..).take(tokens));
        let rows: Vec<u32> = rows.collect();
        let slots = chunks.iter().flat_map(|(_, chunk)| {
            (0..positions).map(move |position| match position < chunk.end() {
                true => {
                    let block = chunk.blocks[position / BLOCK_TOKENS].0;
                    block * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32
                }
                false => zeros as u32,
            })
        });
        let slots: Vec<u32> = slots.collect();
        let shape = (chunks.len(), 1, 1, tokens, positions);
        let masks = windows.iter().map(|window| {
            let mut mask = Vec::with_capacity(chunks.len() * tokens * positions);
            for end in chunks
                .iter()
                .flat_map(|(_, chunk)| chunk.start + 1..=chunk.end())
            {
                let first = window.map_or(0, |window| end.saturating_sub(window));
                let seen = |position| match (first..end).contains(&position) {
                    true => 0.0f32,
                    false => f32::NEG_INFINITY,
                };
                mask.extend((0..positions).map(seen));
            }
            Ok((*window, Tensor::from_vec(mask, shape, device)?))
        });
        Ok(Group {
            sequences: chunks.len(),
            tokens,
            positions,
            rows: Tensor::new(rows, device)?,
            slots: Tensor::new(slots, device)?,
            masks: masks.collect::<Result<_>>()?,
        })
    }

    /// `[sequences * tokens, heads * head_dim]` for queries `[rows, heads, head_dim]`.
    fn attend(
        &self,
        heads: Heads,
        window: Option<usize>,
        queries: &Tensor,
        kv: &LayerKv,
    ) -> Result<Tensor> {
        let (sequences, tokens, positions) = (self.sequences, self.tokens, self.positions);
        let (kv_heads, dim) = (heads.kv_heads, heads.head_dim);
        // Heads that share keys lie one behind the other, so that they are more rows of one product.
        let sharing = heads.heads / kv_heads;
        let rows = sharing * tokens;
        let query = queries
            .index_select(&self.rows, 0)?
            .reshape((sequences, tokens, kv_heads, sharing, dim))?
            .permute((0, 2, 3, 1, 4))?
            .contiguous()?
            .reshape((sequences, kv_heads, rows, dim))?;
        let keys = kv.at(&kv.keys, self, heads)?;
        let scores = (query.matmul(&keys.t()?.contiguous()?)? * heads.scale)?;
        let mask = self.masks.iter().find(|(of, _)| *of == window);
        let (_, mask) = mask.expect("there is a mask for every window of the model");
        let scores = scores
            .reshape((sequences, kv_heads, sharing, tokens, positions))?
            .broadcast_add(mask)?;
        let weights = candle_nn::ops::softmax_last_dim(&scores)?;
        let weights = weights.reshape((sequences, kv_heads, rows, positions))?;
        let values = kv.at(&kv.values, self, heads)?;
        weights
            .matmul(&values)?
            .reshape((sequences, kv_heads, sharing, tokens, dim))?
            .permute((0, 3, 1, 2, 4))?
            .contiguous()?
            .reshape((sequences * tokens, heads.heads * dim))
    }
}

/// What all rows of a step see: `[rows, heads * head_dim]` for queries `[rows, heads, head_dim]`.
pub fn attend(
    heads: Heads,
    window: Option<usize>,
    groups: &Groups,
    queries: &Tensor,
    kv: &LayerKv,
) -> Result<Tensor> {
    let parts = groups.groups.iter();
    let parts: Vec<Tensor> = parts
        .map(|group| group.attend(heads, window, queries, kv))
        .collect::<Result<_>>()?;
    Tensor::cat(&parts, 0)?.index_select(&groups.back, 0)
}
