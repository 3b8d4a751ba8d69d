//! The devices that models are computed on: the processor by kernels of our own, a GPU by candle's.
//!
//! A GPU needs a program that was built for it (`--features cuda`, which wants NVIDIA's compiler at build time and its
//! libraries at run time); any other one knows the names and says so.

use std::fmt;
use std::str::FromStr;

use super::memory;

/// Share of a GPU's free memory that models may take: its driver and libraries want some too.
#[cfg(feature = "cuda")]
const GPU_SHARE: f64 = 0.9;

/// Where a model is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDevice {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ComputeDevice::Cpu => f.pad("cpu"),
            ComputeDevice::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(name: &str) -> Result<ComputeDevice, String> {
        if name == "cpu" {
            return Ok(ComputeDevice::Cpu);
        }
        let number = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        let Some(number) = number else {
            return Err(format!("unknown device `{name}`: use cpu or cuda:0"));
        };
        match cfg!(feature = "cuda") {
            true => Ok(ComputeDevice::Cuda(number)),
            false => Err(
                "this rbee computes on the processor only; one for NVIDIA GPUs is built with \
                 `cargo build --release --features cuda`"
                    .to_owned(),
            ),
        }
    }
}

impl ComputeDevice {
    /// What models may take of its memory when nothing else is said, in bytes.
    ///
    /// # Errors
    /// A sentence about a GPU that does not answer.
    pub fn budget(self) -> Result<u64, String> {
        match self {
            ComputeDevice::Cpu => Ok(memory::default_budget()),
            ComputeDevice::Cuda(number) => gpu_budget(number),
        }
    }

    /// Whether its results are the same bytes on every machine of the same numerics.
    pub fn reproducible(self) -> bool {
        self == ComputeDevice::Cpu
    }

    /// The device as candle names it.
    ///
    /// # Errors
    /// A sentence about a GPU that cannot be used.
    pub(super) fn open(self) -> Result<candle_core::Device, String> {
        match self {
            ComputeDevice::Cpu => Ok(candle_core::Device::Cpu),
            ComputeDevice::Cuda(number) => candle_core::Device::new_cuda(number)
                .map_err(|error| format!("{self} cannot be used: {error}")),
        }
    }
}

#[cfg(feature = "cuda")]
fn gpu_budget(number: usize) -> Result<u64, String> {
    let read = || {
        let nvml = nvml_wrapper::Nvml::init()?;
        let index = u32::try_from(number).unwrap_or(u32::MAX);
        nvml.device_by_index(index)?.memory_info()
    };
    let memory =
        read().map_err(|error| format!("the memory of cuda:{number} is not known: {error}"))?;
    Ok((memory.free as f64 * GPU_SHARE) as u64)
}

#[cfg(not(feature = "cuda"))]
fn gpu_budget(number: usize) -> Result<u64, String> {
    Err(format!(
        "cuda:{number} needs a program that was built for it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design_and_a_gpu_needs_its_program() {
        assert_eq!("cpu".parse(), Ok(ComputeDevice::Cpu));
        assert_eq!(ComputeDevice::Cuda(1).to_string(), "cuda:1");
        for unknown in ["gpu", "cuda", "cuda:", "cuda:x", "CPU", ""] {
            let refused = unknown.parse::<ComputeDevice>().unwrap_err();
            assert!(refused.contains("cuda:0"), "{refused}");
        }
        let named = "cuda:1".parse::<ComputeDevice>();
        match cfg!(feature = "cuda") {
            true => assert_eq!(named, Ok(ComputeDevice::Cuda(1))),
            false => assert!(named.unwrap_err().contains("--features cuda")),
        }
    }
}
