//! Sixteen virtual lanes: the vocabulary that the kernels are written in.

/// Lanes of a vector: f32 and i32 values.
pub const LANES: usize = 16;

/// One instruction set's 16-lane vectors.
///
/// A value of the implementing type is the proof that the CPU has the instructions: only [`super::Kernel::run`]
/// makes one. Every method is one IEEE-754 operation a lane (or an exact integer one), so that two
/// implementations agree bit for bit, NaN payloads aside.
#[expect(
    clippy::wrong_self_convention,
    reason = "`self` is the proof that the instructions exist, not the value that is converted"
)]
pub trait Simd: Copy + Send + Sync {
    /// Rows of a matrix product whose sums are kept in registers together: 1, 2, 4, 6 or 8.
    const ROWS: usize;
    /// Tile columns likewise: 1 or 2.
    const COLUMNS: usize;
    /// 16 f32 values.
    type F: Copy;
    /// 16 i32 values.
    type I: Copy;
    /// 64 unsigned bytes: for each of 16 columns, 4 consecutive ones.
    type B: Copy;

    fn splat(self, x: f32) -> Self::F;
    fn from_array(self, x: [f32; LANES]) -> Self::F;
    fn to_array(self, x: Self::F) -> [f32; LANES];
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b` a lane; where either is NaN, `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? x : y` a lane; `y` where either is NaN.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// For `t = n + 1.5 * 2^23` with integer `n` in -127..=128, the value 2^n (0 for -127, infinity for 128).
    fn exp2_of_magic(self, t: Self::F) -> Self::F;
    /// 16 f16 values, exactly converted.
    fn from_f16(self, x: &[u16; LANES]) -> Self::F;
    /// Rounds to f16, ties to even.
    fn to_f16(self, x: Self::F) -> [u16; LANES];

    fn isplat(self, x: i32) -> Self::I;
    fn iadd(self, a: Self::I, b: Self::I) -> Self::I;
    fn ifrom_i8(self, x: &[i8; LANES]) -> Self::I;
    fn ifrom_u8(self, x: &[u8; LANES]) -> Self::I;
    /// Nearest f32, ties to even.
    fn to_float(self, x: Self::I) -> Self::F;

    fn bytes(self, x: &[u8; 64]) -> Self::B;
    fn to_bytes(self, x: Self::B) -> [u8; 64];
    /// `x >> by & mask` of every byte; the mask has no bit among the `by` highest, and `by` is below 8.
    fn bits_right(self, x: Self::B, by: i32, mask: u8) -> Self::B;
    /// `x << by & mask` of every byte; the mask has no bit among the `by` lowest, and `by` is below 8.
    fn bits_left(self, x: Self::B, by: i32, mask: u8) -> Self::B;
    /// The bits of both.
    fn either(self, a: Self::B, b: Self::B) -> Self::B;
    /// `acc[c] + Σ_j w[4c + j] * a[j]` for the four signed bytes of `a` (never -128); exact.
    fn dot4(self, acc: Self::I, w: Self::B, a: i32) -> Self::I;
    /// As [`Simd::dot4`], for bytes below 128 only.
    fn dot4_small(self, acc: Self::I, w: Self::B, a: i32) -> Self::I;

    /// The greatest bit pattern of a magnitude among 32 values: magnitudes sort as their bits do, with infinity and NaN
    /// above all.
    #[inline(always)]
    fn greatest_magnitude_bits(self, a: Self::F, b: Self::F) -> u32 {
        let bits = |x: Self::F| {
            let lanes = self.to_array(x).into_iter();
            lanes.fold(0, |most: u32, x| most.max(x.to_bits() & 0x7FFF_FFFF))
        };
        bits(a).max(bits(b))
    }
    /// The lowest byte of every value's bits.
    #[inline(always)]
    fn low_bytes(self, x: Self::F) -> [i8; LANES] {
        self.to_array(x).map(|x| x.to_bits() as i8)
    }
    /// The sum of 16 bytes.
    #[inline(always)]
    fn sum_of_bytes(self, x: [i8; LANES]) -> i32 {
        x.into_iter().map(i32::from).sum()
    }

    /// Says that the value at `index` will be read soon; an index past the end says nothing.
    #[inline(always)]
    fn prefetch<T>(self, _from: &[T], _index: usize) {}

    /// Loads lanes from a slice of exactly 16 values.
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F {
        self.from_array(*x.first_chunk::<LANES>().expect("a full vector"))
    }
    /// Stores lanes to a slice of at least 16 values.
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32]) {
        *out.first_chunk_mut::<LANES>().expect("a full vector") = self.to_array(x);
    }
    /// Loads fewer than 16 values, the other lanes being `fill`.
    #[inline(always)]
    fn load_partial(self, x: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.from_array(lanes)
    }
    /// The sum of the lanes by the fixed tree: halves are added until one lane is left.
    #[inline(always)]
    fn sum_tree(self, x: Self::F) -> f32 {
        let mut lanes = self.to_array(x);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
    /// The greatest lane.
    #[inline(always)]
    fn max_lane(self, x: Self::F) -> f32 {
        self.to_array(x)
            .into_iter()
            .fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}

/// Fetches the line of `from[index]` into the second-level cache, if there is such a value.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn prefetch_line<T>(from: &[T], index: usize) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    if let Some(value) = from.get(index) {
        // SAFETY: the address is one of a live value; every x86-64 CPU has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast()) };
    }
}
