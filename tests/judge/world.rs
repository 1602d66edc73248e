//! Synthetic histories: one claim, one probe, a few series of samples, everything at known times.

use std::collections::BTreeMap;
use std::time::Duration;

use kchaos::clock::{Mono, Wall};
use kchaos::cluster::facts::{Facts, NodeFacts};
use kchaos::event::{Checkpoint, Disturbance, End, Event, EventKind, Phase, ProcessorUse, Proof, Witness};
use kchaos::node::{NodeId, RestartPolicy, Role};
use kchaos::plan::{Edge, Operator, Plan, PlannedClaim, PlannedFault, PlannedProbe, Span, Window};
use kchaos::run_history::History;
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::{Arm, Expect, FaultSpec, ProbeSpec, Way};
use kchaos::verdict::{Finding, Reason, Verdict, judge};
use proptest::prelude::*;

pub const INTERVAL: u64 = 100;
pub const TIMEOUT: u64 = 80;
/// These times are in milliseconds from the start of the run.
pub const BASELINE: u64 = 200;
pub const INJECTING: u64 = 2_300;
pub const INJECTED: u64 = 2_350;
pub const PROVEN: u64 = 2_450;
pub const LAST_LOOK: u64 = 6_000;
pub const UNDOING: u64 = 6_110;
pub const UNDONE: u64 = 6_200;
pub const COLLECT: u64 = 9_000;
/// By then, everything that was due before `COLLECT` has arrived.
pub const CLEANUP: u64 = 9_500;
const FINISHED: u64 = 9_900;
pub const FIRST_SLOT: u64 = 120;

/// So many milliseconds after the cause.
pub fn after(ms: u64) -> Edge {
    Edge::After(Duration::from_millis(ms))
}

/// What a sample saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    A,
    B,
    Refused,
    Timeout,
    /// It was answered that somebody behind it did not answer in time (a gateway's 504).
    GaveUp,
    Unknown,
    /// The observer had no time.
    Starved,
    /// There is no sample.
    Missing,
}

#[derive(Clone, Copy)]
pub struct Slot {
    /// Milliseconds by which the sample was late, that it took, and until its record arrived.
    pub late: u64,
    pub took: u64,
    pub lag: u64,
    pub look: Look,
}

/// `A12+5`: begun 12 ms late, took 5 ms.
impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.look == Look::Missing {
            f.write_str("-")
        } else {
            write!(f, "{:?}{}+{}", self.look, self.late, self.took)
        }
    }
}

/// What the witnesses say at a checkpoint; `None` if none was asked.
pub type Said = Option<Vec<Option<bool>>>;

#[derive(Clone)]
pub struct World {
    pub operator: Operator,
    pub spec: ProbeSpec,
    pub phase: Phase,
    pub from: Edge,
    pub to: Edge,
    pub interval: u64,
    /// How many slots in a row may be lost.
    pub may_be_lost: u64,
    /// For each series its name, the offset of its grid in milliseconds, and its slots.
    pub series: Vec<(String, u64, Vec<Slot>)>,
    /// For Baseline, Injected, WindowEnd and Undone: milliseconds at which the witnesses began to look, and what they
    /// said.
    pub proofs: [(u64, Said); 4],
    pub disturbed: Vec<(u64, Disturbance)>,
    /// From and to which milliseconds others had the machine's processors, and which percentage of them.
    pub contended: Vec<(u64, u64, u64)>,
    pub unsupported: Option<String>,
    /// What the broken node is.
    pub victim: Role,
    pub origin: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = self.window();
        write!(
            f,
            "{:?} of {:?} in {:?} {:?}…{:?} ({from}…{to} ms), every {}, {} may be lost",
            self.operator, self.spec, self.phase, self.from, self.to, self.interval, self.may_be_lost
        )?;
        self.series.iter().try_for_each(|(name, offset, slots)| write!(f, "\n  {name}+{offset}: {slots:?}"))
    }
}

const CHECKPOINTS: [Checkpoint; 4] =
    [Checkpoint::Baseline, Checkpoint::Injected, Checkpoint::WindowEnd, Checkpoint::Undone];

