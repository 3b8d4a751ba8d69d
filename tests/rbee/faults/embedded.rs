//! The same faults on one machine, where `rbee serve` is the whole installation.

use std::io::Write;
use std::time::{Duration, Instant};

use rbee_test_services::process::free_port;
use rbee_tests::cluster::PATIENCE;
use rbee_tests::fleet::{is_temporary, processes_in};
use rbee_tests::process::{Home, Rbee, Running, binary_with_failpoints, signal};
use rbee_tests::random::Random;
use rbee_tests::small_disk::SmallDisk;
use rbee_tests::wait;
use rbee_tests::workload::{Workload, seed, size};
use serde_json::Value as Json;

/// An installation on one machine.
struct Alone {
    home: Home,
    address: String,
    serve: Option<Running>,
    token_us: u64,
    said: Vec<String>,
}

impl Alone {
    fn new(token_us: u64) -> Alone {
        Alone {
            home: Home::new(),
            // The same after each start: clients go on with it.
            address: format!("127.0.0.1:{}", free_port()),
            serve: None,
            token_us,
            said: Vec::new(),
        }
    }

    fn command(&self) -> Vec<String> {
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

    fn start(&mut self) {
        self.begin(self.home.rbee(self.command()));
    }

    fn begin(&mut self, serve: Rbee) {
        self.serve = Some(serve.start());
        self.until_up();
    }

    /// Waits until commands are answered.
    fn until_up(&self) {
        wait::until("the server", PATIENCE, || {
            let list = self.rbee(&["list", "--json"]).run();
            (list.code == Some(0)).then_some(())
        });
    }

    fn rbee(&self, arguments: &[&str]) -> Rbee {
        let url = format!("http://{}", self.address);
        self.home.rbee(arguments).env("RBEE_SERVER", url)
    }

    fn submit(&self, work: &Workload) -> String {
        self.home.write("in.jsonl", &work.prompts);
        let submit = self.rbee(&["submit", "in.jsonl"]).exits(0);
        submit.text().trim().to_owned()
    }

    /// The batch as the server shows it; nothing while it is down.
    fn status(&self, id: &str) -> Option<Json> {
        let ended = self.rbee(&["status", id, "--json"]).run();
        (ended.code == Some(0)).then(|| ended.json())
    }

    fn finished(&self, id: &str) -> u64 {
        let status = self.status(id).unwrap_or_default();
        status["request_counts"]["completed"].as_u64().unwrap_or(0)
    }

    fn until_finished(&self, id: &str, jobs: u64) {
        wait::until(&format!("{jobs} finished jobs"), PATIENCE, || {
            (self.finished(id) >= jobs).then_some(())
        });
    }

    fn serve(&self) -> &Running {
        self.serve.as_ref().expect("it runs")
    }

    /// `kill -9` of all of it.
    fn kill(&mut self) {
        let ended = self.serve.take().expect("it runs").kill();
        self.said.push(ended.stderr);
    }

    /// Waits for the end of the batch, holds what must be true, ends the server, and looks for what it left.
    fn finish(mut self, id: &str, work: &Workload) {
        wait::until("the end of the batch", PATIENCE, || {
            let status = self.status(id)?;
            (status["status"] == "completed").then_some(())
        });
        let counts = self.status(id).expect("it is up")["request_counts"].clone();
        assert_eq!(counts["completed"], work.jobs, "{counts}");
        assert_eq!(counts["failed"], 0, "{counts}");
        self.rbee(&["export", id, "-o", "out.jsonl"]).exits(0);
        work.check(&self.home.read("out.jsonl"));
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
            serve.abandon();
        }
    }
}

#[test]
fn faults_server_alone_killed_at_random_costs_no_job() {
    let mut random = Random::named(seed("embedded kills"), "embedded kills");
    let work = Workload::stub(size(2000, 200));
    let mut alone = Alone::new(size(20_000, 12_000));
    alone.start();
    let id = alone.submit(&work);
    for kill in 0..size(20, 4) {
        let more = 1 + random.below(20) as u64;
        alone.until_finished(&id, (alone.finished(&id) + more).min(work.jobs));
        match kill % 3 {
            // Its parent starts it again.
            0 => {
                let children = alone.serve().children();
                children.into_iter().for_each(|child| signal("KILL", child));
            }
            1 => {
                alone.kill();
                alone.start();
            }
            // What it started must notice, and give the port and the store back.
            _ => {
                let ended = alone.serve.take().expect("it runs").kill_parent();
                alone.said.push(ended.stderr);
                alone.start();
            }
        }
        alone.until_up();
    }
    alone.finish(&id, &work);
}

