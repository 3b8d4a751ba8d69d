//! `rbee install`, its services, the manual and the completions.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rbee_tests::cluster::PATIENCE;
use rbee_tests::process::{self, Home};
use rbee_tests::wait;
use serde_json::Value as Json;

const BINARY: &str = ".local/bin/rbee";
const CONFIG: &str = ".config/rbee/config.toml";

#[test]
fn install_for_a_user_puts_everything_in_its_place_and_takes_it_away_again() {
    let home = Home::new();
    home.rbee(["install", "--user"])
        .exits(0)
        .says("is not on path");
    for file in [
        BINARY,
        CONFIG,
        ".config/systemd/user/rbee-serve.service",
        ".config/systemd/user/rbee-worker.service",
        ".local/share/bash-completion/completions/rbee",
        ".local/share/zsh/site-functions/_rbee",
        ".local/share/fish/vendor_completions.d/rbee.fish",
        ".local/share/man/man1/rbee.1",
        ".local/share/man/man1/rbee-models-pull.1",
    ] {
        assert!(home.path(file).is_file(), "{file}: {:?}", home.files());
    }
    let unit = home.read(".config/systemd/user/rbee-worker.service");
    let start = format!("ExecStart={} worker\n", home.path(BINARY).display());
    assert!(unit.contains(&start) && !unit.contains("User="), "{unit}");
    let installed = |words: &[&str]| home.command(&home.path(BINARY), words);
    installed(&["config", "check", CONFIG]).exits(0);

    // The same again changes nothing, by the installed program as well.
    let again = installed(&["install", "--user", "--json"]).exits(0);
    let done: Json = serde_json::from_str(again.text()).unwrap();
    assert_eq!(
        (&done["changed"], &done["config"]),
        (&0.into(), &"same".into()),
        "{again}"
    );
    let edited = home.read(CONFIG) + "# mine\n";
    home.write(CONFIG, &edited);
    home.rbee(["install", "--user"]).exits(0).says("kept");
    assert_eq!(home.read(CONFIG), edited);

    home.rbee(["install", "--user", "--uninstall"])
        .exits(0)
        .says("stays");
    assert_eq!(home.files(), [CONFIG]);
    home.rbee(["install", "--user", "--uninstall"]).exits(0);
    std::fs::remove_file(home.path(CONFIG)).unwrap();
    home.rbee(["install", "--user"]).exits(0);
    home.rbee(["install", "--user", "--uninstall"]).exits(0);
    assert_eq!(
        home.files(),
        Vec::<String>::new(),
        "an untouched configuration goes too"
    );
}

#[test]
fn install_into_an_image_writes_below_it_only() {
    let home = Home::new();
    let image = home.path("image").display().to_string();
    let install = ["install", "--system", "--prefix", "/usr", "--root", &image];
    home.rbee(install).exits(0);
    for file in [
        "image/usr/bin/rbee",
        "image/usr/lib/systemd/system/rbee-serve.service",
        "image/usr/lib/sysusers.d/rbee.conf",
        "image/usr/share/man/man1/rbee.1",
        "image/etc/rbee/config.toml",
    ] {
        assert!(home.path(file).is_file(), "{file}: {:?}", home.files());
    }
    assert!(
        home.files().iter().all(|name| name.starts_with("image/")),
        "{:?}",
        home.files()
    );
    let unit = home.read("image/usr/lib/systemd/system/rbee-serve.service");
    assert!(unit.contains("ExecStart=/usr/bin/rbee serve\n"), "{unit}");
    home.rbee(install.iter().chain(&["--enable", "serve"]))
        .exits(2);
    home.rbee(install.iter().chain(&["--uninstall"])).exits(0);
    assert_eq!(home.files(), Vec::<String>::new());
}