/// Proofs that are all in order: false, true, true, false.
pub fn sound() -> [(u64, Said); 4] {
    let say = |effect| Some(vec![Some(effect), Some(effect)]);
    [(2_100, say(false)), (PROVEN - 40, say(true)), (LAST_LOOK, say(true)), (6_250, say(false))]
}

impl World {
    pub fn at(&self, ms: u64) -> Mono {
        Mono(self.origin + ms * 1_000)
    }

    /// A world in which every sample sees the same.
    pub fn uniform(operator: Operator, spec: ProbeSpec, look: Look, names: &[&str]) -> Self {
        let slot = Slot { late: 0, took: if look == Look::Timeout { TIMEOUT } else { 5 }, lag: 0, look };
        let series = names.iter().enumerate().map(|(i, n)| ((*n).to_owned(), 7 * i as u64, vec![slot; 95])).collect();
        Self {
            operator,
            spec,
            phase: Phase::Fault,
            from: Edge::PhaseStart,
            to: Edge::PhaseEnd,
            interval: INTERVAL,
            may_be_lost: 0,
            series,
            proofs: sound(),
            disturbed: vec![],
            contended: vec![],
            unsupported: None,
            victim: Role::Worker,
            origin: 7_000_000,
        }
    }

    pub fn plan(&self) -> Plan {
        let node = |name: &str| NodeId { id: format!("{name}-id"), name: name.into() };
        let facts = |name: &str| NodeFacts {
            node: node(name),
            role: Role::Worker,
            addresses: BTreeMap::new(),
            pinned: true,
            restart_policy: RestartPolicy::No,
            store_in_memory: None,
            pods: 0,
        };
        let observers = self.series.iter().map(|(name, ..)| (name.clone(), facts(name)));
        let victim = NodeFacts { role: self.victim, ..facts("victim") };
        let nodes = observers.chain([("victim".to_owned(), victim)]).collect();
        let span = Span { at_least: Duration::ZERO, at_most: Duration::from_secs(9) };
        let ms = Duration::from_millis;
        let claim = PlannedClaim {
            id: "claim".into(),
            sentence: "m.replicas/node".into(),
            says: "it holds".into(),
            arm: Some(Arm::Treatment),
            line: 3,
            probe: 0,
            operator: self.operator.clone(),
            window: Window {
                name: "window".into(),
                phase: self.phase,
                follows_lost_nodes: false,
                from: self.from,
                to: self.to,
                formula: "formula".into(),
                bounded_by: vec!["setting = 1s".into()],
            },
            unsupported: self.unsupported.clone(),
        };
        Plan {
            scenario: "test".into(),
            variant: "test".into(),
            other_arm: None,
            summary: String::new(),
            source: "test.yaml".into(),
            seed: 1,
            facts: Facts {
                cluster: "test".into(),
                engine: "E".into(),
                kubernetes: "v1.34.4".into(),
                nodes,
                clocks: BTreeMap::new(),
                leaders: BTreeMap::new(),
                reporting: BTreeMap::new(),
                audit_log: None,
            },
            namespace: "test".into(),
            targets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            observers: self.series.iter().map(|(name, ..)| node(name)).collect(),
            faults: vec![PlannedFault::of(FaultSpec::PowerOff { node: "victim".into() }, node("victim"))],
            probes: vec![PlannedProbe {
                spec: self.spec.clone(),
                interval: ms(self.interval),
                timeout: ms(TIMEOUT),
                resolution: ms(self.interval * (self.may_be_lost + 1)),
            }],
            claims: vec![claim],
            fault_for: span,
            over_within: None,
            remedy: None,
            recovery_for: span,
            majority_of: None,
            keep_alive: Vec::new(),
            manifests: None,
        }
    }

