//! The steady state: nothing is broken before every series has shown normal values, and nothing else, for the quiet
//! time.

#[path = "fixture/plan.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::time::Duration;

use kchaos::clock::{Mono, Wall};
use kchaos::component::{Component, Leader};
use kchaos::event::{Event, EventKind, Phase};
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::{ApiVerb, ProbeSpec, Way, WriteOutcome};
use kchaos::steady_state::{Unsteady, holds};

const QUIET: Duration = Duration::from_secs(5);

/// A time in seconds from the start of the run.
fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000)
}

/// A run whose baseline begins at its third second, with one probe and these series of it.
fn run(spec: ProbeSpec, series: &[&str]) -> Vec<Event> {
    let mut plan = fixture::plan("engine", "cluster", &[fixture::node("node", 'a')]);
    plan.probes[0].spec = spec;
    let started =
        EventKind::Started { wall: Wall(0), boot_id: String::new(), version: String::new(), plan: Box::new(plan) };
    let series = BTreeMap::from([(0, series.iter().map(ToString::to_string).collect())]);
    vec![
        Event { at: at(0), kind: started },
        Event { at: at(1), kind: EventKind::Watching { series } },
        Event { at: at(3), kind: EventKind::Phase(Phase::Baseline) },
    ]
}

/// Adds one sample a second to a series, in the given order, from the third second on.
fn sampled(mut events: Vec<Event>, series: &str, outcomes: &[Outcome]) -> Vec<Event> {
    for (slot, outcome) in (0..).zip(outcomes) {
        let (start, end) = (at(3 + slot), at(3 + slot) + Duration::from_millis(100));
        let outcome = outcome.clone();
        let sample = Sample { probe: 0, series: series.to_owned(), slot, due: start, start, end, outcome };
        events.push(Event { at: end, kind: EventKind::Sampled(sample) });
    }
    events.sort_by_key(|e| e.at);
    events
}

fn text(text: &str) -> Outcome {
    Outcome::Saw(Value::Text(text.to_owned()))
}

fn blind() -> Outcome {
    Outcome::Unknown("probe-blind".into())
}

fn timeout() -> Outcome {
    Outcome::Failed(Failure::Timeout)
}

/// The result for a probe with one series that gave these outcomes, one a second.
fn said(spec: ProbeSpec, outcomes: &[Outcome]) -> Result<(), Unsteady> {
    holds(&sampled(run(spec, &[""]), "", outcomes), QUIET)
}

fn requests() -> ProbeSpec {
    ProbeSpec::Requests { to: "web".into(), from: None, by: Way::Address }
}

#[test]
fn it_holds_once_the_quiet_time_was_quiet() {
    assert_eq!(said(requests(), &vec![text("web-1"); 5]), Err(Unsteady::TooShort));
    assert_eq!(said(requests(), &vec![text("web-1"); 6]), Ok(()));
}

#[test]
fn there_is_none_before_the_baseline() {
    assert_eq!(holds(&[], QUIET), Err(Unsteady::TooShort));
    assert_eq!(holds(&run(requests(), &[""])[..2], QUIET), Err(Unsteady::TooShort));
    // Even with no quiet time at all a sample is needed.
    let blind = Unsteady::Blind { probe: 0, series: String::new() };
    assert_eq!(holds(&run(requests(), &[""]), Duration::ZERO), Err(blind));
}

#[test]
fn one_failure_in_the_quiet_time_is_too_many_and_one_before_it_is_forgotten() {
    let mut outcomes = vec![text("web-1"); 8];
    outcomes[7] = timeout();
    assert!(matches!(said(requests(), &outcomes), Err(Unsteady::NotNormal { probe: 0, .. })));
    // The quiet time reaches back from the last sample, at 10.1 s, to 5.1 s. The sample of slot 2 ended just inside it,
    // that of slot 1 did not.
    for (slot, steady) in [(2, false), (1, true)] {
        let mut outcomes = vec![text("web-1"); 8];
        outcomes[slot] = timeout();
        assert_eq!(said(requests(), &outcomes).is_ok(), steady, "slot {slot}");
    }
}

