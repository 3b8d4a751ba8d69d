//! The keys and values of a layer as they are stored, by blocks.
//!
//! Keys lie transposed in a block, so that attention has a position in each lane.

use super::pool::Pool;
use super::shared::{RowsMut, SharedSlice};
use super::simd::{LANES, Simd};
use super::{Kernel, Op};

/// Positions that one KV block holds, for every layer.
pub const BLOCK_TOKENS: usize = 32;

/// Number of one KV block, from 0 to below the blocks that a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// A stored key or value element.
pub trait KvElement: Copy + Send + Sync + Default {
    fn load<S: Simd>(s: S, x: &[Self; LANES]) -> S::F;
    /// Rounds 16 values to what is stored.
    fn store<S: Simd>(s: S, x: S::F) -> [Self; LANES];
}

impl KvElement for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[u16; LANES]) -> S::F {
        s.from_f16(x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F) -> [u16; LANES] {
        s.to_f16(x)
    }
}

impl KvElement for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f32; LANES]) -> S::F {
        s.from_array(*x)
    }
    #[inline(always)]
    fn store<S: Simd>(s: S, x: S::F) -> [f32; LANES] {
        s.to_array(x)
    }
}

/// Sizes of a layer's keys and values.
#[derive(Clone, Copy, Debug)]
pub struct KvShape {
    pub kv_heads: usize,
    /// Dimensions of a key; a multiple of nothing.
    pub head_dim: usize,
}

impl KvShape {
    /// Elements of a block's keys (and of its values), padded so that value rows are whole vectors.
    pub fn block_len(self) -> usize {
        self.kv_heads * self.head_len()
    }

    pub(super) fn head_len(self) -> usize {
        BLOCK_TOKENS * self.value_len()
    }

    /// Elements of a value row: the head's dimensions, padded to whole vectors.
    pub(super) fn value_len(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }
}

/// One layer's stored keys and values, by block.
pub struct KvLayer<T> {
    pub(super) shape: KvShape,
    /// By block, head, dimension, position.
    pub(super) keys: Vec<T>,
    /// By block, head, position, dimension.
    pub(super) values: Vec<T>,
}

impl<T: KvElement> KvLayer<T> {
    /// Room for `blocks` blocks.
    pub fn new(shape: KvShape, blocks: usize) -> KvLayer<T> {
        let len = blocks * shape.block_len();
        KvLayer {
            shape,
            keys: vec![T::default(); len],
            values: vec![T::default(); len],
        }
    }

    /// Where a head's keys (and its values) of a block begin.
    #[inline(always)]
    pub(super) fn head_at(&self, block: BlockId, head: usize) -> usize {
        block.0 as usize * self.shape.block_len() + head * self.shape.head_len()
    }

    /// Lets `prepare` finish every row of a step on all threads, and stores the row's keys and values at its place.
    /// A row holds `first` values that are not stored, then the keys, then the values.
    pub fn store_rows(
        &mut self,
        (kernel, pool): (Kernel, &mut Pool),
        places: &KvPlaces,
        (rows, first): (RowsMut<'_, f32>, usize),
        prepare: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let shape = self.shape;
        let keys = SharedSlice::new(&mut self.keys);
        let values = SharedSlice::new(&mut self.values);
        pool.for_rows(places.0.len(), rows, |row, buffer| {
            prepare(row, buffer);
            kernel.run(StoreRow {
                shape,
                place: places.0[row],
                row: &buffer[first..],
                keys: &keys,
                values: &values,
            });
        });
    }
}

/// One row's keys and values on their way to their place, which no other row of the step has.
struct StoreRow<'r, 'a, T> {
    shape: KvShape,
    place: (BlockId, usize),
    /// The keys of all heads, then their values.
    row: &'r [f32],
    keys: &'r SharedSlice<'a, T>,
    values: &'r SharedSlice<'a, T>,
}

impl<T: KvElement> Op for StoreRow<'_, '_, T> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (shape, (block, position)) = (self.shape, self.place);
        let (keys, values) = self.row.split_at(shape.kv_heads * shape.head_dim);
        for head in 0..shape.kv_heads {
            let start = block.0 as usize * shape.block_len() + head * shape.head_len();
            let part = head * shape.head_dim..(head + 1) * shape.head_dim;
            for (vector, x) in keys[part.clone()].chunks(LANES).enumerate() {
                let stored = T::store(s, s.load_partial(x, 0.0));
                for (lane, x) in stored.iter().enumerate().take(x.len()) {
                    let at = start + (vector * LANES + lane) * BLOCK_TOKENS + position;
                    // SAFETY: the element belongs to this (block, position), and places are distinct.
                    unsafe { self.keys.part(at..at + 1)[0] = *x };
                }
            }
            let at = start + position * shape.value_len();
            // SAFETY: as above.
            let out = unsafe { self.values.part(at..at + shape.head_dim) };
            for (out, x) in out.chunks_mut(LANES).zip(values[part].chunks(LANES)) {
                let stored = T::store(s, s.load_partial(x, 0.0));
                out.copy_from_slice(&stored[..out.len()]);
            }
        }
    }
}

/// Where the rows of a step go in the KV memory: distinct places.
pub struct KvPlaces(Vec<(BlockId, usize)>);

impl KvPlaces {
    /// One block and position in it a row; `None` if two rows have the same place or a position is outside a block.
    pub fn new(places: Vec<(BlockId, usize)>) -> Option<KvPlaces> {
        let mut sorted = places.clone();
        sorted.sort_unstable();
        let distinct = sorted.windows(2).all(|pair| pair[0] != pair[1]);
        (distinct && places.iter().all(|(_, position)| *position < BLOCK_TOKENS))
            .then_some(KvPlaces(places))
    }
}
