//! Buffers that several threads fill at once, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose disjoint parts are handed to several threads.
pub struct SharedSlice<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it hands out parts of a `&mut [T]`, which may be sent where T may; that parts do not overlap is the duty of
// the callers of the unsafe methods.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above: sharing it gives access to disjoint parts only.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Takes the slice for as long as parts of it are shared.
    pub fn new(slice: &'a mut [T]) -> SharedSlice<'a, T> {
        SharedSlice {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            life: PhantomData,
        }
    }

    /// Elements of the slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One part of the slice; panics if it is out of bounds.
    ///
    /// # Safety
    /// No two live parts may overlap.
    #[inline(always)]
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "part of a shared slice out of bounds"
        );
        // SAFETY: the range is within the slice, which is borrowed for 'a; the caller keeps parts disjoint.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start)
        }
    }
}

/// A slice seen as rows of equal width, to be filled row by row by several threads.
pub struct RowsMut<'a, T> {
    slice: SharedSlice<'a, T>,
    width: usize,
}

impl<'a, T> RowsMut<'a, T> {
    /// Rows of `width` elements; what is left over at the end belongs to none.
    pub fn new(slice: &'a mut [T], width: usize) -> RowsMut<'a, T> {
        RowsMut {
            slice: SharedSlice::new(slice),
            width,
        }
    }
}

/// One or several buffers of which each unit of work gets its own row.
pub trait RowBuffers: Sync {
    /// The row, or a tuple of rows.
    type Row;

    /// Row `index` of every buffer; panics if it is out of bounds.
    ///
    /// # Safety
    /// No row may be taken twice.
    unsafe fn row(&self, index: usize) -> Self::Row;
}

impl<'a, T: Send> RowBuffers for RowsMut<'a, T> {
    type Row = &'a mut [T];

    #[inline(always)]
    unsafe fn row(&self, index: usize) -> &'a mut [T] {
        // SAFETY: rows of different indices are disjoint; the caller takes each once, for as long as it likes.
        unsafe {
            self.slice
                .part(index * self.width..(index + 1) * self.width)
        }
    }
}

impl<A: RowBuffers, B: RowBuffers> RowBuffers for (A, B) {
    type Row = (A::Row, B::Row);

    #[inline(always)]
    unsafe fn row(&self, index: usize) -> Self::Row {
        // SAFETY: the caller's promise covers both buffers.
        unsafe { (self.0.row(index), self.1.row(index)) }
    }
}
