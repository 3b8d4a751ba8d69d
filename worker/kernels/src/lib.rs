//! The arithmetic of numerics v1: every loop that decides a byte, written once over 16 virtual lanes.
//!
//! An operation is a value that implements [`Op`]; [`Kernel::run`] compiles it once for each instruction set
//! and picks the right one at run time. All instruction sets perform the same IEEE-754 operations in the same
//! order, so their results are equal bit for bit: the scalar twin ([`scalar::Scalar`]) is the definition, the
//! others are held against it by property tests.

#![expect(
    unsafe_code,
    reason = "instructions of one CPU, and buffers that threads fill side by side, are what this crate is for"
)]
#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers index several arrays of constant length; iterator chains are not unrolled as surely"
)]

pub mod activations;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod block_type;
pub mod elementwise;
pub mod kv;
pub mod math;
pub mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod pack;
pub mod pool;
mod scalar;
pub mod shared;
mod simd;
pub mod vocab;

pub use simd::{LANES, Simd};

use std::fmt;
use std::str::FromStr;

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Plain Rust: the definition of the results, slow.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX2 with the 256-bit VNNI dot product.
    AvxVnni,
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// NEON, which every 64-bit ARM has.
    Neon,
    /// NEON with the dot product of 8-bit integers.
    NeonDotprod,
}

/// An operation that can be compiled for any instruction set.
pub trait Op {
    /// What the operation returns.
    type Out;
    /// Runs the operation on instruction set `S`.
    ///
    /// Implementations, and every function between them and the methods of [`Simd`], are `#[inline(always)]` and do not
    /// put lanes through closures: only code that ends up inside the entry of its instruction set is compiled for it.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

impl Kernel {
    /// Every kernel that this CPU can run, the fastest first.
    #[inline]
    pub fn available() -> &'static [Kernel] {
        static AVAILABLE: std::sync::OnceLock<Vec<Kernel>> = std::sync::OnceLock::new();
        AVAILABLE.get_or_init(Kernel::probe)
    }

    fn probe() -> Vec<Kernel> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                found.push(Kernel::Avx512Vnni);
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                found.push(Kernel::AvxVnni);
            }
            if avx2 {
                found.push(Kernel::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            let neon = std::arch::is_aarch64_feature_detected!("neon");
            if neon && std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Kernel::NeonDotprod);
            }
            if neon {
                found.push(Kernel::Neon);
            }
        }
        found.push(Kernel::Scalar);
        found
    }

    /// The fastest kernel of this CPU.
    #[inline]
    pub fn detect() -> Kernel {
        Kernel::available()[0]
    }

    /// Runs `op` on this instruction set.
    ///
    /// Panics if the CPU lacks it, which [`Kernel::available`] tells beforehand.
    #[inline]
    pub fn run<O: Op>(self, op: O) -> O::Out {
        match self {
            Kernel::Scalar => op.run(scalar::Scalar::new()),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => avx2::run_avx2(op),
            #[cfg(target_arch = "x86_64")]
            Kernel::AvxVnni => avx2::run_avx_vnni(op),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => avx512::run(op),
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => neon::run_neon(op),
            #[cfg(target_arch = "aarch64")]
            Kernel::NeonDotprod => neon::run_neon_dotprod(op),
            other => other.is_of_another_processor(),
        }
    }

    #[cold]
    fn is_of_another_processor(self) -> ! {
        panic!("this kind of processor has no {self}")
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::Scalar => "scalar",
            Kernel::Avx2 => "avx2",
            Kernel::AvxVnni => "avx-vnni",
            Kernel::Avx512Vnni => "avx512-vnni",
            Kernel::Neon => "neon",
            Kernel::NeonDotprod => "neon-dotprod",
        })
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Kernel, String> {
        let known = [
            Kernel::Scalar,
            Kernel::Avx2,
            Kernel::AvxVnni,
            Kernel::Avx512Vnni,
            Kernel::Neon,
            Kernel::NeonDotprod,
        ];
        let kernel = known
            .into_iter()
            .find(|kernel| kernel.to_string() == name)
            .ok_or_else(|| {
                let names = known.map(|kernel| kernel.to_string()).join(", ");
                format!("unknown kernel `{name}`: there are {names}")
            })?;
        if Kernel::available().contains(&kernel) {
            Ok(kernel)
        } else {
            Err(format!("this CPU cannot run the kernel `{name}`"))
        }
    }
}

#[cfg(test)]
mod tests;