/// Has systemd judge units; what it says of them. `None`: it is not on this machine.
fn judged(home: &Home, whose: &str, folder: &str) -> Option<String> {
    let units = ["rbee-serve.service", "rbee-worker.service"];
    let judging = Command::new("systemd-analyze")
        .args([whose, "--man=no", "verify"])
        .args(units.map(|unit| home.path(folder).join(unit)))
        .env("XDG_RUNTIME_DIR", home.path("."))
        .output();
    let Ok(judged) = judging else {
        eprintln!("systemd-analyze is not here: the units were not judged");
        return None;
    };
    let said = [judged.stdout, judged.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Some(format!("{said}{}", judged.status))
}

#[test]
fn install_writes_units_that_systemd_has_nothing_against() {
    let home = Home::new();
    home.rbee(["install", "--user"]).exits(0);
    if let Some(said) = judged(&home, "--user", ".config/systemd/user") {
        assert_eq!(said, "exit status: 0");
    }
    // The program is where the units say, and the units lie in an image of the machine.
    let (prefix, image) = (home.path("usr"), home.path("image"));
    std::fs::create_dir_all(prefix.join("bin")).unwrap();
    std::os::unix::fs::symlink(process::binary(), prefix.join("bin/rbee")).unwrap();
    let [prefix, image] = [prefix, image].map(|path| path.display().to_string());
    home.rbee(["install", "--system", "--prefix", &prefix, "--root", &image])
        .exits(0);
    let Some(said) = judged(&home, "--system", "image/etc/systemd/system") else {
        return;
    };
    assert_eq!(said, "exit status: 0");
    // It would say so, if there were something.
    let unit = "image/etc/systemd/system/rbee-worker.service";
    let odd = home.read(unit).replace("KillMode=", "KillMod=");
    home.write(unit, odd);
    let said = judged(&home, "--system", "image/etc/systemd/system").unwrap_or_default();
    assert!(said.contains("KillMod"), "{said}");
}

#[test]
fn install_wants_to_know_for_whom() {
    let home = Home::new();
    home.rbee(["install"]).exits(2).says("<--user|--system>");
    home.rbee(["install", "--user", "--system"]).exits(2);
    // What the help does not show is not suggested either.
    let wrong = home.rbee(["install", "--user", "--setings"]).exits(2);
    assert!(!wrong.stderr.contains("--settings"), "{wrong}");
    home.rbee(["install", "--user", "--uninstal"])
        .exits(2)
        .says("--uninstall");
}

/// What stands before a command that shall run without root's rights.
fn without_rights() -> Vec<String> {
    let uid = std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own));
    let words: &[&str] = match uid {
        Ok(0) => &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
        ],
        _ => &[],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn install_for_the_system_without_rights_writes_nothing() {
    let home = Home::new();
    // Somebody else can get at the program, and at nothing that can be written.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap()
    };
    let program = home.path("rbee");
    std::fs::copy(process::binary(), &program).unwrap();
    std::fs::create_dir(home.path("image")).unwrap();
    open(&home.path("."), 0o755);
    open(&home.path("image"), 0o555);
    let image = home.path("image").display().to_string();
    let install = home.command(&program, ["install", "--system", "--root", &image]);
    let ended = install.behind(&without_rights()).exits(1);
    ended.says("nothing was changed").says("sudo");
    assert_eq!(home.files(), ["rbee"]);
    open(&home.path("image"), 0o755);
}

/// What runs in the background of a home. It ends with this.
struct Background<'a>(&'a Home);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let file = std::fs::read_to_string(self.0.path(".local/state/rbee/serve.pid"));
        let pid = file
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok());
        for pid in pid.map(process::tree).unwrap_or_default() {
            process::signal("KILL", pid);
        }
    }
}

#[test]
fn install_without_systemd_runs_services_in_the_background() {
    let home = Home::new();
    let _background = Background(&home);
    std::fs::create_dir_all(home.path(".config/rbee")).unwrap();
    home.write(
        CONFIG,
        "[serve]\nlisten = \"127.0.0.1:0\"\n[engine]\nengine = \"stub\"\n",
    );
    home.rbee(["install", "--user", "--enable", "serve"])
        .exits(0)
        .says("background");
    let installed = |words: &[&str]| home.command(&home.path(BINARY), words);
    let status = installed(&["service", "status", "serve", "--json"])
        .exits(0)
        .json();
    assert_eq!(
        (&status["running"], &status["runner"]),
        (&true.into(), &"background".into())
    );
    let url = wait::until("the server's address", PATIENCE, || {
        let log = installed(&["service", "log", "serve"]).exits(0);
        let (_, url) = log.text().split_once("listening on ")?;
        Some(url.lines().next()?.to_owned())
    });
    installed(&["nodes"]).env("RBEE_SERVER", &url).exits(0);
    installed(&["service", "start", "serve"]).exits(0);
    // Nothing is changed: the server goes on as the process that it is.
    let pid = home.read(".local/state/rbee/serve.pid");
    home.rbee(["install", "--user", "--enable", "serve"])
        .exits(0);
    assert_eq!(home.read(".local/state/rbee/serve.pid"), pid);
    installed(&["service", "stop", "serve"]).exits(0);
    installed(&["service", "status", "serve"])
        .exits(1)
        .says("does not run");
    installed(&["nodes"]).env("RBEE_SERVER", &url).exits(4);
    installed(&["service", "start", "worker"])
        .exits(1)
        .says("RBEE_DATABASE_URL");
    home.rbee(["install", "--user", "--enable", "serve"])
        .exits(0);
    home.rbee(["install", "--user", "--uninstall"]).exits(0);
    assert!(
        !home.path(".local/state/rbee/serve.pid").exists(),
        "it was stopped"
    );
}

#[test]
fn install_has_a_page_of_the_manual_for_every_command() {
    let home = Home::new();
    let page = home.rbee(["man"]).exits(0);
    assert!(page.text().contains(".TH rbee 1"), "{page}");
    let page = home.rbee(["man", "models", "pull"]).exits(0);
    assert!(page.text().contains("Fetch a model"), "{page}");
    home.rbee(["man", "nonsense"]).exits(2);
    home.rbee(["man", "--out", "pages"]).exits(0);
    let pages = home.files();
    for page in [
        "pages/rbee.1",
        "pages/rbee-run.1",
        "pages/rbee-schedule-add.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
}