    /// The events in the order in which they would be recorded.
    pub fn events(&self) -> Vec<Event> {
        let event = |ms, kind| Event { at: self.at(ms), kind };
        let names = self.series.iter().map(|(name, ..)| name.clone()).collect();
        let mut events = vec![
            event(
                0,
                EventKind::Started {
                    wall: Wall(0),
                    boot_id: "boot".into(),
                    version: "0".into(),
                    plan: Box::new(self.plan()),
                },
            ),
            event(10, EventKind::Phase(Phase::Setup)),
            event(110, EventKind::Watching { series: BTreeMap::from([(0, names)]) }),
            event(BASELINE, EventKind::Phase(Phase::Baseline)),
            event(2_200, EventKind::Phase(Phase::Fault)),
            event(2_250, EventKind::Prepared { fault: 0, undo: vec![] }),
            event(INJECTING, EventKind::Injecting { fault: 0 }),
            event(INJECTED, EventKind::Injected { fault: 0, error: None }),
            event(6_100, EventKind::Phase(Phase::Undo)),
            event(UNDOING, EventKind::Undoing { fault: 0, step: 0 }),
            event(UNDONE, EventKind::Undone { fault: 0, step: 0 }),
            event(6_210, EventKind::Phase(Phase::Recovery)),
            event(COLLECT, EventKind::Phase(Phase::Collect)),
            event(CLEANUP, EventKind::Phase(Phase::Cleanup)),
            event(FINISHED, EventKind::Finished(End::Clean)),
        ];
        for (checkpoint, (from, said)) in CHECKPOINTS.into_iter().zip(&self.proofs) {
            let Some(said) = said else { continue };
            let witness = |effect: &Option<bool>| Witness {
                what: "pid".into(),
                seen: format!("{effect:?}"),
                effect: *effect,
                from: self.at(*from),
                to: self.at(from + 40),
            };
            let witnesses = said.iter().map(witness).collect();
            events.push(event(from + 41, EventKind::Witnessed(Proof { fault: 0, checkpoint, witnesses })));
        }
        for (ms, disturbance) in &self.disturbed {
            events.push(event(*ms, EventKind::Disturbed(disturbance.clone())));
        }
        for &(from, to, percent) in &self.contended {
            let all = Duration::from_millis(2 * (to - from));
            let nodes = all * u32::try_from(100 - percent).unwrap() / 100;
            let (from, until, idle) = (self.at(from), self.at(to), Duration::ZERO);
            let may_lack_leader = Duration::ZERO;
            let usage = ProcessorUse { from, to: until, all, idle, nodes, may_lack_leader };
            events.push(event(to, EventKind::Processors(usage)));
        }
        for (name, offset, slots) in &self.series {
            for (number, slot) in slots.iter().enumerate() {
                let due = FIRST_SLOT + offset + number as u64 * self.interval;
                let (start, end) = (due + slot.late, due + slot.late + slot.took);
                let outcome = match slot.look {
                    Look::A => Outcome::Saw(Value::Text("a".into())),
                    Look::B => Outcome::Saw(Value::Text("b".into())),
                    Look::Refused => Outcome::Failed(Failure::Refused),
                    Look::Timeout => Outcome::Failed(Failure::Timeout),
                    Look::GaveUp => Outcome::Failed(Failure::Status(504)),
                    Look::Unknown => Outcome::Unknown("blind".into()),
                    Look::Starved => Outcome::Unknown("starved".into()),
                    Look::Missing => continue,
                };
                // The probes stop when the run cleans up.
                if end < CLEANUP {
                    let (due, start, end_at) = (self.at(due), self.at(start), self.at(end));
                    let sample = Sample {
                        probe: 0,
                        series: name.clone(),
                        slot: number as u64,
                        due,
                        start,
                        end: end_at,
                        outcome,
                    };
                    events.push(event(end + slot.lag, EventKind::Sampled(sample)));
                }
            }
        }
        events.sort_by_key(|e| e.at);
        events
    }

    pub fn finding(&self) -> Finding {
        finding(&self.events())
    }

    pub fn verdict(&self) -> Verdict {
        self.finding().verdict
    }

    pub fn reason(&self) -> (Verdict, Reason) {
        let finding = self.finding();
        (finding.verdict, finding.reason)
    }

    pub fn edit(&self, series: usize, slot: usize, edit: impl FnOnce(&mut Slot)) -> Self {
        let mut world = self.clone();
        edit(&mut world.series[series].2[slot]);
        world
    }

    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    /// Due, start and end of a slot in milliseconds.
    pub fn times(&self, series: usize, slot: usize) -> (u64, u64, u64) {
        let (_, offset, slots) = &self.series[series];
        let due = FIRST_SLOT + offset + slot as u64 * self.interval;
        (due, due + slots[slot].late, due + slots[slot].late + slots[slot].took)
    }

