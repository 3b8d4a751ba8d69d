//! llama.cpp's programs: where they are found, its server as a child, its own benchmarks.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use super::http::Address;

/// The folder of the programs, if they are not on the PATH.
const FOLDER: &str = "RBEE_LLAMA_DIR";
/// How they are got where no package of the system has them.
const HOW: &str = "put llama.cpp's programs on the PATH, or name their folder in RBEE_LLAMA_DIR. They can be built from a package \
of PyPI:\n  pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36\n  \
tar xf llama_cpp_python-0.3.36.tar.gz\n  cmake -S llama_cpp_python-0.3.36/vendor/llama.cpp -B llama -DCMAKE_BUILD_TYPE=Release \
-DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_USE_PREBUILT_UI=OFF\n  \
cmake --build llama -j --target llama-server llama-bench llama-batched-bench llama-quantize\n  export RBEE_LLAMA_DIR=$PWD/llama/bin";
/// The server has to be up by then.
const START: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Finds a program of llama.cpp.
pub fn program(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let program = Path::new(&folder).join(name);
        if program.is_file() {
            return Ok(program);
        }
        bail!("{} is not there; {HOW}", program.display());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("there is no {name}; {HOW}"))
}

/// How a server is started.
pub struct ServerOptions<'a> {
    pub model: &'a Path,
    pub threads: usize,
    pub slots: usize,
    /// Positions of a slot.
    pub context: usize,
}

/// A running server; it ends with this value.
pub struct Server {
    child: Child,
    pub address: Address,
}

impl Server {
    /// Starts it and waits until the model is loaded.
    pub fn start(options: &ServerOptions<'_>) -> Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program("llama-server")?)
            .arg("--model")
            .arg(options.model)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--parallel", &options.slots.to_string()])
            .args(["--ctx-size", &(options.slots * options.context).to_string()])
            .args(["--threads", &options.threads.to_string()])
            .args(["--threads-batch", &options.threads.to_string()])
            .args(["--no-webui", "--jinja"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("llama-server cannot be started")?;
        let mut server = Server {
            child,
            address: Address::parse(&format!("http://127.0.0.1:{port}"))?,
        };
        let started = Instant::now();
        while server.address.ask("/health", None).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("llama-server ended with {status} before it answered");
            }
            if started.elapsed() > START {
                bail!("llama-server does not answer");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(server)
    }

    /// The most memory that it ever held.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        peak_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory that a process ever held, as the kernel counts it.
pub fn peak_bytes(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.unwrap_or(0) * 1024)
}

/// Prompt tokens/s and decoded tokens/s of one sequence, by llama-bench.
pub fn one_sequence(
    model: &Path,
    threads: usize,
    prompt: usize,
    generate: usize,
) -> Result<[f64; 2]> {
    let mut command = Command::new(program("llama-bench")?);
    command
        .arg("-m")
        .arg(model)
        .args(["-o", "json", "-r", "1"])
        .args(["-t", &threads.to_string()])
        .args(["-p", &prompt.to_string(), "-n", &generate.to_string()]);
    let found = super::figures_of(&mut command)?;
    let rate = |key: &str| {
        let tests = found.as_array().into_iter().flatten();
        let mut tests = tests.filter(|test| test[key].as_u64().is_some_and(|tokens| tokens > 0));
        tests
            .next()
            .and_then(|test| test["avg_ts"].as_f64())
            .with_context(|| format!("llama-bench says no rate for {key}"))
    };
    Ok([rate("n_prompt")?, rate("n_gen")?])
}

/// Decoded tokens/s over all of `sequences`, by llama-batched-bench.
pub fn many_sequences(
    model: &Path,
    threads: usize,
    (sequences, prompt, generate): (usize, usize, usize),
) -> Result<f64> {
    let mut command = Command::new(program("llama-batched-bench")?);
    command
        .arg("-m")
        .arg(model)
        .args(["-t", &threads.to_string(), "-tb", &threads.to_string()])
        .args(["-c", &(sequences * (prompt + generate)).to_string()])
        .args(["-npp", &prompt.to_string(), "-ntg", &generate.to_string()])
        .args(["-npl", &sequences.to_string(), "--output-format", "jsonl"]);
    let output = command
        .output()
        .context("llama-batched-bench cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Json>(line).ok());
    lines
        .find_map(|line| line["speed_tg"].as_f64())
        .context("llama-batched-bench says no rate")
}