#[test]
fn faults_server_alone_killed_at_any_moment_costs_no_result() {
    let work = Workload::stub(size(2000, 60));
    let moments = [
        "sealed",
        "placed",
        "pushed",
        "claimed",
        "first-token",
        "writing",
        "written",
        "forgotten",
    ];
    for moment in moments {
        let mut alone = Alone::new(2000);
        let spent = alone.home.path("spent");
        let serve = alone
            .home
            .command(&binary_with_failpoints(), alone.command());
        let value = format!("{moment}:1:KILL:{}", spent.display());
        alone.begin(serve.env("RBEE_FAILPOINT", value));
        alone.home.write("in.jsonl", &work.prompts);
        // The server may die in the middle of it; the same submit again finds the batch or makes it.
        let id = wait::until("the submit", PATIENCE, || {
            let submit = alone.rbee(&["submit", "in.jsonl"]).run();
            (submit.code == Some(0)).then(|| submit.text().trim().to_owned())
        });
        wait::until(moment, PATIENCE, || spent.exists().then_some(()));
        alone.until_up();
        std::fs::remove_file(&spent).unwrap();
        // The next start of the parent's would die of the same: what ends here is started anew.
        alone.kill();
        alone.start();
        alone.finish(&id, &work);
    }
}

#[test]
fn faults_server_alone_told_to_stop_gives_back_what_runs_and_goes_on_later() {
    let work = Workload::stub(200);
    let mut alone = Alone::new(10_000);
    alone.start();
    let id = alone.submit(&work);
    alone.until_finished(&id, 10);
    let begun = Instant::now();
    let serve = alone.serve.take().expect("it runs");
    serve.terminate();
    let ended = serve.wait();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    alone.said.push(ended.stderr);
    alone.token_us = 0;
    alone.start();
    alone.finish(&id, &work);
}

#[test]
fn faults_second_signal_ends_the_server_alone_at_once() {
    let work = Workload::stub(60);
    let mut alone = Alone::new(2_000_000);
    alone.start();
    let id = alone.submit(&work);
    wait::until("jobs to run", PATIENCE, || {
        let nodes = alone.rbee(&["nodes", "--json"]).exits(0);
        (!nodes.text().is_empty()).then_some(())
    });
    let serve = alone.serve.take().expect("it runs");
    serve.terminate();
    wait::until("the server to have heard", PATIENCE, || {
        serve.stderr().contains("stopping").then_some(())
    });
    let begun = Instant::now();
    serve.terminate();
    let ended = serve.wait();
    assert!(begun.elapsed() < Duration::from_secs(2), "{ended}");
    alone.said.push(ended.stderr);
    alone.token_us = 0;
    alone.start();
    alone.finish(&id, &work);
}

#[test]
fn faults_full_disk_under_sqlite_pauses_the_batch_until_there_is_room() {
    let work = Workload::stub(size(2000, 200));
    let mut alone = Alone::new(5_000);
    let data = alone.home.path(".local/share/rbee");
    let Some(_disk) = SmallDisk::mount(&data, "24m") else {
        // The same with a limit on the length of files is tried with `rbee run`.
        println!("mounting is refused here: a full disk under a server was not tried");
        return;
    };
    alone.start();
    let id = alone.submit(&work);
    alone.until_finished(&id, 5);
    let junk = data.join("junk");
    let mut filler = std::fs::File::create(&junk).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    wait::until("the server to name it", PATIENCE, || {
        alone.serve().stderr().contains("is full").then_some(())
    });
    let stopped_at = alone.finished(&id);
    std::fs::remove_file(&junk).unwrap();
    drop(filler);
    assert!(stopped_at < work.jobs);
    alone.finish(&id, &work);
}
