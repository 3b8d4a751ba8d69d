//! Memory, devices and limits of this machine.

use rbee_worker::kernels::Kernel;
use rbee_worker::model::device::ComputeDevice;
use rbee_worker::model::memory;

use super::finding::Finding;
use crate::byte_size;
use crate::commands::Context;

/// The usual model with its cache.
const LEAST_BUDGET: u64 = 512 << 20;
/// A server with many watchers has many connections.
const LEAST_FILES: u64 = 1_024;
/// Where a GPU shows itself.
const GPUS: [(&str, &str); 2] = [
    ("/dev/nvidia0", "an NVIDIA GPU"),
    ("/dev/kfd", "an AMD GPU"),
];

pub fn look(_: &Context) -> Vec<Finding> {
    vec![memory(), devices(), files()]
}

fn memory() -> Finding {
    let (what, budget) = ("memory", memory::default_budget());
    let found = format!("{} may be used for models", byte_size::show(budget));
    match budget < LEAST_BUDGET {
        true => Finding::warn(
            what,
            found,
            "even the smallest models want more: end other programs, or raise the limit of the control group",
        ),
        false => Finding::ok(what, found),
    }
}

fn devices() -> Finding {
    let what = "devices";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernels = Kernel::available();
    let found = format!("cpu, {cores} cores, kernels {}", kernels[0]);
    let gpu = GPUS
        .iter()
        .find(|(path, _)| std::path::Path::new(path).exists());
    match (kernels.len(), gpu) {
        // Only the plain ones.
        (1, _) => Finding::warn(
            what,
            found,
            "there are fast kernels for x86-64 with AVX2 and for 64-bit ARM, not for this processor: answers come slowly",
        ),
        (_, Some((_, name))) => Finding::ok(what, format!("{found}; {name} is there{}", gpu_use())),
        (_, None) => Finding::ok(what, found),
    }
}

/// What this program does with a GPU.
fn gpu_use() -> String {
    let first = ComputeDevice::Cuda(0);
    match (cfg!(feature = "cuda"), first.budget()) {
        (false, _) => " and not used: this program computes on the processor only".to_owned(),
        (true, Ok(bytes)) => format!(
            ": `--device {first}` computes there, in {}",
            byte_size::show(bytes)
        ),
        (true, Err(problem)) => format!(" and not used: {problem}"),
    }
}

/// Open files that a process may have.
fn files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let number = soft.and_then(|word| word.parse::<u64>().ok());
    match (soft, number) {
        (_, Some(number)) if number < LEAST_FILES => Finding::warn(
            "limits",
            format!("{number} open files"),
            format!("ulimit -n {LEAST_FILES}, or LimitNOFILE= in the unit"),
        ),
        (Some(soft), _) => Finding::ok("limits", format!("{soft} open files")),
        (None, _) => Finding::ok("limits", "not told by this system"),
    }
}