#[test]
fn a_probe_that_could_not_look_is_no_objection_as_long_as_it_could_once() {
    let mut outcomes = vec![blind(); 8];
    assert_eq!(said(requests(), &outcomes), Err(Unsteady::Blind { probe: 0, series: String::new() }));
    outcomes[5] = text("web-1");
    assert_eq!(said(requests(), &outcomes), Ok(()));
    outcomes[5] = timeout();
    assert!(matches!(said(requests(), &outcomes), Err(Unsteady::NotNormal { .. })));
}

#[test]
fn a_cluster_without_an_audit_log_can_be_steady() {
    let written = || ProbeSpec::StaleWrites { by: Leader::KubeControllerManager, that: WriteOutcome::Accepted };
    let mut outcomes = vec![blind(); 8];
    assert_eq!(said(written(), &outcomes), Ok(()));
    outcomes[5] = Outcome::Saw(Value::Count(0));
    assert_eq!(said(written(), &outcomes), Ok(()));
    outcomes[6] = Outcome::Saw(Value::Count(1));
    assert!(matches!(said(written(), &outcomes), Err(Unsteady::NotNormal { .. })));
}

#[test]
fn a_kubelet_that_complains_is_not_steady() {
    let mut outcomes = vec![Outcome::Saw(Value::Count(0)); 8];
    assert_eq!(said(ProbeSpec::KubeletComplaints("victim".into()), &outcomes), Ok(()));
    outcomes[6] = Outcome::Saw(Value::Count(1));
    let refused = said(ProbeSpec::KubeletComplaints("victim".into()), &outcomes);
    assert!(matches!(refused, Err(Unsteady::NotNormal { .. })));
}

#[test]
fn every_announced_series_counts() {
    let events = run(requests(), &["worker", "worker2"]);
    let events = sampled(events, "worker", &vec![text("web-1"); 8]);
    let missing = Unsteady::Blind { probe: 0, series: "worker2".into() };
    assert_eq!(holds(&events, QUIET), Err(missing));
    let both = sampled(events.clone(), "worker2", &vec![text("web-2"); 8]);
    assert_eq!(holds(&both, QUIET), Ok(()));
    let one_fails = sampled(events, "worker2", &vec![timeout(); 8]);
    assert!(matches!(holds(&one_fails, QUIET), Err(Unsteady::NotNormal { series, .. }) if series == "worker2"));
}

#[test]
fn samples_of_the_set_up_are_not_of_the_baseline() {
    let mut events = run(requests(), &[""]);
    let before =
        Sample { probe: 0, series: String::new(), slot: 0, due: at(2), start: at(2), end: at(2), outcome: timeout() };
    events.insert(2, Event { at: at(2), kind: EventKind::Sampled(before) });
    let events = sampled(events, "", &vec![text("web-1"); 6]);
    assert_eq!(holds(&events, QUIET), Ok(()));
}

#[test]
fn what_is_normal_depends_on_the_probe() {
    let node = || "victim".to_owned();
    let count = |n| Outcome::Saw(Value::Count(n));
    let taints = |taint: &str| Outcome::Saw(Value::Set([taint.to_owned()].into()));
    let cases = [
        (ProbeSpec::NodeState(node()), text("running"), text("paused")),
        (ProbeSpec::NodeReady(node()), text("True"), text("Unknown")),
        (ProbeSpec::NodeProcesses(node()), count(1), count(0)),
        (ProbeSpec::ComponentProcesses { node: node(), component: Component::KubeScheduler }, count(1), count(0)),
        (ProbeSpec::NodeTaints(node()), taints("mine:NoSchedule"), taints("node.kubernetes.io/unreachable:NoExecute")),
        (ProbeSpec::KubeletAnswers(node()), text("200"), timeout()),
        (ProbeSpec::Containers { of: "web".into(), on: None }, count(0), timeout()),
        (ProbeSpec::Api(ApiVerb::Write), text("ok"), Outcome::Failed(Failure::Status(500))),
    ];
    for (spec, normal, odd) in cases {
        assert_eq!(said(spec.clone(), &vec![normal; 8]), Ok(()), "{spec:?}");
        assert!(matches!(said(spec.clone(), &vec![odd; 8]), Err(Unsteady::NotNormal { .. })), "{spec:?}");
    }
}