    /// Every (series, slot).
    pub fn places(&self) -> Vec<(usize, usize)> {
        let of = |(i, (_, _, slots)): (usize, &(String, u64, Vec<Slot>))| {
            (0..slots.len()).map(move |k| (i, k)).collect::<Vec<_>>()
        };
        self.series.iter().enumerate().flat_map(of).collect()
    }

    /// The slots whose samples lie in the claim's window, by their times alone.
    pub fn inside(&self) -> Vec<(usize, usize)> {
        let (from, to) = self.window();
        let within = |&(i, k): &(usize, usize)| {
            let (due, _, end) = self.times(i, k);
            due >= from && end <= to && end < CLEANUP && self.series[i].2[k].look != Look::Missing
        };
        self.places().into_iter().filter(within).collect()
    }

    /// The window in milliseconds, by the definition of edges.
    pub fn window(&self) -> (u64, u64) {
        let once = matches!(self.operator, Operator::Eventually(_));
        let (cause, start, end) = match self.phase {
            Phase::Baseline => ((BASELINE, BASELINE), BASELINE, 2_200),
            Phase::Fault => ((INJECTING, INJECTED), PROVEN, LAST_LOOK),
            Phase::Recovery => ((UNDOING, UNDONE), UNDONE, COLLECT),
            other => unreachable!("no claim is about {other:?}"),
        };
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        let from = match self.from {
            Edge::CauseStart => cause.0,
            Edge::PhaseStart => start,
            Edge::PhaseEnd => end,
            Edge::After(d) if once => cause.0 + ms(d),
            Edge::After(d) => start.max(cause.1 + ms(d)),
        };
        let to = match self.to {
            Edge::CauseStart => cause.0,
            Edge::PhaseStart => start,
            Edge::PhaseEnd => end,
            Edge::After(d) => end.min(ms(d) + if once { cause.1 } else { cause.0 }),
        };
        (from, to)
    }

    /// Does the window end before its phase?
    pub fn is_closed(&self) -> bool {
        let once = matches!(self.operator, Operator::Eventually(_));
        let Edge::After(d) = self.to else { return true };
        let ms = u64::try_from(d.as_millis()).unwrap();
        match self.phase {
            Phase::Baseline => BASELINE + ms <= 2_200,
            Phase::Fault => (if once { INJECTED } else { INJECTING }) + ms <= LAST_LOOK,
            _ => (if once { UNDONE } else { UNDOING }) + ms <= COLLECT,
        }
    }

    /// What a look says about what the operator wants: `Err` if it decides nothing, `Ok(None)` if it gave no value and
    /// none was needed.
    pub fn wants(&self, look: Look) -> Result<Option<bool>, ()> {
        let (expect, negated) = match &self.operator {
            Operator::Always(e) | Operator::Eventually(e) => (e.clone(), false),
            Operator::Never(e) => (e.clone(), true),
            Operator::Unchanged => (Expect::AsBefore(true), false),
            Operator::OutageAtMost(_) => (Expect::Answers(true), false),
        };
        let data_plane = matches!(self.spec, ProbeSpec::Requests { .. } | ProbeSpec::Token { .. });
        let met = match (look, expect) {
            (Look::Unknown | Look::Starved | Look::Missing, _) => return Err(()),
            (Look::A | Look::B, Expect::Answers(yes)) => yes,
            (_, Expect::Answers(yes)) => !yes,
            (Look::Refused | Look::Timeout | Look::GaveUp, _) if data_plane => return Ok(None),
            (Look::Refused | Look::Timeout | Look::GaveUp, _) => return Err(()),
            (_, Expect::Is(text)) => text == (if look == Look::A { "a" } else { "b" }),
            // The baseline of every generated world is A.
            (_, Expect::AsBefore(same)) => (look == Look::A) == same,
            (_, other) => unreachable!("{other:?} is not generated"),
        };
        Ok(Some(met != negated))
    }

