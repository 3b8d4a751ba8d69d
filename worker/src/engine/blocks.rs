//! The KV block allocator: which blocks are free, and how many sequences hold each of the others.
//!
//! It knows numbers only; what a block holds is the model's business.

use super::step::BlockId;

/// Hands out KV blocks and counts the holders of each, so that sequences may share one.
#[derive(Debug, Clone)]
pub struct BlockPool {
    /// Free blocks, taken from the end.
    free: Vec<BlockId>,
    /// Holders of each block; 0 is free.
    holders: Vec<u32>,
}

impl BlockPool {
    /// A pool of `blocks` free blocks.
    pub fn new(blocks: usize) -> BlockPool {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        BlockPool {
            free: (0..blocks).rev().map(BlockId).collect(),
            holders: vec![0; blocks as usize],
        }
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks that somebody holds.
    pub fn used(&self) -> usize {
        self.total() - self.free()
    }

    /// Takes one block, or `None` if all are held.
    pub fn take(&mut self) -> Option<BlockId> {
        let block = self.free.pop()?;
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

    /// Adds a holder to a block that is held already.
    pub fn share(&mut self, block: BlockId) {
        let holders = &mut self.holders[block.0 as usize];
        assert!(*holders > 0, "a free block cannot be shared: {block:?}");
        *holders += 1;
    }

    /// Whether more than one sequence holds the block, so that it must be copied before it is written.
    pub fn is_shared(&self, block: BlockId) -> bool {
        self.holders[block.0 as usize] > 1
    }

    /// Takes a holder away; the last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let holders = &mut self.holders[block.0 as usize];
        assert!(*holders > 0, "a block was released twice: {block:?}");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(block);
        }
    }

    /// Releases all of `blocks` and empties it.
    pub fn release_all(&mut self, blocks: &mut Vec<BlockId>) {
        for block in blocks.drain(..).rev() {
            self.release(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_block_is_free_after_its_last_holder() {
        let mut pool = BlockPool::new(2);
        let block = pool.take().unwrap();
        pool.share(block);
        assert!(pool.is_shared(block));
        pool.release(block);
        assert!(!pool.is_shared(block));
        assert_eq!(pool.free(), 1);
        pool.release(block);
        assert_eq!(pool.free(), 2);
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
