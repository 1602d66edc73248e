//! Set-up on machines that lack something, from the user's point of view: what the first line says, and what is left
//! behind.
//!
//! A machine is a directory with the commands that it has. What set-up only computes with is the real thing; everything
//! that it would ask of the machine, the network or the engine is a few lines of shell. Nothing outside of the
//! directory is touched.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::{NamedTempFile, TempDir};

/// What every machine has.
const PLAIN: &str = "bash cat chmod cut dirname env find flock grep head ln mkdir mktemp mv nice sed setsid sh \
                     sha256sum sleep sort tail touch tr uname xargs";

/// Longer than anything here takes, and shorter than what a killed program would have gone on for.
const SOON: Duration = Duration::from_secs(30);

/// A program that is just being started has open, for a moment, what another test writes, and nobody can run that.
static WRITING_OR_STARTING: Mutex<()> = Mutex::new(());

struct Machine(TempDir);

/// A set-up.
struct Running {
    child: Child,
    /// To where it prints.
    said: NamedTempFile,
}

struct Ended {
    code: Option<i32>,
    said: String,
}

impl Machine {
    /// One that lacks nothing: the node image is there, and Go can build kind.
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a temporary directory"));
        fs::create_dir(machine.path("bin")).expect("a directory");
        for name in PLAIN.split_whitespace() {
            symlink(real(name), machine.path("bin").join(name)).expect("a link");
        }
        machine.write("meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
        machine.has(
            "awk",
            &format!(
                r#"for argument; do
                    shift; [ "$argument" != /proc/meminfo ] || argument=$HOME/meminfo; set -- "$@" "$argument"
                done
                exec {} "$@""#,
                real("awk").display()
            ),
        );
        // Never a pid file of this machine's engine.
        machine.has("rm", &format!(r#"case "$*" in *\ /run/*) ;; *) exec {} "$@" ;; esac"#, real("rm").display()));
        machine.has("df", "echo Avail; echo 100G");
        machine.has("id", "echo 0");
        machine.has("docker", r#"case "$1 $2" in "version --format" | "image inspect") ;; *) exit 1 ;; esac"#);
        machine.has("go", &go(r#"echo whole >"$2"; chmod +x "$2""#, "exit 1"));
        machine.has("cargo", &cargo("touch $HOME/cargo-built"));
        machine.has("rustc", "case $1 in -vV) echo host: here ;; *) echo rustc 1.99.0 ;; esac");
        // The real one would put what it runs out of reach of a signal to all.
        machine.has("timeout", r#"shift; exec "$@""#);
        for name in ["cc", "iptables", "jq", "sysctl", "systemctl"] {
            machine.has(name, "");
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("it can be written");
    }

    fn has(&self, command: &str, script: &str) {
        let _alone = WRITING_OR_STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path("bin").join(command);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it can be written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    }

    fn lacks(&self, command: &str) {
        fs::remove_file(self.path("bin").join(command)).expect("it was there");
    }

    fn start(&self, script: &str, arguments: &[&str]) -> Running {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("setup").join(script);
        let said = NamedTempFile::new_in(&self.0).expect("a file");
        let _alone = WRITING_OR_STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Command::new(self.path("bin/bash"))
            .args(["-c", r#"exec "$0" "$@" 2>&1"#])
            .arg(script)
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.0.path())
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(said.reopen().expect("a file"))
            .process_group(0)
            .spawn();
        Running { child: child.expect("bash starts"), said }
    }

    fn run(&self, script: &str, arguments: &[&str]) -> Ended {
        self.start(script, arguments).end()
    }

    /// Waits until a command has left this file.
    fn until_there_is(&self, name: &str) {
        until(name, || self.path(name).exists());
    }

    /// The artefacts in the cache, half-made ones too.
    fn artefacts(&self) -> Vec<String> {
        let dir = fs::read_dir(self.path("cache/kchaos/artefacts")).expect("a cache");
        dir.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    /// Of the process whose id a command has left in this file.
    fn is_alive(&self, pid_file: &str) -> bool {
        let pid = fs::read_to_string(self.path(pid_file)).expect("it was started");
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
    }
}

impl Running {
    fn end(mut self) -> Ended {
        until("set-up has ended", || self.child.try_wait().expect("it is a child").is_some());
        Ended { code: self.child.wait().expect("it is a child").code(), said: self.said() }
    }

    /// What it has printed so far, in the order in which it was printed.
    fn said(&self) -> String {
        fs::read_to_string(&self.said).expect("UTF-8")
    }

    /// To all that it has started, but for what it runs side by side.
    fn signal(&self, signal: Signal) {
        kill_process_group(Pid::from_child(&self.child), signal).expect("it is there");
    }
}

impl Ended {
    /// It has refused, and its first line is about what is missing and what to do.
    fn refused(&self, because: &[&str]) {
        assert_eq!(self.code, Some(1), "{}", self.said);
        let first = self.said.lines().next().unwrap_or_default();
        assert!(first.starts_with("set-up: "), "{}", self.said);
        for words in because {
            assert!(first.contains(words), "no {words:?} in the first line:\n{}", self.said);
        }
    }

    fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{}", self.said);
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "not until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where this machine has it.
fn real(command: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    std::env::split_paths(&path)
        .map(|dir| dir.join(command))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{command} is not there"))
}

/// A Go whose `go build -o FILE` is this script with FILE as `$2`, and whose `go mod download` is that one.
fn go(build: &str, download: &str) -> String {
    format!(
        r#"case "$1 $2" in
        "env GOVERSION") echo go1.99.0 ;;
        "env GOPROXY") echo https://proxy.example ;;
        "mod download") {download} ;;
        build*) while [ "$1" != -o ]; do shift; done
            {build} ;;
        esac"#
    )
}

/// A cargo whose `cargo build` is this script.
fn cargo(build: &str) -> String {
    format!("case $1 in --version) echo cargo 1.99.0 ;; build) {build} ;; esac")
}

/// Shell: writes its process id to this file, and goes on for longer than any test.
fn goes_on(pid_file: &str) -> String {
    format!("echo $$ >$HOME/{pid_file}.new; mv $HOME/{pid_file}.new $HOME/{pid_file}; sleep 300; exit 1")
}

/// Shell: waits until the test releases it, or has failed.
const RELEASE: &str = r#"until [ -e "$HOME/released" ] || [ ! -d "$HOME" ]; do sleep 0.1; done"#;

/// No engine answers, and no image is there.
const NO_ENGINE: &str = "exit 1";
/// The engine answers, but no registry does.
const NO_REGISTRY: &str = r#"[ "$1" = version ]"#;

#[test]
fn who_is_not_root_is_told_that_no_engine_answers() {
    let machine = Machine::new();
    machine.has("id", "echo 1000");
    machine.has("docker", NO_ENGINE);
    machine.run("setup.sh", &[]).refused(&["no Docker engine answers and you are not root", "start Docker"]);
}

#[test]
fn who_is_not_root_is_told_that_packages_are_missing() {
    let machine = Machine::new();
    machine.has("id", "echo 1000");
    machine.has("apt-get", "");
    machine.lacks("cc");
    machine
        .run("with-cargo.sh", &["--", "cargo", "build"])
        .refused(&["missing: build-essential", "sudo apt-get install build-essential"]);
}

#[test]
fn who_is_not_root_is_told_that_the_image_can_be_neither_pulled_nor_built() {
    let machine = Machine::new();
    machine.has("id", "echo 1000");
    machine.has("docker", NO_REGISTRY);
    machine.run("setup.sh", &[]).refused(&["the node image can't be pulled here", "needs root"]);
}

#[test]
fn a_machine_without_an_engine_and_without_packages_is_told_to_install_one() {
    let machine = Machine::new();
    machine.has("docker", NO_ENGINE);
    machine.run("setup.sh", &[]).refused(&["no Docker engine", "install Docker by hand"]);
}

#[test]
fn an_engine_that_does_not_start_is_told_before_anything_is_built() {
    let machine = Machine::new();
    machine.has("docker", NO_ENGINE);
    machine.has("systemctl", "exit 1");
    machine.has("dockerd", "echo no iptables >&2; exit 1");
    // Where root can do little, a runtime for the engine is built, and kept.
    machine.run("setup.sh", &[]);
    let again = machine.run("setup.sh", &[]);
    if Path::new("/run/systemd/system").exists() {
        again.refused(&["could not be started by systemd", "journalctl -u docker"]);
    } else {
        again.refused(&["dockerd ended at once", "dockerd.log: no iptables"]);
    }
    let built = machine.artefacts();
    assert!(built.iter().all(|name| name.starts_with("oci-runtime-")), "{built:?}");
}

#[test]
fn too_little_memory_is_told_and_cargo_is_not_even_started() {
    let machine = Machine::new();
    machine.write("meminfo", "MemTotal: 8388608 kB\nMemAvailable: 3145728 kB\n");
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).refused(&["only 3 GiB of memory", "stop something"]);
    assert!(!machine.path("cargo-built").exists());
}

#[test]
fn what_the_nodes_of_kchaos_hold_counts_as_available() {
    let machine = Machine::new();
    machine.write("meminfo", "MemTotal: 8388608 kB\nMemAvailable: 3145728 kB\n");
    let docker = |memory: &str| {
        format!(
            r#"case "$*" in
            version* | "image inspect"*) ;;
            "ps -q --filter label=io.x-k8s.kind.cluster --filter name=^kchaos-") echo node; echo other ;;
            stats*" node other") printf '%s\n' {memory} ;;
            *) exit 1 ;;
            esac"#
        )
    };
    machine.has("docker", &docker("'900.5MiB / 8GiB' '123.6MiB / 8GiB'"));
    machine.run("setup.sh", &[]).succeeded();
    machine.has("docker", &docker("'900.5MiB / 8GiB' '123.4MiB / 8GiB'"));
    machine.run("setup.sh", &[]).refused(&["only 3 GiB of memory"]);
    machine.has("docker", &docker("'1.1GiB / 8GiB' '0B / 8GiB'"));
    machine.run("setup.sh", &[]).succeeded();
}

#[test]
fn too_small_a_disk_is_told() {
    let machine = Machine::new();
    machine.has("docker", NO_REGISTRY);
    machine.has("df", "echo Avail; echo 14G");
    machine.run("setup.sh", &[]).refused(&["only 14 GB are free", "XDG_CACHE_HOME"]);
}

#[test]
fn no_network_for_modules_is_told_before_a_package_is_installed() {
    let machine = Machine::new();
    machine.has("docker", NO_REGISTRY);
    machine.lacks("cc");
    machine.has("apt-get", "touch $HOME/apt-get-was-called");
    machine.has("go", &format!("[ $1 != list ] || exit 1\n{}", go("", "")));
    machine.run("setup.sh", &[]).refused(&["no network: the Go module proxy (https://proxy.example)"]);
    assert!(!machine.path("apt-get-was-called").exists());
}

#[test]
fn no_network_for_packages_is_told_though_apt_get_calls_it_a_success() {
    let machine = Machine::new();
    machine.lacks("cc");
    machine.has(
        "apt-get",
        "echo 'Err:1 http://deb.example bookworm InRelease'; echo 'W: Failed to fetch http://deb.example'",
    );
    machine.run("setup.sh", &["cc=build-essential"]).refused(&[
        "missing: build-essential",
        "no network",
        "W: Failed to fetch http://deb.example",
    ]);
}

#[test]
fn no_network_for_crates_is_told() {
    let machine = Machine::new();
    machine.has(
        "cargo",
        &format!(
            "[ $1 != fetch ] || {{ echo 'error: failed to download'; exit 101; }}\n{}",
            cargo("touch $HOME/cargo-built")
        ),
    );
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).refused(&["no network?", "error: failed to download"]);
    assert!(!machine.path("cargo-built").exists());
}

