//! `rbee serve` as a whole installation on one machine, which a test disturbs, and what must hold once all has ended.

use rbee_test_services::process::free_port;
use serde_json::Value as Json;

use crate::cluster::PATIENCE;
use crate::fleet::{is_temporary, processes_in};
use crate::process::{Home, Rbee, Running};
use crate::wait;
use crate::workload::Workload;

/// An installation on one machine.
pub struct Alone {
    pub home: Home,
    address: String,
    pub serve: Option<Running>,
    /// Time a token of the stub engine takes.
    pub token_us: u64,
    /// What it finds in its environment.
    pub environment: Vec<(String, String)>,
    /// What ended servers have said.
    pub said: Vec<String>,
}

impl Alone {
    /// One that does not run yet.
    pub fn new(token_us: u64) -> Alone {
        Alone {
            home: Home::new(),
            // The same after each start: clients go on with it.
            address: format!("127.0.0.1:{}", free_port()),
            serve: None,
            token_us,
            environment: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Its command, for whichever program.
    pub fn command(&self) -> Vec<String> {
        let token_us = self.token_us.to_string();
        let fixed = [
            "serve",
            "--engine",
            "stub",
            "--slots",
            "4",
            "--lease-ms",
            "2000",
        ];
        let more = ["--sweep-ms", "300", "--listen", &self.address];
        let last = ["--stub-token-us", &token_us];
        let words = fixed.iter().chain(&more).chain(&last);
        words.map(|word| (*word).to_owned()).collect()
    }

    pub fn start(&mut self) {
        self.begin(self.home.rbee(self.command()));
    }

    /// Starts this command of it, and waits until it answers.
    pub fn begin(&mut self, serve: Rbee) {
        let environment = self.environment.iter();
        let serve = environment.fold(serve, |serve, (name, value)| serve.env(name, value));
        self.serve = Some(serve.start());
        self.until_up();
    }

    /// Waits until commands are answered.
    pub fn until_up(&self) {
        wait::until("the server", PATIENCE, || {
            let list = self.rbee(&["list", "--json"]).run();
            (list.code == Some(0)).then_some(())
        });
    }

    /// A client's command.
    pub fn rbee(&self, arguments: &[&str]) -> Rbee {
        let url = format!("http://{}", self.address);
        self.home.rbee(arguments).env("RBEE_SERVER", url)
    }

    /// Writes the prompts and submits them; the batch's id.
    pub fn submit(&self, work: &Workload) -> String {
        self.home.write("in.jsonl", &work.prompts);
        let submit = self.rbee(&["submit", "in.jsonl"]).exits(0);
        submit.text().trim().to_owned()
    }

    /// The batch as the server shows it; nothing while it is down.
    pub fn status(&self, id: &str) -> Option<Json> {
        let ended = self.rbee(&["status", id, "--json"]).run();
        (ended.code == Some(0)).then(|| ended.json())
    }

    pub fn finished(&self, id: &str) -> u64 {
        let status = self.status(id).unwrap_or_default();
        status["request_counts"]["completed"].as_u64().unwrap_or(0)
    }

    pub fn until_finished(&self, id: &str, jobs: u64) {
        wait::until(&format!("{jobs} finished jobs"), PATIENCE, || {
            (self.finished(id) >= jobs).then_some(())
        });
    }

    pub fn serve(&self) -> &Running {
        self.serve.as_ref().expect("it runs")
    }

    /// `kill -9` of all of it.
    pub fn kill(&mut self) {
        let ended = self.serve.take().expect("it runs").kill();
        self.said.push(ended.stderr);
    }

    /// Waits for the end of the batch, holds what must be true, ends the server, and looks for what it left.
    pub fn finish(self, id: &str, work: &Workload) {
        wait::until("the end of the batch", PATIENCE, || {
            let status = self.status(id)?;
            (status["status"] == "completed").then_some(())
        });
        let counts = self.status(id).expect("it is up")["request_counts"].clone();
        assert_eq!(counts["completed"], work.jobs, "{counts}");
        assert_eq!(counts["failed"], 0, "{counts}");
        self.rbee(&["export", id, "-o", "out.jsonl"]).exits(0);
        work.check(&self.home.read("out.jsonl"));
        self.stop();
    }

    /// Ends the server, and looks for what it left.
    pub fn stop(mut self) {
        let serve = self.serve.take().expect("it runs");
        serve.terminate();
        let ended = serve.wait();
        assert_eq!(ended.code, Some(0), "{ended}");
        self.said.push(ended.stderr);
        for said in &self.said {
            assert!(!said.contains("panicked"), "{said}");
        }
        let left = processes_in(&self.home.path(""));
        assert!(left.is_empty(), "processes are left: {left:?}");
        let files = self.home.files();
        let left: Vec<_> = files.iter().filter(|path| is_temporary(path)).collect();
        assert!(left.is_empty(), "temporary files are left: {left:?}");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(serve) = self.serve.take() {
            println!("{}\n{}", self.said.join("\n---\n"), serve.stderr());
        }
    }
}
