//! The KV block allocator: which blocks are free, how many sequences hold each of the others, and which hold a prompt's
//! beginning that another sequence may have too.
//!
//! It knows numbers and names only; what a block holds is the model's business. A named block is whole and never written
//! again, so holders need no copy of their own. When its last holder lets it go it is kept for later sequences, until
//! its room is needed: the one that was let go longest ago goes first.

use super::prefix::PrefixKey;
use super::step::BlockId;
use std::collections::{BTreeMap, HashMap};

/// At most one in so many blocks is kept though nobody holds it: what is free is written again while it is warm.
const KEPT_PART: usize = 2;

/// Hands out KV blocks and counts the holders of each, so that sequences may share one.
#[derive(Debug, Clone)]
pub struct BlockPool {
    /// Free blocks that hold nothing, taken from the end.
    free: Vec<BlockId>,
    /// Holders of each block; 0 is free or kept.
    holders: Vec<u32>,
    /// The name of each block that has one.
    names: Vec<Option<PrefixKey>>,
    named: HashMap<PrefixKey, BlockId>,
    /// Named blocks that nobody holds, by when they were let go.
    kept: BTreeMap<u64, BlockId>,
    /// When each block was let go last.
    let_go_at: Vec<u64>,
    /// Counts the times that a block was let go.
    clock: u64,
}

impl BlockPool {
    /// A pool of `blocks` free blocks.
    pub fn new(blocks: usize) -> BlockPool {
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        let blocks = count as usize;
        BlockPool {
            free: (0..count).rev().map(BlockId).collect(),
            holders: vec![0; blocks],
            names: vec![None; blocks],
            named: HashMap::new(),
            kept: BTreeMap::new(),
            let_go_at: vec![0; blocks],
            clock: 0,
        }
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that nobody holds, kept ones included: all of them can be taken.
    pub fn free(&self) -> usize {
        self.free.len() + self.kept.len()
    }

    /// Blocks that somebody holds.
    pub fn used(&self) -> usize {
        self.total() - self.free()
    }

    /// Takes one block, or `None` if all are held. What it holds is nobody's any more.
    pub fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop().or_else(|| self.drop_oldest())?;
        self.holders[block.0 as usize] = 1;
        Some(block)
    }

    /// Adds `count` blocks to `blocks`, or none at all if fewer are free. True if they were added.
    pub fn take_many(&mut self, count: usize, blocks: &mut Vec<BlockId>) -> bool {
        if count > self.free() {
            return false;
        }
        blocks.extend((0..count).map(|_| self.take().expect("enough blocks are free")));
        true
    }

    /// Names a block that is held and wholly computed, so that others find it. Where another block has the name
    /// already nothing changes.
    pub fn name(&mut self, block: BlockId, key: PrefixKey) {
        let place = block.0 as usize;
        assert!(
            self.holders[place] > 0,
            "a free block holds nothing: {block:?}"
        );
        if self.names[place].is_none() && !self.named.contains_key(&key) {
            self.names[place] = Some(key);
            self.named.insert(key, block);
        }
    }

    /// Adds a holder to the block of this name, if there is one.
    pub fn share(&mut self, key: &PrefixKey) -> Option<BlockId> {
        let block = *self.named.get(key)?;
        let holders = &mut self.holders[block.0 as usize];
        if *holders == 0 {
            self.kept.remove(&self.let_go_at[block.0 as usize]);
        }
        *holders += 1;
        Some(block)
    }

    /// Takes a block's name away: nobody else will find it.
    pub fn forget(&mut self, block: BlockId) {
        if let Some(key) = self.names[block.0 as usize].take() {
            self.named.remove(&key);
        }
    }

    /// Takes a holder away. Without one a block is free, or kept if it has a name.
    pub fn release(&mut self, block: BlockId) {
        let place = block.0 as usize;
        assert!(
            self.holders[place] > 0,
            "a block was released twice: {block:?}"
        );
        self.holders[place] -= 1;
        if self.holders[place] > 0 {
            return;
        }
        if self.names[place].is_none() {
            self.free.push(block);
            return;
        }
        self.clock += 1;
        self.let_go_at[place] = self.clock;
        self.kept.insert(self.clock, block);
        if self.kept.len() > self.total() / KEPT_PART {
            let oldest = self.drop_oldest();
            self.free.extend(oldest);
        }
    }

    /// Releases all of `blocks` and empties it. The last go first, so that beginnings are kept longest.
    pub fn release_all(&mut self, blocks: &mut Vec<BlockId>) {
        for block in blocks.drain(..).rev() {
            self.release(block);
        }
    }

    fn drop_oldest(&mut self) -> Option<BlockId> {
        let (_, block) = self.kept.pop_first()?;
        self.forget(block);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::super::prefix::prefix_keys;
    use super::super::step::BLOCK_TOKENS;
    use super::*;

    fn key(of: u32) -> PrefixKey {
        prefix_keys(&[of; BLOCK_TOKENS])[0]
    }

    #[test]
    fn shared_block_is_kept_after_its_last_holder_and_found_again() {
        let mut pool = BlockPool::new(4);
        let block = pool.take().unwrap();
        assert_eq!(pool.share(&key(1)), None);
        pool.name(block, key(1));
        assert_eq!(pool.share(&key(1)), Some(block));
        pool.release(block);
        assert_eq!(pool.used(), 1);
        pool.release(block);
        assert_eq!((pool.used(), pool.free()), (0, 4));
        assert_eq!(pool.share(&key(1)), Some(block));
        assert_eq!(pool.used(), 1);
    }

    #[test]
    fn kept_blocks_make_room_from_the_one_let_go_longest_ago() {
        let mut pool = BlockPool::new(4);
        let mut blocks = Vec::new();
        pool.take_many(4, &mut blocks);
        for (number, block) in (0..).zip(&blocks[..3]) {
            pool.name(*block, key(number));
        }
        // The third goes first, and is the one for which there is no more room.
        pool.release_all(&mut blocks);
        assert_eq!(pool.free(), 4);
        assert_eq!(pool.share(&key(2)), None);
        for _ in 0..3 {
            pool.take().unwrap();
        }
        assert_eq!(pool.share(&key(1)), None);
        assert!(pool.share(&key(0)).is_some());
        assert_eq!((pool.free(), pool.take()), (0, None));
    }

    #[test]
    fn forgotten_block_is_found_by_nobody_and_free_at_its_end() {
        let mut pool = BlockPool::new(2);
        let block = pool.take().unwrap();
        pool.name(block, key(1));
        pool.forget(block);
        assert_eq!(pool.share(&key(1)), None);
        pool.release(block);
        assert_eq!((pool.free(), pool.kept.len()), (2, 0));
    }

    #[test]
    fn take_many_takes_all_or_none() {
        let mut pool = BlockPool::new(3);
        let mut blocks = Vec::new();
        assert!(!pool.take_many(4, &mut blocks));
        assert!(blocks.is_empty());
        assert!(pool.take_many(3, &mut blocks));
        assert_eq!((pool.free(), blocks.len()), (0, 3));
        assert_eq!(pool.take(), None);
        pool.release_all(&mut blocks);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn block_released_twice_is_noticed() {
        let mut pool = BlockPool::new(1);
        let block = pool.take().unwrap();
        pool.release(block);
        pool.release(block);
    }
}