    /// The verdict by the definition of the operators, slot by slot. Valid for worlds with sound proofs and an
    /// undisturbed run.
    pub fn by_definition(&self) -> Verdict {
        let (from, to) = self.window();
        let once = matches!(self.operator, Operator::Eventually(_));
        let one = |i: usize| {
            let (_, offset, slots) = &self.series[i];
            let (mut decided, mut lost, mut most_lost) = (vec![], 0, 0);
            // The grid continues in both directions.
            for k in -200i64..200 {
                let due = (FIRST_SLOT + offset) as i64 + k * self.interval as i64;
                let required = due >= from as i64 && due <= to as i64;
                let slot = usize::try_from(k)
                    .ok()
                    .and_then(|k| slots.get(k))
                    .filter(|s| s.look != Look::Missing && due + ((s.late + s.took) as i64) < CLEANUP as i64);
                let Some(slot) = slot else {
                    lost += u64::from(required);
                    most_lost = lost.max(most_lost);
                    continue;
                };
                let inside = required && due + ((slot.late + slot.took) as i64) <= to as i64;
                // A timeout of a sample that was begun late proves nothing, and a result that was known too late covers
                // nothing. Somebody who gave up did so for certain, but is not to blame for it then.
                let blind = slot.late > self.interval
                    && match slot.look {
                        Look::Timeout => true,
                        Look::GaveUp => self.wants(slot.look) == Ok(Some(false)),
                        _ => false,
                    };
                let patience = if slot.look == Look::Timeout { 2 } else { 1 };
                let late = slot.late + slot.took > patience * (self.interval + TIMEOUT);
                let wants = if blind { Err(()) } else { self.wants(slot.look) };
                if required {
                    lost = if wants.is_err() || late { lost + 1 } else { 0 };
                    most_lost = lost.max(most_lost);
                }
                if let (true, Ok(Some(wanted))) = (inside, wants) {
                    decided.push(wanted);
                }
            }
            let sure = self.is_closed() && most_lost <= self.may_be_lost && !decided.is_empty();
            match once {
                false if decided.contains(&false) => Verdict::Refuted,
                false if sure => Verdict::Upheld,
                true if decided.contains(&true) => Verdict::Upheld,
                true if sure => Verdict::Refuted,
                _ => Verdict::Inconclusive,
            }
        };
        (0..self.series.len()).map(one).max().unwrap_or(Verdict::Inconclusive)
    }
}

/// The same run in which an operator also drained a node at that moment, which was proven around it.
pub fn drained_at(events: &[Event], at: Mono) -> Vec<Event> {
    let mut events = events.to_vec();
    let EventKind::Started { plan, .. } = &mut events[0].kind else { unreachable!("a run begins with its start") };
    let drain = FaultSpec::Drain { nodes: vec!["victim".into()] };
    plan.faults.push(PlannedFault::of(drain, plan.faults[0].node.clone()));
    let proofs = events.iter().filter_map(|event| {
        let EventKind::Witnessed(proof) = &event.kind else { return None };
        let mut proof = Proof { fault: 1, ..proof.clone() };
        for witness in &mut proof.witnesses {
            match proof.checkpoint {
                Checkpoint::Baseline => (witness.from, witness.to) = (Mono(at.0 - 2_000), Mono(at.0 - 1_000)),
                Checkpoint::Injected => (witness.from, witness.to) = (Mono(at.0 + 1_000), Mono(at.0 + 2_000)),
                Checkpoint::WindowEnd | Checkpoint::Undone => {}
            }
        }
        Some(Event { at: event.at, kind: EventKind::Witnessed(proof) })
    });
    let proofs: Vec<_> = proofs.collect();
    let drained = [EventKind::Injecting { fault: 1 }, EventKind::Injected { fault: 1, error: None }];
    events.extend(drained.map(|kind| Event { at, kind }).into_iter().chain(proofs));
    events
}

pub fn finding(events: &[Event]) -> Finding {
    findings(events).remove(0)
}

pub fn findings(events: &[Event]) -> Vec<Finding> {
    judge(&History::replay(events).unwrap())
}

pub fn ready() -> ProbeSpec {
    ProbeSpec::NodeReady("victim".into())
}

pub fn requests() -> ProbeSpec {
    ProbeSpec::Requests { to: "web".into(), from: None, by: Way::Address }
}

pub fn is_a() -> Expect {
    Expect::Is("a".into())
}

