//! `kchaos doctor` from the user's point of view, and what commands that need no cluster print elsewhere than on a
//! terminal.

use std::process::{Command, Output};

use serde_json::Value;

const NO_ENGINE: &str = "unix:///nowhere/docker.sock";

fn doctor(docker_host: &str) -> (Option<i32>, Value) {
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kchaos"));
    command.args(["doctor", "-o", "json"]).env("XDG_STATE_HOME", state.path()).env("DOCKER_HOST", docker_host);
    let output = command.output().expect("kchaos runs");
    let checks = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("no JSON: {e}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), checks)
}

#[test]
fn a_machine_without_an_engine_is_one_problem_with_a_remedy() {
    let (code, checks) = doctor(NO_ENGINE);
    assert_eq!(code, Some(3));
    let about = |name: &str| checks.as_array().unwrap().iter().filter(|c| c["name"] == name).collect::<Vec<_>>();
    let engine = about("engine");
    assert_eq!(engine.len(), 1, "{checks:#}");
    assert_eq!(engine[0]["status"], "problem");
    assert!(engine[0]["found"].as_str().unwrap().contains(NO_ENGINE), "{checks:#}");
    assert!(engine[0]["remedy"].as_str().unwrap().contains("start Docker"), "{checks:#}");
    // What needs no engine is checked all the same.
    assert_eq!(about("runs")[0]["status"], "ok");
    if cfg!(target_os = "linux") {
        assert_eq!(about("inotify-instances").len(), 1);
        assert_eq!(about("memory").len(), 1);
    }
}

/// Every line of the table is there, whatever the machine is like, and each that is not in order has a remedy.
#[test]
fn a_machine_with_an_engine_is_told_of_line_by_line() {
    let answers = Command::new("docker").args(["version", "--format", "{{.Server.APIVersion}}"]).output();
    let Some(api) = answers.ok().filter(|output| output.status.success()) else {
        assert!(std::env::var_os("KCHAOS_REQUIRE").is_none(), "no engine answers");
        return eprintln!("skipped: no engine answers");
    };
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let (code, checks) = doctor(&host);
    let checks = checks.as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in [
        "engine",
        "cgroups",
        "inotify-instances",
        "inotify-watches",
        "memory",
        "disk",
        "netfilter",
        "xt_statistic",
        "sch_netem",
        "kind",
        "node-image",
        "runs",
        "containers",
        "nodes",
        "clusters",
    ] {
        assert_eq!(names.iter().filter(|other| **other == name).count(), 1, "{name} among {names:?}");
    }
    let bad = checks.iter().filter(|check| check["status"] != "ok");
    bad.for_each(|check| assert!(check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{check:#}"));
    let problem = checks.iter().any(|check| check["status"] == "problem");
    assert_eq!(code, Some(if problem { 3 } else { 0 }));
    let found = checks[0]["found"].as_str().unwrap();
    assert!(found.contains(String::from_utf8_lossy(&api.stdout).trim()), "{found}");
}

// ---- elsewhere than on a terminal

/// Runs a command with its output going into pipes, where there is no engine. Only these variables are about colour.
fn piped(command: &str, vars: &[(&str, &str)]) -> Output {
    let state = tempfile::tempdir().expect("a temporary directory");
    let mut kchaos = Command::new(env!("CARGO_BIN_EXE_kchaos"));
    for unset in ["CI", "CLICOLOR", "CLICOLOR_FORCE", "NO_COLOR", "KCHAOS_COLOR", "KCHAOS_LOG"] {
        kchaos.env_remove(unset);
    }
    kchaos.env("TERM", "xterm-256color").env("XDG_STATE_HOME", state.path()).env("DOCKER_HOST", NO_ENGINE);
    kchaos.args(command.split(' ')).current_dir(env!("CARGO_MANIFEST_DIR")).envs(vars.iter().copied());
    kchaos.output().expect("kchaos runs")
}

/// Commands that need no cluster, and what they exit with where there is no engine.
fn commands() -> [(String, i32); 5] {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap();
    let files = files.map(|file| format!(" scenarios/{}", file.unwrap().file_name().display()));
    let files: String = files.filter(|file| file.ends_with(".yaml")).collect();
    [
        ("list".into(), 0),
        ("show node-shutdown".into(), 0),
        ("show nothing".into(), 2),
        // The page is among the files, and it is no scenario.
        (format!("check{files}"), 2),
        ("doctor".into(), 3),
    ]
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask_for_it() {
    let printed = |Output { stdout, stderr, .. }: Output| [stdout, stderr].concat();
    let escapes = |printed: &[u8]| printed.contains(&0x1b);
    for (command, exit) in commands() {
        for vars in [&[("NO_COLOR", "1")][..], &[]] {
            let output = piped(&command, vars);
            assert_eq!(output.status.code(), Some(exit), "{command}: {output:?}");
            let printed = printed(output);
            assert!(!escapes(&printed), "{command}, {vars:?}: {}", String::from_utf8_lossy(&printed));
        }
        let asked_for = printed(piped(&format!("{command} --color always"), &[]));
        assert!(escapes(&asked_for), "{command}: {}", String::from_utf8_lossy(&asked_for));
    }
}

#[test]
fn quiet_keeps_back_neither_results_nor_errors() {
    // What the doctor finds may differ from one look to the next.
    for (command, _) in commands().into_iter().filter(|(command, _)| command != "doctor") {
        let loud = piped(&command, &[]);
        assert!(!loud.stdout.is_empty() || !loud.stderr.is_empty(), "{command}");
        assert_eq!(piped(&format!("{command} --quiet"), &[]), loud, "{command}");
        assert_eq!(piped(&format!("-q {command}"), &[]), loud, "{command}");
    }
}
