//! Synthetic recordings: a small node-shutdown, second by second, with one thing changed in each. Findings are written
//! by hand, so that the formats are tested apart from the judge's words.

use std::collections::BTreeMap;
use std::time::Duration;

use kchaos::census::{Census, Difference};
use kchaos::clock::{Mono, Wall};
use kchaos::cluster::facts::{Clock, Facts, NodeFacts, Setting};
use kchaos::event::{Checkpoint, End, Event, EventKind, Phase, Proof, Witness};
use kchaos::node::{NodeId, RestartPolicy, Role};
use kchaos::plan::{Edge, Operator, Plan, PlannedClaim, PlannedFault, PlannedProbe, Span, Window};
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::{Arm, Expect, FaultSpec, ProbeSpec, Way};
use kchaos::undo::Undo;

/// What differs from a run in which everything goes as documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// Nothing.
    Upheld,
    /// The replicated Service keeps losing requests after the dead pod was withdrawn.
    Refuted,
    /// The fault never lands.
    NoEffect,
    /// The node can't be started again.
    Dirty,
}

const START: u64 = 5_000_000_000;
const INJECTING: u64 = 9_900;
const INJECTED: u64 = 10_050;
const WINDOW_END: u64 = 40_100;
const UNDONE: u64 = 41_300;
const COLLECT: u64 = 60_400;
const CLEANUP: u64 = 63_000;
const OBSERVERS: [&str; 2] = ["demo-control-plane", "demo-worker"];

/// A time in milliseconds from the start of the run.
pub fn at(ms: u64) -> Mono {
    Mono(START + ms * 1_000)
}

