//! The words of findings. Plain text.

use crate::event::Phase;
use crate::plan::{Operator, Window};
use crate::sample::{Failure, Outcome, Value};
use crate::scenario::{ProbeSpec, WriteState};

pub(super) use crate::rounding::{down as at_least, range, up as seconds};

/// `1 sample`, `3 samples`.
pub(super) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// What the times of a phase count from.
pub(super) fn cause(phase: Phase) -> &'static str {
    match phase {
        Phase::Fault => "the fault",
        Phase::Remedy => "the remedy",
        Phase::Undo | Phase::Recovery => "the undo",
        Phase::Setup | Phase::Baseline | Phase::Collect | Phase::Cleanup => "the start of the phase",
    }
}

pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("“{text}”"),
        Value::Count(n) => n.to_string(),
        Value::Set(items) if items.is_empty() => "none".into(),
        Value::Set(items) => items.iter().map(|i| format!("“{i}”")).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Saw(seen) => value(seen),
        Outcome::Failed(Failure::Timeout) => "unanswered (timeout)".into(),
        Outcome::Failed(Failure::Refused) => "unanswered (connection refused)".into(),
        Outcome::Failed(Failure::Reset) => "unanswered (connection reset)".into(),
        Outcome::Failed(Failure::Unreachable) => "unanswered (no route)".into(),
        Outcome::Failed(Failure::Status(code)) => format!("refused (HTTP status {code})"),
        Outcome::Failed(Failure::Other(what)) => format!("unanswered ({what})"),
        Outcome::Unknown(why) => format!("could not look: {why}"),
    }
}

/// `requests to web`, or with the series `worker2` of several: `requests to web (worker2)`.
pub(super) fn probe(spec: &ProbeSpec, series: &str) -> String {
    let what = match spec {
        ProbeSpec::NodeState(node) => format!("state of {node}"),
        ProbeSpec::NodeProcesses(node) => format!("processes on {node}"),
        ProbeSpec::ComponentProcesses { node, component } => format!("processes of {} on {node}", component.name()),
        ProbeSpec::ComponentIdentities { node, component } => {
            format!("identities of the processes of {} on {node}", component.name())
        }
        ProbeSpec::KubeletAnswers(node) => format!("kubelet of {node}"),
        ProbeSpec::ApiAnswers(node) => format!("API server, asked from {node}"),
        ProbeSpec::KubeletComplaints(node) => format!("complaints of the kubelet of {node}"),
        ProbeSpec::Containers { of, .. } => format!("containers of {of}"),
        ProbeSpec::ContainerIdentities { of, .. } => format!("identities of the containers of {of}"),
        ProbeSpec::NodeReady(node) => format!("readiness of {node}"),
        ProbeSpec::NodeTaints(node) => format!("taints of {node}"),
        ProbeSpec::NodesMissed { not_reporting_to: node } => {
            format!("nodes not Ready whose kubelets do not report to {node}")
        }
        ProbeSpec::Pods { of, .. } => format!("pods of {of}"),
        ProbeSpec::PodIdentities { of } => format!("identities of the pods of {of}"),
        ProbeSpec::Restarts { of } => format!("restarts of {of}"),
        ProbeSpec::Endpoints { of, .. } => format!("endpoints of {of}"),
        ProbeSpec::Requests { to, by, .. } => format!("requests to {to}{}", by.words()),
        ProbeSpec::PodRequests { to, .. } => format!("requests to the pods of {to}"),
        ProbeSpec::Token { of } => format!("token of {of}"),
        ProbeSpec::Reach(address) => address.to_string(),
        ProbeSpec::Log { of } => format!("log of {of}"),
        ProbeSpec::Exec { of } => format!("command in {of}"),
        ProbeSpec::Api(_) => "the API".into(),
        ProbeSpec::ApiOf { node, .. } => format!("API server of {node}"),
        ProbeSpec::Writes(WriteState::Lost) => "acknowledged writes that are lost".into(),
        ProbeSpec::Writes(WriteState::Refused) => "refused writes that are there".into(),
        ProbeSpec::Leader(leader) => format!("leader of {}", leader.name()),
        ProbeSpec::StaleWrites { by, that } => format!("{} writes by a {} that does not lead", that.name(), by.name()),
    };
    if series.is_empty() { what } else { format!("{what} ({series})") }
}

/// What a claim says of the samples in its window: `always “Unknown”`.
pub(crate) fn operator(operator: &Operator) -> String {
    match operator {
        Operator::Always(e) => format!("always {e}"),
        Operator::Never(e) => format!("never {e}"),
        Operator::Eventually(e) => format!("at some time {e}"),
        Operator::Unchanged => "always as before the fault".into(),
        Operator::OutageAtMost(budget) => format!("out for {} at the most", seconds(*budget)),
    }
}

pub(super) fn window(window: &Window) -> String {
    let bounds: Vec<&str> = window.bounded_by.iter().map(String::as_str).collect();
    let settings = if bounds.is_empty() { String::new() } else { format!("; {}", bounds.join("; ")) };
    format!("{}: {}{settings}", window.name, window.formula)
}