#[test]
fn without_go_and_a_registry_it_is_told_that_go_is_missing() {
    let machine = Machine::new();
    machine.lacks("go");
    machine.run("setup.sh", &[]).refused(&["Go is missing", "install Go"]);
    machine.has("kind", "");
    machine.run("setup.sh", &[]).succeeded();

    let machine = Machine::new();
    machine.lacks("go");
    machine.has("kind", "");
    machine.has("docker", NO_REGISTRY);
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).refused(&[
        "the node image can't be pulled here",
        "Go, which builds one, is missing",
        "install Go",
    ]);
}

#[test]
fn a_missing_an_old_and_an_unusable_rust_are_told() {
    let machine = Machine::new();
    machine.has("cargo", "echo cargo 1.63.0");
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).refused(&["cargo 1.63.0 is too old", "rustup"]);
    machine.has("cargo", "echo error: rustup could not choose a version of cargo to run; exit 1");
    machine
        .run("with-cargo.sh", &["--", "cargo", "build"])
        .refused(&["rustup could not choose", "rustup default stable"]);
    machine.lacks("cargo");
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).refused(&["Rust is missing", "rustup"]);
}

#[test]
fn cargo_starts_when_there_is_a_compiler() {
    let machine = Machine::new();
    machine.lacks("cc");
    machine.has(
        "apt-get",
        r#"case "$*" in
        *update) echo Hit:1 http://deb.example bookworm InRelease ;;
        *install*build-essential) sleep 1; touch $HOME/bin/cc; chmod +x $HOME/bin/cc ;;
        esac"#,
    );
    machine.has("cargo", &cargo("command -v cc >/dev/null || exit 1"));
    machine.run("with-cargo.sh", &["--", "cargo", "build"]).succeeded();
    assert!(machine.path("cache/kchaos/testbed.env").exists());
}

