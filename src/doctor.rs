//! Checks whether this machine is able to run kchaos, and whether earlier runs left anything. One [`Check`] per line;
//! each that is not ok has a remedy.
//!
//! It only looks, and changes nothing. A missing engine is one problem among the checks, and everything that can be
//! checked without an engine still is. What counts is the engine's machine: if that is not this one, its limits are
//! read in a node, if one runs.

mod leftovers;
mod machine;

use std::fmt::Write;

use anstyle::{AnsiColor, Reset};
use serde::Serialize;

use self::machine::Machine;
use crate::cluster::docker::{Endpoint, Engine, EngineInfo};
use crate::error::{Exit, Result};
use crate::provision::{Kind, NODE_IMAGE, node_image};

/// How a check turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Some of what kchaos does may not work.
    Warning,
    /// kchaos can't work.
    Problem,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked: a stable word.
    pub name: &'static str,
    /// How it turned out.
    pub status: Status,
    /// What was found, for humans.
    pub found: String,
    /// What to do about it; `None` if all is well.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), remedy: None }
    }

    fn bad(name: &'static str, status: Status, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// The outcome of a check that may fail. The project's own errors contain their remedy.
    fn of(name: &'static str, found: Result<String>) -> Self {
        match found {
            Ok(found) => Self::ok(name, found),
            Err(e) => {
                let text = e.to_string();
                let (what, remedy) = text.split_once("\n  → ").unwrap_or((&text, "see the message"));
                Self::bad(name, Status::Problem, what, remedy)
            }
        }
    }
}

/// Runs all checks.
pub async fn examine() -> Vec<Check> {
    let mut checks = Vec::new();
    let engine = match Engine::connect().await {
        Ok(engine) => match engine.info().await {
            Ok(info) => {
                checks.push(Check::ok("engine", describe(engine.endpoint(), &info)));
                Some((engine, info))
            }
            Err(e) => {
                checks.push(Check::of("engine", Err(e)));
                None
            }
        },
        Err(e) => {
            checks.push(Check::of("engine", Err(e)));
            None
        }
    };
    let machine = Machine::of(engine.as_ref()).await;
    checks.extend(machine.checks().await);
    checks.push(kind().await);
    if let Some((engine, info)) = &engine {
        checks.push(control_groups(info));
        checks.push(image(engine).await);
    }
    checks.extend(leftovers::checks(engine.as_ref().map(|(engine, _)| engine)).await);
    checks
}

/// A coloured table for humans.
pub fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.status {
            Status::Ok => ("ok", AnsiColor::Green),
            Status::Warning => ("warning", AnsiColor::Yellow),
            Status::Problem => ("problem", AnsiColor::Red),
        };
        let colour = colour.on_default();
        // Writing to a string can't fail.
        let _ = writeln!(text, "{colour}{word:<7}{Reset}  {:<width$}  {}", check.name, check.found);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "{:<7}  {:<width$}  → {remedy}", "", "");
        }
    }
    text
}

/// The exit code that the checks amount to: only a problem counts, a warning does not.
pub fn exit(checks: &[Check]) -> Exit {
    match checks.iter().map(|c| c.status).max() {
        Some(Status::Problem) => Exit::CouldNotRun,
        _ => Exit::Upheld,
    }
}

fn describe(endpoint: &Endpoint, info: &EngineInfo) -> String {
    format!("version {}, API {}, at {endpoint}", info.version, info.api)
}

async fn kind() -> Check {
    let found = async {
        let kind = Kind::find()?;
        Ok(format!("{}, {}", kind.version().await?, kind.path().display()))
    };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    match found.await {
        Ok(_) if !std::env::split_paths(&paths).any(|dir| dir.join("docker").is_file()) => {
            let remedy = "install Docker's command line";
            Check::bad("kind", Status::Problem, "kind is there, but not the `docker` command that it needs", remedy)
        }
        found => Check::of("kind", found),
    }
}

fn control_groups(info: &EngineInfo) -> Check {
    let name = "cgroups";
    match info.cgroups {
        Some(1) => {
            Check::ok(name, "v1: kubelets from 1.35 on need `failCgroupV1: false`, which the built-in topologies have")
        }
        Some(version) => Check::ok(name, format!("v{version}")),
        None => Check::bad(name, Status::Warning, "the engine does not tell its version", "see `docker info`"),
    }
}

async fn image(engine: &Engine) -> Check {
    let name = "node-image";
    let Some(image) = node_image() else {
        return Check::ok(name, "kind's own (KCHAOS_NODE_IMAGE names none), pulled when it is first needed");
    };
    match engine.has_image(&image).await {
        Ok(true) => Check::ok(name, image),
        Ok(false) => {
            let found = format!("{image}, which {NODE_IMAGE} names, is not there");
            Check::bad(name, Status::Warning, found, "kind will try to pull it; `make setup` builds one")
        }
        Err(e) => Check::of(name, Err(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn checks() -> Vec<Check> {
        vec![
            Check::ok("engine", "version 1"),
            Check::bad("inotify-instances", Status::Warning, "128", "sysctl"),
            Check::of("kind", Err(Error::could_not_run("it is not there").next("install it"))),
        ]
    }

    #[test]
    fn the_table_has_a_line_for_each_check_and_one_for_each_remedy() {
        let plain = anstream::adapter::strip_str(&table(&checks())).to_string();
        let expected = "\
ok       engine             version 1
warning  inotify-instances  128
                            → sysctl
problem  kind               it is not there
                            → install it
";
        assert_eq!(plain, expected);
    }

    #[test]
    fn a_problem_is_an_exit_code_and_a_warning_is_none() {
        assert_eq!(exit(&checks()), Exit::CouldNotRun);
        assert_eq!(exit(&checks()[..2]), Exit::Upheld);
        assert_eq!(exit(&[]), Exit::Upheld);
    }

    #[test]
    fn checks_are_plain_json() {
        let json = serde_json::to_value(checks()).unwrap();
        let expected = serde_json::json!({
            "name": "inotify-instances", "status": "warning", "found": "128", "remedy": "sysctl",
        });
        assert_eq!(json[1], expected);
        assert_eq!(json[0]["remedy"], serde_json::Value::Null);
    }
}
