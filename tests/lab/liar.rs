//! Sabotage: a run during which somebody lies about its fault, and which must therefore prove nothing.

use std::process::Command;

use serde_json::Value;

use super::engine_proxy::EngineProxy;
use super::{Lab, Ran, docker};

/// What lies about a fault: it says that it has done its part, and does nothing.
#[derive(Clone, Copy)]
pub enum Liar {
    /// Tools of the workers.
    Workers(Lies),
    /// Tools of the control planes.
    Planes(Lies),
    /// The kernel, about the signals that kchaos sends.
    Kernel,
    /// The engine, about calls whose path ends like this.
    Engine(&'static str),
}

impl Liar {
    /// For the name of a trial.
    pub fn who(self) -> &'static str {
        match self {
            Self::Workers(_) => "workers",
            Self::Planes(_) => "control planes",
            Self::Kernel => "kernel",
            Self::Engine(about) => about,
        }
    }
}

/// Tools, and what each lies about: see [`FAKE_TOOL`].
pub type Lies = &'static [(&'static str, &'static str)];

pub const DROPS: Lies = &[("iptables", "*'-j DROP'*) exit 0")];
pub const COMPONENT_SIGNALS: Liar = Liar::Planes(&[("pkill", "'-KILL -f '* | '-STOP -f '*) exit 0")]);
/// The manifest stays, and it is said that no process is left.
pub const COMPONENT_DOWN: Liar =
    Liar::Planes(&[("mv", "/etc/kubernetes/manifests/*) exit 0"), ("pkill", "'-KILL -f '*) exit 1")]);
/// What is said of a fault that nobody saw.
pub const UNSEEN: &str = "the witnesses did not see the fault's effect after injection";
/// What is said of a fault that looks itself whether it is in.
pub const NOT_IN: &str = "the fault could not be put in";

/// Puts another tool before a node's tool `$1`, which lies: what matches the branch `$2` of a shell's `case` gets what
/// that branch says, and nothing is done. For all else it is the real tool.
const FAKE_TOOL: &str = r#"printf '#!/bin/sh\ncase "$*" in\n%s ;;\nesac\nexec "$(PATH=/usr/sbin:/usr/bin:/sbin:/bin; command -v %s)" "$@"\n' "$2" "$1" >"/usr/local/bin/$1"
chmod +x "/usr/local/bin/$1""#;
const REAL_TOOL: &str = r#"rm -f "/usr/local/bin/$1""#;

/// Runs a variant while somebody lies about its fault. It must prove nothing.
pub fn faked(lab: &Lab, selection: &str, liar: Liar, because: &str) -> Result<(), String> {
    let ran = match liar {
        Liar::Workers(lies) => told_lies(lab, selection, &workers(lab), lies),
        Liar::Planes(lies) => told_lies(lab, selection, &planes(lab), lies),
        Liar::Kernel => without_signals(lab, selection),
        Liar::Engine(about) => {
            let engine = EngineProxy::start(Some(about))?;
            let mut command = lab.start(selection);
            command.env("DOCKER_HOST", engine.host());
            lab.begin_with(command)?.ended()
        }
    }?;
    nothing_proven(&ran, "no-effect", because)
}

/// Fails unless every claim is inconclusive for this reason, said in words like these.
pub fn nothing_proven(ran: &Ran, reason: &str, because: &str) -> Result<(), String> {
    ran.expect_exit(6)?;
    let claims = ran.report["claims"].as_array().map_or(&[][..], Vec::as_slice);
    let is_so = |claim: &Value| {
        claim["verdict"] == "inconclusive"
            && claim["reason"] == reason
            && claim["because"].as_str().is_some_and(|why| why.contains(because))
    };
    match !claims.is_empty() && claims.iter().all(is_so) {
        true => Ok(()),
        false => Err(format!("not every claim is inconclusive, {reason}, since {because}\n{}", ran.story())),
    }
}

/// Runs a variant while tools of these nodes lie.
fn told_lies(lab: &Lab, selection: &str, nodes: &[String], lies: Lies) -> Result<Ran, String> {
    let each = |script: &str| {
        nodes.iter().try_for_each(|node| {
            let mut tools = lies.iter();
            tools.try_for_each(|&(tool, lie)| docker(&["exec", node, "sh", "-c", script, "sh", tool, lie]).map(drop))
        })
    };
    let ran = each(FAKE_TOOL).and_then(|()| lab.run(selection));
    each(REAL_TOOL)?;
    ran
}

/// Runs a variant while the kernel is made to report that signals were delivered, although they were not.
pub fn without_signals(lab: &Lab, selection: &str) -> Result<Ran, String> {
    let real = lab.start(selection);
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=kill,pidfd_send_signal",
            "-e",
            "inject=kill,pidfd_send_signal:retval=0",
        ])
        .arg(real.get_program())
        .args(real.get_args());
    for (key, value) in real.get_envs() {
        strace.env(key, value.unwrap_or_default());
    }
    lab.finish(&mut strace)
}

/// The nodes of the control planes: as many as a cluster of that topology has.
pub fn planes(lab: &Lab) -> Vec<String> {
    let numbers: &[&str] = if lab.of.topology == "ha" { &["", "2", "3"] } else { &[""] };
    numbers.iter().map(|n| format!("{}-control-plane{n}", lab.cluster)).collect()
}

pub fn workers(lab: &Lab) -> [String; 2] {
    [format!("{}-worker", lab.cluster), format!("{}-worker2", lab.cluster)]
}