fn node(name: &str) -> NodeId {
    NodeId { id: format!("{name}-id"), name: name.into() }
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

/// The plan of the recordings.
pub fn plan() -> Plan {
    let nodes =
        [("demo-control-plane", Role::ControlPlane), ("demo-worker", Role::Worker), ("demo-worker2", Role::Worker)];
    let facts = |(name, role): (&str, Role)| {
        let facts = NodeFacts {
            node: node(name),
            role,
            addresses: BTreeMap::from([("kind".into(), "172.30.0.3".into())]),
            pinned: true,
            restart_policy: RestartPolicy::OnFailure(1),
            store_in_memory: None,
            pods: 0,
        };
        (name.to_owned(), facts)
    };
    let setting =
        |clock, ms, source: &str| (clock, Setting { value: Duration::from_millis(ms), source: source.into() });
    let probe = |spec, interval, timeout| PlannedProbe {
        spec,
        interval: Duration::from_millis(interval),
        timeout: Duration::from_millis(timeout),
        // Every slot is required, so that each lost one must show.
        resolution: Duration::from_millis(interval),
    };
    Plan {
        scenario: "node-shutdown".into(),
        variant: "power-off".into(),
        other_arm: None,
        summary: "A worker node goes down. Its pods stop at once; Kubernetes notices after its grace period; replicas behind a Service carry on elsewhere.".into(),
        source: "scenarios/node-shutdown.yaml".into(),
        seed: 7,
        facts: Facts {
            cluster: "demo".into(),
            engine: "E7GX:4RQB".into(),
            kubernetes: "v1.34.4".into(),
            nodes: nodes.into_iter().map(facts).collect(),
            clocks: BTreeMap::from([
                setting(Clock::NodeMonitorGracePeriod, 12_000, "kube-controller-manager --node-monitor-grace-period"),
                setting(Clock::NodeMonitorPeriod, 1_000, "kube-controller-manager --node-monitor-period"),
                setting(Clock::LeaseRenew, 2_500, "kubelet nodeLeaseDurationSeconds / 4"),
            ]),
            leaders: BTreeMap::new(),
            reporting: BTreeMap::new(),
            audit_log: None,
        },
        namespace: "kchaos-node-shutdown-00000007".into(),
        targets: BTreeMap::from([("victim".to_owned(), node("demo-worker2"))]),
        workloads: BTreeMap::new(),
        observers: OBSERVERS.map(node).to_vec(),
        faults: vec![PlannedFault::of(FaultSpec::PowerOff { node: "victim".parse().unwrap() }, node("demo-worker2"))],
        probes: vec![
            probe(ProbeSpec::NodeProcesses("victim".parse().unwrap()), 500, 2_000),
            probe(ProbeSpec::NodeReady("victim".parse().unwrap()), 500, 2_000),
            probe(ProbeSpec::Requests { to: "web".parse().unwrap(), from: None, by: Way::Address }, 250, 500),
            probe(ProbeSpec::Requests { to: "lone".parse().unwrap(), from: None, by: Way::Address }, 250, 500),
        ],
        claims: claims(),
        fault_for: Span { at_least: seconds(23.0), at_most: seconds(30.0) },
        over_within: None,
        remedy: None,
        recovery_for: Span { at_least: seconds(5.0), at_most: seconds(40.0) },
        majority_of: None,
        keep_alive: Vec::new(),
        manifests: None,
    }
}

fn claims() -> Vec<PlannedClaim> {
    let settings = || {
        vec![
            "node-monitor-grace-period = 12s (kube-controller-manager --node-monitor-grace-period)".to_owned(),
            "node-monitor-period = 1s (kube-controller-manager --node-monitor-period)".to_owned(),
            "lease-renew = 2.5s (kubelet nodeLeaseDurationSeconds / 4)".to_owned(),
        ]
    };
    let whole = |phase, name: &str| Window {
        name: name.into(),
        phase,
        follows_lost_nodes: false,
        from: Edge::PhaseStart,
        to: Edge::PhaseEnd,
        formula: "the whole phase".into(),
        bounded_by: vec![],
    };
    let timed = |name: &str, from: Edge, to: Edge, formula: &str| Window {
        name: name.into(),
        phase: Phase::Fault,
        follows_lost_nodes: false,
        from,
        to,
        formula: formula.into(),
        bounded_by: settings(),
    };
    let claim = |id: &str, sentence: &str, arm, line, probe, operator, window, says: &str| PlannedClaim {
        id: id.into(),
        sentence: sentence.into(),
        says: says.into(),
        arm,
        line,
        probe,
        operator,
        window,
        unsupported: None,
    };
    let unknown = "grace − 1.04 × renew … grace + 2 × period + 2 s";
    let after = Edge::After(seconds(18.0));
    let withdrawn = || {
        timed(
            "after endpoints-withdrawn",
            after,
            Edge::PhaseEnd,
            "grace − 1.04 × renew … grace + 2 × period + 2 s + 2 s",
        )
    };
    vec![
        claim(
            "processes-gone",
            "node.pods-stop",
            None,
            32,
            0,
            Operator::Always(Expect::Equals(0)),
            whole(Phase::Fault, "fault"),
            "not one process of the node is left",
        ),
        claim(
            "node-marked-unknown",
            "node.pods-stop",
            None,
            60,
            1,
            Operator::Eventually(Expect::Is("Unknown".into())),
            timed("node-unknown", Edge::After(seconds(9.4)), Edge::After(seconds(16.0)), unknown),
            "the node is marked Ready=Unknown",
        ),
        claim(
            "service-recovers",
            "m.replicas/node",
            Some(Arm::Treatment),
            110,
            2,
            Operator::Always(Expect::Answers(true)),
            withdrawn(),
            "once the dead pod is withdrawn, every request to the replicated Service is answered",
        ),
        claim(
            "lone-service-fails",
            "m.replicas/node",
            Some(Arm::Control),
            126,
            3,
            Operator::Never(Expect::Answers(true)),
            withdrawn(),
            "the Service in front of the bare pod is not answered as long as the node is down",
        ),
        claim(
            "node-ready-again",
            "node.pods-stop",
            None,
            180,
            1,
            Operator::Eventually(Expect::Is("True".into())),
            Window {
                name: "node-return".into(),
                phase: Phase::Recovery,
                follows_lost_nodes: false,
                from: Edge::PhaseStart,
                to: Edge::After(seconds(38.0)),
                formula: "30 s for the boot + 2 × renew + status update".into(),
                bounded_by: vec!["lease-renew = 2.5s (kubelet nodeLeaseDurationSeconds / 4)".into()],
            },
            "the node is Ready again",
        ),
    ]
}

/// The events of a run, in order.
pub fn record(story: Story) -> Vec<Event> {
    let mut tape = Tape { story, events: Vec::new() };
    let plan = plan();
    tape.push(
        0,
        EventKind::Started {
            wall: Wall(1_764_000_000_000),
            boot_id: "5f3c".into(),
            version: "0.1.0".into(),
            plan: Box::new(plan.clone()),
        },
    );
    tape.push(20, EventKind::Phase(Phase::Setup));
    tape.push(700, EventKind::Surveyed { census: Census::default() });
    tape.push(4_200, EventKind::Waited { what: "workloads to be ready".into(), since: at(700) });
    let one = || vec![String::new()];
    let observers = || OBSERVERS.map(str::to_owned).to_vec();
    tape.push(
        4_300,
        EventKind::Watching { series: BTreeMap::from([(0, one()), (1, one()), (2, observers()), (3, observers())]) },
    );
    tape.push(4_310, EventKind::Phase(Phase::Baseline));
    tape.push(9_400, EventKind::Waited { what: "a quiet baseline".into(), since: at(4_310) });
    tape.proof(9_500, Checkpoint::Baseline, false);
    tape.push(9_700, EventKind::Phase(Phase::Fault));
    tape.push(9_800, EventKind::Prepared { fault: 0, undo: undos() });
    tape.push(INJECTING, EventKind::Injecting { fault: 0 });
    tape.push(INJECTED, EventKind::Injected { fault: 0, error: None });
    let landed = story != Story::NoEffect;
    tape.proof(INJECTED + 100, Checkpoint::Injected, landed);
    let end = if landed { WINDOW_END } else { INJECTED + 15_000 };
    if landed {
        tape.push(end, EventKind::Waited { what: "Kubernetes to react".into(), since: at(INJECTED + 150) });
        tape.proof(end + 10, Checkpoint::WindowEnd, true);
    }
    tape.push(end + 200, EventKind::Phase(Phase::Undo));
    tape.push(end + 210, EventKind::Undoing { fault: 0, step: 0 });
    tape.push(end + 250, EventKind::Undone { fault: 0, step: 0 });
    tape.push(end + 260, EventKind::Undoing { fault: 0, step: 1 });
    if story == Story::Dirty {
        tape.push(
            UNDONE,
            EventKind::UndoFailed {
                fault: 0,
                step: 1,
                error: "the engine answers: no space left on device".into(),
                by_hand: "docker start demo-worker2".into(),
            },
        );
    } else {
        tape.push(end + 1_200, EventKind::Undone { fault: 0, step: 1 });
    }
    if landed {
        tape.push(UNDONE + 10, EventKind::Phase(Phase::Recovery));
        tape.proof(UNDONE + 300, Checkpoint::Undone, story == Story::Dirty);
        tape.push(COLLECT - 10, EventKind::Waited { what: "Kubernetes to recover".into(), since: at(UNDONE + 400) });
    }
    let cleanup = if landed { CLEANUP } else { end + 1_300 };
    if landed {
        tape.push(COLLECT, EventKind::Phase(Phase::Collect));
    }
    tape.push(cleanup, EventKind::Phase(Phase::Cleanup));
    let residue = match story {
        Story::Dirty => vec![
            Difference {
                item: "container/demo-worker2/state".into(),
                before: Some("running".into()),
                now: Some("exited".into()),
            },
            Difference {
                item: "taint/demo-worker2/node.kubernetes.io/unreachable".into(),
                before: None,
                now: Some("NoExecute".into()),
            },
        ],
        _ => vec![],
    };
    let clean = if residue.is_empty() { End::Clean } else { End::Dirty };
    tape.push(cleanup + 2_100, EventKind::Audited { residue });
    tape.push(cleanup + 2_150, EventKind::Finished(clean));
    tape.samples(&plan, cleanup);
    tape.events.sort_by_key(|e| e.at);
    tape.events
}

fn undos() -> Vec<Undo> {
    vec![
        Undo::SetRestartPolicy { node: node("demo-worker2"), policy: RestartPolicy::OnFailure(1) },
        Undo::Start { node: node("demo-worker2"), addresses: vec![("kind".into(), "172.30.0.4".into())] },
    ]
}

struct Tape {
    story: Story,
    events: Vec<Event>,
}

impl Tape {
    fn push(&mut self, ms: u64, kind: EventKind) {
        self.events.push(Event { at: at(ms), kind });
    }

    fn proof(&mut self, ms: u64, checkpoint: Checkpoint, effect: bool) {
        let witness = |what: &str, there: &str, absent: &str| Witness {
            what: what.into(),
            seen: if effect { there } else { absent }.into(),
            effect: Some(effect),
            from: at(ms - 40),
            to: at(ms - 5),
        };
        let witnesses = vec![
            witness("init of demo-worker2 (pid 4711)", "gone", "there"),
            witness("port 10250 from demo-worker", "no route", "open"),
        ];
        self.push(ms, EventKind::Witnessed(Proof { fault: 0, checkpoint, witnesses }));
    }

    fn samples(&mut self, plan: &Plan, until: u64) {
        for (probe, planned) in plan.probes.iter().enumerate() {
            let series: &[&str] = if probe < 2 { &[""] } else { &OBSERVERS };
            let interval = u64::try_from(planned.interval.as_millis()).unwrap();
            for (nth, series) in series.iter().enumerate() {
                let first = 4_350 + 7 * probe as u64 + 3 * nth as u64;
                for slot in 0.. {
                    let due = first + slot * interval;
                    if due + 600 > until {
                        break;
                    }
                    let (outcome, took) = self.outcome(probe, due);
                    let sample = Sample {
                        probe,
                        series: (*series).into(),
                        slot,
                        due: at(due),
                        start: at(due),
                        end: at(due + took),
                        outcome,
                    };
                    self.push(due + took, EventKind::Sampled(sample));
                }
            }
        }
    }

    /// What a probe sees at a moment of the run, and how long it takes.
    fn outcome(&self, probe: usize, ms: u64) -> (Outcome, u64) {
        let down = self.story != Story::NoEffect && ms >= INJECTED && (ms < UNDONE || self.story == Story::Dirty);
        let answered = |yes| {
            if yes { (Outcome::Saw(Value::Text("web-1".into())), 3) } else { (Outcome::Failed(Failure::Timeout), 500) }
        };
        let slot = ms / 250;
        match probe {
            0 => (Outcome::Saw(Value::Count(if down { 0 } else { 61 })), 20),
            1 => {
                let unknown = self.story != Story::NoEffect
                    && ms >= INJECTING + 13_200
                    && (ms < UNDONE + 9_000 || self.story == Story::Dirty);
                (Outcome::Saw(Value::Text(if unknown { "Unknown" } else { "True" }.into())), 8)
            }
            2 => {
                let lost = match ms.checked_sub(INJECTED) {
                    // Every other request meets the dead pod until it is withdrawn.
                    Some(since) if down && since < 13_900 => slot.is_multiple_of(2),
                    Some(_) if down && self.story == Story::Refuted => slot.is_multiple_of(8),
                    _ => false,
                };
                answered(!lost)
            }
            _ => answered(self.story == Story::NoEffect || ms < INJECTED),
        }
    }
}

/// The findings of a recording.
pub fn findings(story: Story) -> Vec<kchaos::verdict::Finding> {
    use kchaos::verdict::{Evidence, Finding, Reason, Verdict};
    plan()
        .claims
        .into_iter()
        .map(|c| {
            let edge = |e| match e {
                Edge::After(d) => Some(d),
                _ => None,
            };
            let (verdict, reason, because, observed, observed_at, evidence) = match (story, c.id.as_str()) {
                (Story::NoEffect, _) => (
                    Verdict::Inconclusive,
                    Reason::NoEffect,
                    "the witnesses did not see the fault's effect after injection: init of demo-worker2 (pid 4711) is there, port 10250 from demo-worker is open",
                    "nothing that counts: 0 samples in a proven fault",
                    None,
                    vec![],
                ),
                (Story::Refuted, "service-recovers") => (
                    Verdict::Refuted,
                    Reason::Counterexample,
                    "a request failed 18.0–18.5 s after the fault, when every one must be answered",
                    "answered at 142 of 164 samples; first failure 18.0–18.5 s after the fault",
                    Some((seconds(18.012), seconds(18.514))),
                    vec![
                        Evidence { series: "demo-control-plane".into(), slot: 95, from: seconds(28.114), to: seconds(28.614), outcome: "timeout".into() },
                        Evidence { series: "demo-worker".into(), slot: 103, from: seconds(30.117), to: seconds(30.617), outcome: "timeout".into() },
                    ],
                ),
                (Story::Dirty, "node-ready-again") => (
                    Verdict::Refuted,
                    Reason::NeverHappened,
                    "it did not happen within 38.0 s of the undo",
                    "“Unknown” at all 37 samples",
                    None,
                    vec![],
                ),
                (_, "node-marked-unknown") => (
                    Verdict::Upheld,
                    Reason::Happened,
                    "it happened in the window",
                    "“Unknown” first seen 12.9–13.3 s after the fault",
                    Some((seconds(12.9), seconds(13.3))),
                    vec![],
                ),
                (_, "processes-gone") => (Verdict::Upheld, Reason::Held, "every sample agrees", "0 at all 59 samples", None, vec![]),
                (_, "node-ready-again") => (Verdict::Upheld, Reason::Happened, "it happened in the window", "“True” first seen 8.6–9.1 s after the undo", None, vec![]),
                (_, "service-recovers") => (Verdict::Upheld, Reason::Held, "every sample agrees", "answered at all 164 samples", None, vec![]),
                _ => (Verdict::Upheld, Reason::Held, "every sample agrees", "unanswered at all 164 samples", None, vec![]),
            };
            let expected = match c.id.as_str() {
                "processes-gone" => "always is 0",
                "node-marked-unknown" => "eventually is \"Unknown\"",
                "service-recovers" => "always is answered",
                "lone-service-fails" => "never is answered",
                _ => "eventually is \"True\"",
            };
            Finding {
                claim: c.id,
                sentence: c.sentence,
                arm: c.arm,
                says: c.says,
                line: c.line,
                verdict,
                reason,
                because: because.into(),
                expected: expected.into(),
                window: (edge(c.window.from), edge(c.window.to)),
                window_because: c.window.formula,
                observed: observed.into(),
                observed_at,
                unseen: (reason == Reason::Held).then(|| seconds(0.05)),
                evidence,
            }
        })
        .collect()
}

/// A deciding sample with this outcome.
pub fn evidence(outcome: &str) -> kchaos::report::Evidence {
    let time = kchaos::report::Seconds(seconds(1.5));
    kchaos::report::Evidence { series: outcome.into(), slot: 3, from: time, to: time, outcome: outcome.into() }
}