fn any_claim() -> impl Strategy<Value = (Operator, ProbeSpec)> {
    let token = || ProbeSpec::Token { of: "web".into() };
    prop_oneof![
        Just((Operator::Always(is_a()), ready())),
        Just((Operator::Never(is_a()), ready())),
        Just((Operator::Eventually(is_a()), ready())),
        Just((Operator::Unchanged, ready())),
        Just((Operator::Always(Expect::Answers(true)), requests())),
        Just((Operator::Never(Expect::Answers(true)), requests())),
        Just((Operator::Eventually(Expect::Answers(true)), requests())),
        Just((Operator::Never(Expect::AsBefore(true)), token())),
        Just((Operator::Eventually(Expect::AsBefore(false)), token())),
        Just((Operator::Unchanged, token())),
    ]
}

fn any_edges() -> impl Strategy<Value = (Phase, Edge, Edge)> {
    let after = |ms| Edge::After(Duration::from_millis(ms));
    let phase = prop_oneof![Just(Phase::Baseline), Just(Phase::Fault), Just(Phase::Recovery)];
    // Windows shorter than a few slots are tested one by one, not at random.
    let span = prop_oneof![
        Just((Edge::PhaseStart, Edge::PhaseEnd)),
        Just((Edge::CauseStart, Edge::PhaseEnd)),
        (0u64..1_200).prop_map(move |from| (after(from), Edge::PhaseEnd)),
        (500u64..1_900).prop_map(move |to| (Edge::PhaseStart, after(to))),
        (0u64..1_200, 400u64..3_000).prop_map(move |(from, width)| (after(from), after(from + width))),
    ];
    (phase, span).prop_map(|(phase, (from, to))| (phase, from, to))
}

/// Mostly one look, with another now and then, so that every verdict occurs.
fn any_looks() -> impl Strategy<Value = Vec<Look>> {
    let silence = || prop_oneof![2 => Just(Look::Timeout), 1 => Just(Look::GaveUp)];
    let look = move || prop_oneof![8 => Just(Look::A), 8 => Just(Look::B), 2 => Just(Look::Refused), 3 => silence()];
    let odd = prop_oneof![look().boxed(), Just(Look::Unknown).boxed(), Just(Look::Missing).boxed()];
    (look(), proptest::collection::vec((0usize..95, odd), 0..4), look(), 20usize..95).prop_map(
        |(one, odd, other, turn)| {
            let mut looks: Vec<Look> = (0..95).map(|k| if k < turn { one } else { other }).collect();
            for (at, look) in odd {
                looks[at] = look;
            }
            looks
        },
    )
}

fn any_series() -> impl Strategy<Value = Vec<Slot>> {
    let slot = (prop_oneof![8 => 0u64..30, 1 => 30u64..100, 1 => 100u64..260], 1u64..60, 0u64..30);
    (any_looks(), proptest::collection::vec(slot, 95)).prop_map(|(looks, times)| {
        let slot = |(k, (look, (late, took, lag))): (usize, (Look, (u64, u64, u64)))| {
            // The baseline, up to the fault, gives A, so that there is a value to compare with.
            let baseline = k < 22;
            let look = if baseline && look != Look::Missing { Look::A } else { look };
            Slot { late, took: if look == Look::Timeout { TIMEOUT } else { took }, lag, look }
        };
        looks.into_iter().zip(times).enumerate().map(slot).collect()
    })
}

/// Any world with sound proofs.
pub fn any_world() -> impl Strategy<Value = World> {
    let series = proptest::collection::vec((0u64..INTERVAL, any_series()), 1..4);
    let may_be_lost = prop_oneof![2 => Just(0u64), 1 => 1u64..4];
    (any_claim(), any_edges(), may_be_lost, series).prop_map(
        |((operator, spec), (phase, from, to), may_be_lost, series)| World {
            operator,
            spec,
            phase,
            from,
            to,
            interval: INTERVAL,
            may_be_lost,
            series: series.into_iter().enumerate().map(|(i, (off, s))| (format!("node{i}"), off, s)).collect(),
            proofs: sound(),
            disturbed: vec![],
            contended: vec![],
            unsupported: None,
            victim: Role::Worker,
            origin: 7_000_000,
        },
    )
}

/// Any world with sound proofs in which everything is on time.
pub fn punctual_world() -> impl Strategy<Value = World> {
    any_world().prop_map(|mut world| {
        for slot in world.series.iter_mut().flat_map(|(_, _, slots)| slots) {
            slot.late = slot.late.min(29);
        }
        world
    })
}