#[test]
fn cargo_is_ended_when_set_up_fails() {
    let machine = Machine::new();
    machine.has("cargo", &cargo(&goes_on("cargo")));
    machine.has("go", &go("until [ -e $HOME/cargo ]; do sleep 0.1; done; echo no space left >&2; exit 1", ""));
    let ended = machine.run("with-cargo.sh", &["--", "cargo", "build"]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.contains("| no space left"), "{}", ended.said);
    assert!(!machine.is_alive("cargo"));
}

#[test]
fn set_up_is_ended_when_cargo_fails_and_goes_on_the_next_time() {
    let machine = Machine::new();
    machine.has("cargo", &cargo("until [ -e $HOME/go ]; do sleep 0.1; done; exit 101"));
    machine.has("go", &go(&format!(r#"echo half >"$2"; {}"#, goes_on("go")), ""));
    let ended = machine.run("with-cargo.sh", &["--", "cargo", "build"]);
    assert_eq!(ended.code, Some(1), "{}", ended.said);
    assert!(ended.said.lines().last().is_some_and(|line| line.starts_with("set-up: cargo failed")), "{}", ended.said);
    assert!(!machine.is_alive("go"));
    assert_eq!(machine.artefacts(), <[&str; 0]>::default());
}

#[test]
fn both_are_ended_by_a_signal() {
    let machine = Machine::new();
    machine.has("cargo", &cargo(&goes_on("cargo")));
    machine.has("go", &go(&goes_on("go"), ""));
    let set_up = machine.start("with-cargo.sh", &["--", "cargo", "build"]);
    until("both run", || machine.path("cargo").exists() && machine.path("go").exists());
    // Not SIGINT, which means the same: whoever runs these tests in the background has it ignored, by all that they start.
    set_up.signal(Signal::TERM);
    assert_eq!(set_up.end().code, Some(130));
    assert!(!machine.is_alive("cargo") && !machine.is_alive("go"));
    assert_eq!(machine.artefacts(), <[&str; 0]>::default());
}

#[test]
fn what_a_killed_set_up_had_begun_is_not_taken_for_finished() {
    let machine = Machine::new();
    let whole = machine.path("bin").join("go");
    fs::rename(&whole, machine.path("go-that-works")).expect("it can be renamed");
    machine.has("go", &go(&format!(r#"echo half >"$2"; chmod +x "$2"; {}"#, goes_on("go")), ""));
    let set_up = machine.start("setup.sh", &[]);
    machine.until_there_is("go");
    set_up.signal(Signal::KILL);
    assert_eq!(set_up.end().code, None);
    let half_made = |name: &String| name.starts_with("kind-") && name.ends_with(".partial");
    assert!(machine.artefacts().iter().any(half_made), "{:?}", machine.artefacts());

    fs::rename(machine.path("go-that-works"), &whole).expect("it can be renamed");
    let next = machine.run("setup.sh", &[]);
    next.succeeded();
    let built_anew = |line: &str| line.contains("kind-") && line.contains("building");
    assert!(next.said.lines().any(built_anew) && !next.said.contains("cached"), "{}", next.said);
    let artefacts = machine.artefacts();
    let [kind] = &artefacts[..] else { panic!("{artefacts:?}") };
    let built = fs::read_to_string(machine.path("cache/kchaos/artefacts").join(kind).join("kind"));
    assert_eq!(built.expect("it is there"), "whole\n");
    assert!(machine.run("setup.sh", &[]).said.contains("cached"));
}

/// Its builds live on; another beside them would take their half-made parts away, or be given theirs.
#[test]
fn the_next_set_up_waits_for_what_one_that_was_killed_alone_still_builds() {
    let machine = Machine::new();
    machine.has("docker", NO_REGISTRY);
    machine.has("debootstrap", "");
    machine.has("unshare", &format!("{RELEASE}; exit 1"));
    machine.has("go", &go(r#"echo whole >"$2""#, &format!("touch $HOME/building; {RELEASE}; exit 1")));
    let mut set_up = machine.start("setup.sh", &[]);
    machine.until_there_is("building");
    set_up.child.kill().expect("it can be killed");
    set_up.end();

    let next = machine.start("setup.sh", &[]);
    until("it has said something", || next.said().ends_with('\n'));
    assert!(next.said().contains("another set-up is running"), "{}", next.said());
    machine.write("released", "");
    let next = next.end();
    assert_eq!(next.code, Some(1), "{}", next.said);
    assert!(next.said.contains("FAILED"), "{}", next.said);
    assert!(!machine.artefacts().iter().any(|name| name.ends_with(".partial")), "{:?}", machine.artefacts());
}

/// The answer of a registry that has not answered yet is none.
#[test]
fn a_set_up_that_was_killed_while_it_asked_the_registry_leaves_no_answer() {
    let machine = Machine::new();
    machine.has(
        "docker",
        &format!(r#"case "$1 $2" in version*) ;; "manifest inspect") {} ;; *) exit 1 ;; esac"#, goes_on("asked")),
    );
    machine.has("debootstrap", "");
    machine.has("go", &go(r#"echo whole >"$2""#, RELEASE));
    let set_up = machine.start("setup.sh", &[]);
    machine.until_there_is("asked");
    set_up.signal(Signal::KILL);
    machine.write("released", "");
    set_up.end();

    machine.has("docker", r#"[ "$1" = version ] || [ "$1" = manifest ] || [ "$1" = pull ]"#);
    let next = machine.run("setup.sh", &[]);
    next.succeeded();
    assert!(next.said.contains("(pulled)"), "{}", next.said);
}
