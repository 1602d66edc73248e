//! The steady state: what every probe must show for a quiet time before a fault goes in.
//!
//! Takes the events of a run in its baseline and says what is not steady yet. It does not judge claims. A baseline that
//! is not steady makes every claim inconclusive, since effects of the fault can't be told from what was broken before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Mono;
use crate::event::{Event, EventKind, Phase};
use crate::plan::Plan;
use crate::sample::{Outcome, Sample, Value};
use crate::scenario::{ProbeSpec, WriteState};

/// Why there is no steady state yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsteady {
    /// The run has no baseline yet, or its baseline is shorter than the quiet time.
    #[error("the baseline is too short")]
    TooShort,
    /// A series gave no sample in the quiet time, or only samples that could not see.
    #[error("probe {probe} of {series:?} saw nothing")]
    Blind {
        /// Index of the probe in the plan.
        probe: usize,
        /// The series.
        series: String,
    },
    /// A series showed a value that is not normal in the quiet time.
    #[error("probe {probe} of {series:?} is not as it should be: {seen:?}")]
    NotNormal {
        /// Index of the probe in the plan.
        probe: usize,
        /// The series.
        series: String,
        /// What it showed.
        seen: Outcome,
    },
}

/// Did every series show only normal values for the last `quiet` of the baseline?
///
/// # Errors
/// The first series that did not.
pub fn holds(events: &[Event], quiet: Duration) -> Result<(), Unsteady> {
    let (Some(plan), Some(series), Some(baseline), Some(now)) =
        (plan(events), series(events), phase_start(events, Phase::Baseline), events.last().map(|e| e.at))
    else {
        return Err(Unsteady::TooShort);
    };
    let since = now - quiet;
    if since < baseline {
        return Err(Unsteady::TooShort);
    }
    let mut by_series: BTreeMap<(usize, &str), Vec<&Sample>> = BTreeMap::new();
    for event in events.iter().rev() {
        match &event.kind {
            EventKind::Sampled(sample) if sample.end >= since => {
                by_series.entry((sample.probe, &sample.series)).or_default().push(sample);
            }
            EventKind::Phase(_) => break,
            _ => {}
        }
    }
    for (probe, names) in series {
        let spec = &plan.probes[*probe].spec;
        for name in names {
            let samples = by_series.get(&(*probe, name.as_str())).map_or(&[][..], Vec::as_slice);
            // A sample that could not look says nothing against the others.
            let mut known = samples.iter().filter(|s| !matches!(s.outcome, Outcome::Unknown(_))).peekable();
            // Not every cluster keeps an audit log, and one that is kept need not have every write. Its claims come to
            // nothing then; the others need not. Before the fault, no write is refused.
            let may_be_blind = matches!(spec, ProbeSpec::StaleWrites { .. } | ProbeSpec::Writes(WriteState::Refused));
            if known.peek().is_none() && !may_be_blind {
                return Err(Unsteady::Blind { probe: *probe, series: name.clone() });
            }
            if let Some(odd) = known.find(|s| !is_normal(spec, &s.outcome)) {
                return Err(Unsteady::NotNormal { probe: *probe, series: name.clone(), seen: odd.outcome.clone() });
            }
        }
    }
    Ok(())
}

/// Is this what the probe shows on a cluster in which nothing is broken?
pub(crate) fn is_normal(spec: &ProbeSpec, outcome: &Outcome) -> bool {
    let is = |text: &str| matches!(outcome, Outcome::Saw(Value::Text(seen)) if seen == text);
    let saw = matches!(outcome, Outcome::Saw(_));
    match spec {
        ProbeSpec::NodeState(_) => is("running"),
        ProbeSpec::NodeReady(_) => is("True"),
        ProbeSpec::NodeTaints(_) => {
            matches!(outcome, Outcome::Saw(Value::Set(taints)) if !taints.iter().any(|t| t.starts_with("node.kubernetes.io/")))
        }
        ProbeSpec::NodeProcesses(_) | ProbeSpec::ComponentProcesses { .. } => {
            matches!(outcome, Outcome::Saw(Value::Count(n)) if *n > 0)
        }
        ProbeSpec::KubeletAnswers(_)
        | ProbeSpec::ApiAnswers(_)
        | ProbeSpec::Containers { .. }
        | ProbeSpec::ContainerIdentities { .. }
        | ProbeSpec::ComponentIdentities { .. }
        | ProbeSpec::Pods { .. }
        | ProbeSpec::PodIdentities { .. }
        | ProbeSpec::Restarts { .. }
        | ProbeSpec::Endpoints { .. }
        | ProbeSpec::Requests { .. }
        | ProbeSpec::PodRequests { .. }
        | ProbeSpec::Token { .. }
        | ProbeSpec::Log { .. }
        | ProbeSpec::Exec { .. }
        | ProbeSpec::Reach(_)
        | ProbeSpec::Api(_)
        | ProbeSpec::ApiOf { .. }
        | ProbeSpec::Leader(_) => saw,
        ProbeSpec::KubeletComplaints(_)
        | ProbeSpec::NodesMissed { .. }
        | ProbeSpec::Writes(_)
        | ProbeSpec::StaleWrites { .. } => {
            matches!(outcome, Outcome::Saw(Value::Count(0)))
        }
    }
}

fn plan(events: &[Event]) -> Option<&Plan> {
    events.iter().find_map(|e| match &e.kind {
        EventKind::Started { plan, .. } => Some(&**plan),
        _ => None,
    })
}

fn series(events: &[Event]) -> Option<&BTreeMap<usize, Vec<String>>> {
    events.iter().find_map(|e| match &e.kind {
        EventKind::Watching { series } => Some(series),
        _ => None,
    })
}

fn phase_start(events: &[Event], phase: Phase) -> Option<Mono> {
    events.iter().find_map(|e| match &e.kind {
        EventKind::Phase(entered) if *entered == phase => Some(e.at),
        _ => None,
    })
}
