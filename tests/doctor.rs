//! `kchaos doctor` from the user's point of view.

use std::process::Command;

use serde_json::Value;

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
    let (code, checks) = doctor("unix:///nowhere/docker.sock");
    assert_eq!(code, Some(3));
    let about = |name: &str| checks.as_array().unwrap().iter().filter(|c| c["name"] == name).collect::<Vec<_>>();
    let engine = about("engine");
    assert_eq!(engine.len(), 1, "{checks:#}");
    assert_eq!(engine[0]["status"], "problem");
    assert!(engine[0]["found"].as_str().unwrap().contains("unix:///nowhere/docker.sock"), "{checks:#}");
    assert!(engine[0]["remedy"].as_str().unwrap().contains("start Docker"), "{checks:#}");
    // What needs no engine is checked all the same.
    assert_eq!(about("runs")[0]["status"], "ok");
    if cfg!(target_os = "linux") {
        assert_eq!(about("inotify-instances").len(), 1);
        assert_eq!(about("memory").len(), 1);
    }
}
