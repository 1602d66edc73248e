//! One thing wrong at a time, and the reason that must be given for it. Also what is reported about windows, deadlines
//! and outages.

use std::time::Duration;

use kchaos::clock::Mono;
use kchaos::event::{Checkpoint, Disturbance, End, Event, EventKind, Interruption, Phase};
use kchaos::plan::{Edge, Operator, PlannedFault};
use kchaos::run_history::{History, IllegalHistory, Interval};
use kchaos::sample::{Failure, Outcome, Sample, Value};
use kchaos::scenario::{ApiVerb, Arm, Expect, FaultSpec, ProbeSpec};
use kchaos::verdict::{Finding, Reason, Verdict, mitigations, outages, outlook, settled};

use super::world::*;

const ANSWERS: Expect = Expect::Answers(true);
const INCONCLUSIVE: Verdict = Verdict::Inconclusive;

/// Every request is answered, throughout the fault, from two nodes.
fn answered() -> World {
    World::uniform(Operator::Always(ANSWERS), requests(), Look::A, &["node0", "node1"])
}

/// The events before the first that satisfies the condition.
fn until(events: &[Event], is: impl Fn(&EventKind) -> bool) -> Vec<Event> {
    events.iter().take_while(|e| !is(&e.kind)).cloned().collect()
}

fn then(mut events: Vec<Event>, kinds: impl IntoIterator<Item = EventKind>) -> Vec<Event> {
    for kind in kinds {
        let at = events.iter().map(|e| e.at).max().unwrap() + Duration::from_millis(1);
        events.push(Event { at, kind });
    }
    events
}

fn is(finding: &Finding, verdict: Verdict, reason: Reason) {
    assert_eq!((finding.verdict, finding.reason), (verdict, reason), "{}", finding.because);
}

#[test]
fn a_sound_run_is_upheld() {
    is(&answered().finding(), Verdict::Upheld, Reason::Held);
}

#[test]
fn a_fault_that_never_landed_is_no_effect() {
    let never = answered().with(|w| w.proofs[1].1 = Some(vec![Some(false)]));
    is(&never.finding(), INCONCLUSIVE, Reason::NoEffect);
    let unseen = answered().with(|w| w.proofs[1].1 = Some(vec![Some(true), None]));
    is(&unseen.finding(), INCONCLUSIVE, Reason::NoEffect);
    let nobody = answered().with(|w| w.proofs[1].1 = Some(vec![]));
    is(&nobody.finding(), INCONCLUSIVE, Reason::NoEffect);
    let before = answered().with(|w| w.proofs[1].0 = INJECTING - 41);
    is(&before.finding(), INCONCLUSIVE, Reason::NoEffect);
}

#[test]
fn a_witness_that_is_always_true_is_found_out_in_the_baseline() {
    let stuck = answered().with(|w| w.proofs[0].1 = Some(vec![Some(false), Some(true)]));
    is(&stuck.finding(), INCONCLUSIVE, Reason::EffectInBaseline);
    let unasked = answered().with(|w| w.proofs[0].1 = None);
    is(&unasked.finding(), INCONCLUSIVE, Reason::NoEffect);
    let asked_too_late = answered().with(|w| w.proofs[0].0 = INJECTING);
    is(&asked_too_late.finding(), INCONCLUSIVE, Reason::NoEffect);
}

#[test]
fn a_fault_that_healed_is_not_held() {
    let healed = answered().with(|w| w.proofs[2].1 = Some(vec![Some(true), Some(false)]));
    is(&healed.finding(), INCONCLUSIVE, Reason::EffectNotHeld);
    let undone_first = answered().with(|w| w.proofs[2].0 = UNDOING);
    is(&undone_first.finding(), INCONCLUSIVE, Reason::EffectNotHeld);
    let unasked = answered().with(|w| w.proofs[2].1 = None);
    is(&unasked.finding(), INCONCLUSIVE, Reason::EffectNotHeld);
}

/// The undo begins 3.81 s after the injection began. The witnesses look from 3.95 s to 3.99 s and see that the outage
/// is over.
#[test]
fn an_outage_that_was_to_end_in_time_counts_only_if_it_was_seen_to() {
    let planned = |world: &World, within: u64| {
        let mut events = world.events();
        for event in &mut events {
            if let EventKind::Started { plan, .. } = &mut event.kind {
                plan.over_within = Some(Duration::from_millis(within));
            }
        }
        events
    };
    let in_time = |world: &World, within: u64| finding(&planned(world, within));
    let fault = answered();
    is(&in_time(&fault, UNDOING - INJECTING), Verdict::Upheld, Reason::Held);
    is(&in_time(&fault, UNDOING - INJECTING - 1), INCONCLUSIVE, Reason::LastedTooLong);
    let recovery = fault.with(|w| w.phase = Phase::Recovery);
    is(&in_time(&recovery, UNDOING - INJECTING), INCONCLUSIVE, Reason::LastedTooLong);
    is(&in_time(&recovery, 4_000), Verdict::Upheld, Reason::Held);
    // This holds whatever the samples say: what Kubernetes did about a longer outage is no evidence against the claim.
    let noticed = recovery.with(|w| w.series[0].2[80].look = Look::Refused);
    is(&in_time(&noticed, 4_000), Verdict::Refuted, Reason::Counterexample);
    is(&in_time(&noticed, UNDOING - INJECTING), INCONCLUSIVE, Reason::LastedTooLong);
    let baseline = fault.with(|w| w.phase = Phase::Baseline);
    is(&in_time(&baseline, 1), Verdict::Upheld, Reason::Held);
    // A record that ends before the undo does not say how long it was.
    let cut = until(&planned(&fault, 4_000), |k| matches!(k, EventKind::Undoing { .. }));
    is(&finding(&cut), INCONCLUSIVE, Reason::Interrupted);
}

/// Another status is another answer, and so is a good one. Whoever gets no answer is not told why.
#[test]
fn a_refusal_is_known_by_its_status() {
    let asked = ProbeSpec::Api(ApiVerb::Read);
    let world = World::uniform(Operator::Always(Expect::Status(403)), asked, Look::Refused, &["api"]);
    let forbidden_but_for = |nth: std::ops::Range<usize>, other: Outcome| {
        let mut events = world.events();
        let samples = events.iter_mut().filter_map(|event| match &mut event.kind {
            EventKind::Sampled(sample) => Some(sample),
            _ => None,
        });
        for (n, sample) in samples.enumerate() {
            sample.outcome = if nth.contains(&n) { other.clone() } else { Outcome::Failed(Failure::Status(403)) };
        }
        finding(&events)
    };
    let answer = |status| Outcome::Failed(Failure::Status(status));
    is(&forbidden_but_for(40..41, answer(403)), Verdict::Upheld, Reason::Held);
    is(&forbidden_but_for(40..41, answer(500)), Verdict::Refuted, Reason::Counterexample);
    is(&forbidden_but_for(40..41, Outcome::Saw(Value::Text("read".into()))), Verdict::Refuted, Reason::Counterexample);
    is(&forbidden_but_for(0..1_000, Outcome::Failed(Failure::Refused)), INCONCLUSIVE, Reason::Gaps);
}

#[test]
fn recovery_is_judged_only_when_the_effect_is_gone() {
    let recovery = answered().with(|w| w.phase = Phase::Recovery);
    is(&recovery.finding(), Verdict::Upheld, Reason::Held);
    is(&recovery.with(|w| w.proofs[3].1 = Some(vec![Some(true)])).finding(), INCONCLUSIVE, Reason::NotUndone);
    is(&recovery.with(|w| w.proofs[3].1 = None).finding(), INCONCLUSIVE, Reason::NotUndone);
    is(&recovery.with(|w| w.proofs[3].0 = UNDOING - 1).finding(), INCONCLUSIVE, Reason::NotUndone);
    is(&recovery.with(|w| w.proofs[2].1 = Some(vec![Some(false)])).finding(), INCONCLUSIVE, Reason::EffectNotHeld);
    let failed = EventKind::UndoFailed { fault: 0, step: 0, error: "no".into(), by_hand: "docker start".into() };
    is(&finding(&then(recovery.events(), [failed])), INCONCLUSIVE, Reason::NotUndone);
    let broken_off = until(&recovery.events(), |k| *k == EventKind::Phase(Phase::Recovery));
    is(&finding(&broken_off), INCONCLUSIVE, Reason::Interrupted);
}

/// The same run with a remedy between the fault and its undo, a second long. The remedy begins at 6,050 ms and is done,
/// or given up, 10 ms later.
fn remedied(world: &World, error: Option<&str>) -> Vec<Event> {
    let mut events = world.with(|w| w.proofs[3].0 += 1_000).events();
    for event in &mut events {
        if let EventKind::Phase(Phase::Undo | Phase::Recovery) | EventKind::Undoing { .. } | EventKind::Undone { .. } =
            event.kind
        {
            event.at = event.at + Duration::from_secs(1);
        }
    }
    let error = error.map(str::to_owned);
    for (ms, kind) in [
        (6_050, EventKind::Phase(Phase::Remedy)),
        (6_050, EventKind::Remedying { fault: 0 }),
        (6_060, EventKind::Remedied { fault: 0, error }),
    ] {
        events.push(Event { at: world.at(ms), kind });
    }
    events.sort_by_key(|e| e.at);
    events
}

#[test]
fn what_follows_from_a_remedy_is_judged_only_if_it_was_done() {
    let world = answered().with(|w| w.phase = Phase::Remedy);
    let found = finding(&remedied(&world, None));
    is(&found, Verdict::Upheld, Reason::Held);
    assert!(found.observed.starts_with("20 of 20"), "{}", found.observed);
    let failed = finding(&remedied(&world, Some("there is no snapshot")));
    is(&failed, INCONCLUSIVE, Reason::NotRemedied);
    assert!(failed.because.contains("there is no snapshot"), "{}", failed.because);
    let under_way = until(&remedied(&world, None), |k| matches!(k, EventKind::Remedied { .. }));
    is(&finding(&under_way), INCONCLUSIVE, Reason::Interrupted);
    let never_begun = world.events();
    is(&finding(&never_begun), INCONCLUSIVE, Reason::Interrupted);
    let healed = world.with(|w| w.proofs[2].1 = Some(vec![Some(false)]));
    is(&finding(&remedied(&healed, None)), INCONCLUSIVE, Reason::EffectNotHeld);
}

#[test]
fn the_remedy_is_a_phase_of_its_own() {
    let refused = |at: u64, phase| {
        let world = answered().with(|w| w.phase = phase);
        let slot = usize::try_from((at - FIRST_SLOT) / INTERVAL).unwrap();
        finding(&remedied(&world.edit(0, slot, |s| s.look = Look::Refused), None)).verdict
    };
    // A sample of the fault phase, one of the remedy phase, and one of the recovery.
    for (at, contradicts) in [(4_020, Phase::Fault), (6_520, Phase::Remedy), (8_020, Phase::Recovery)] {
        for phase in [Phase::Fault, Phase::Remedy, Phase::Recovery] {
            let expected = if phase == contradicts { Verdict::Refuted } else { Verdict::Upheld };
            assert_eq!(refused(at, phase), expected, "a refusal at {at} ms, judged in {phase:?}");
        }
    }
}

#[test]
fn a_remedy_that_failed_takes_nothing_from_what_was_seen_of_the_fault() {
    is(&finding(&remedied(&answered(), Some("no"))), Verdict::Upheld, Reason::Held);
}

#[test]
fn a_run_without_steady_state_says_so_and_what_was_not_steady() {
    let world = answered().with(|w| w.series[1].2.iter_mut().for_each(|s| s.look = Look::Refused));
    let baseline = until(&world.events(), |k| *k == EventKind::Phase(Phase::Fault));
    let ended = then(baseline.clone(), [EventKind::Phase(Phase::Cleanup), EventKind::Finished(End::Clean)]);
    let found = finding(&ended);
    is(&found, INCONCLUSIVE, Reason::NoSteadyState);
    assert!(found.because.contains("requests to web (node1): unanswered (connection refused)"), "{}", found.because);
    assert!(!found.because.contains("node0"), "{}", found.because);
    is(&finding(&baseline), INCONCLUSIVE, Reason::Interrupted);
    let cut =
        then(baseline, [EventKind::Interrupted(Interruption::signal("SIGINT")), EventKind::Phase(Phase::Cleanup)]);
    let found = finding(&cut);
    is(&found, INCONCLUSIVE, Reason::Interrupted);
    assert!(found.because.contains("SIGINT"), "{}", found.because);
}

#[test]
fn a_run_cut_short_in_the_fault_is_interrupted_however_good_it_looked() {
    for is_window_end in [true, false] {
        let stop = |k: &EventKind| match k {
            EventKind::Witnessed(p) => is_window_end && p.checkpoint == kchaos::event::Checkpoint::WindowEnd,
            EventKind::Injected { .. } => !is_window_end,
            _ => false,
        };
        let cut = then(
            until(&answered().events(), stop),
            [
                EventKind::Interrupted(Interruption::signal("SIGTERM")),
                EventKind::Undoing { fault: 0, step: 0 },
                EventKind::Undone { fault: 0, step: 0 },
                EventKind::Phase(Phase::Cleanup),
                EventKind::Finished(End::Clean),
            ],
        );
        is(&finding(&cut), INCONCLUSIVE, Reason::Interrupted);
    }
}

#[test]
fn a_claim_about_the_baseline_needs_no_fault() {
    let world = answered().with(|w| w.phase = Phase::Baseline);
    is(&world.finding(), Verdict::Upheld, Reason::Held);
    let no_effect = world.with(|w| w.proofs[1].1 = Some(vec![Some(false)]));
    is(&no_effect.finding(), Verdict::Upheld, Reason::Held);
    let futile = until(&world.events(), |k| *k == EventKind::Phase(Phase::Fault));
    is(&finding(&then(futile, [EventKind::Phase(Phase::Cleanup)])), INCONCLUSIVE, Reason::Interrupted);
}

#[test]
fn a_plan_without_faults_proves_nothing() {
    let mut events = answered().events();
    events.retain(|e| {
        !matches!(
            e.kind,
            EventKind::Injecting { .. }
                | EventKind::Injected { .. }
                | EventKind::Witnessed(_)
                | EventKind::Undoing { .. }
                | EventKind::Undone { .. }
        )
    });
    if let EventKind::Started { plan, .. } = &mut events[0].kind {
        plan.faults.clear();
    }
    is(&finding(&events), INCONCLUSIVE, Reason::NoEffect);
}

/// The same run with a second fault that went in and was seen just like the first.
fn and_a_second(events: &[Event]) -> Vec<Event> {
    let second = events.iter().filter_map(|e| {
        let kind = match e.kind.clone() {
            EventKind::Injecting { .. } => EventKind::Injecting { fault: 1 },
            EventKind::Injected { error, .. } => EventKind::Injected { fault: 1, error },
            EventKind::Witnessed(mut p) => {
                p.fault = 1;
                EventKind::Witnessed(p)
            }
            _ => return None,
        };
        Some(Event { at: e.at, kind })
    });
    events.iter().cloned().chain(second.collect::<Vec<_>>()).collect()
}

/// Nobody can look into a frozen node, and nothing changes there.
#[test]
fn a_fault_that_another_one_shuts_in_lasts_as_long_as_that_one() {
    let run = |first: FaultSpec, of_one_node: bool| {
        let mut events = answered().events();
        if let EventKind::Started { plan, .. } = &mut events[0].kind {
            let mut second = PlannedFault::of(FaultSpec::Pause { node: "a".into() }, plan.faults[0].node.clone());
            if !of_one_node {
                second.node.id = "another".into();
            }
            plan.faults[0].spec = first;
            plan.faults.push(second);
        }
        and_a_second(&events)
    };
    let unseen = |fault: usize, mut events: Vec<Event>| {
        events.retain(|e| !matches!(&e.kind, EventKind::Witnessed(p) if p.fault == fault && p.checkpoint == Checkpoint::WindowEnd));
        finding(&events)
    };
    let stopped = || FaultSpec::KubeletStop { node: "a".into() };
    is(&finding(&run(stopped(), true)), Verdict::Upheld, Reason::Held);
    is(&unseen(0, run(stopped(), true)), Verdict::Upheld, Reason::Held);
    is(&unseen(1, run(stopped(), true)), INCONCLUSIVE, Reason::EffectNotHeld);
    is(&unseen(0, run(stopped(), false)), INCONCLUSIVE, Reason::EffectNotHeld);
    // A fault that is not inside the node can still be seen from elsewhere.
    is(&unseen(0, run(FaultSpec::Drain { nodes: vec!["a".into()] }, true)), INCONCLUSIVE, Reason::EffectNotHeld);
}

#[test]
fn of_two_faults_both_must_be_proven() {
    let mut events = answered().events();
    if let EventKind::Started { plan, .. } = &mut events[0].kind {
        let second = plan.faults[0].clone();
        plan.faults.push(second);
    }
    is(&finding(&events), INCONCLUSIVE, Reason::NoSteadyState);
    let mut both = and_a_second(&events);
    is(&finding(&both), Verdict::Upheld, Reason::Held);
    for e in &mut both {
        if let EventKind::Witnessed(p) = &mut e.kind
            && p.fault == 1
        {
            p.witnesses[0].effect = Some(false);
        }
    }
    is(&finding(&both), INCONCLUSIVE, Reason::NoEffect);
}

#[test]
fn of_two_faults_the_second_is_not_tried_if_the_first_was_not_seen() {
    let mut events = answered().events();
    for event in &mut events {
        match &mut event.kind {
            EventKind::Started { plan, .. } => plan.faults.push(plan.faults[0].clone()),
            EventKind::Witnessed(p) if p.checkpoint == Checkpoint::Injected => p.witnesses[0].effect = Some(false),
            _ => {}
        }
    }
    is(&finding(&events), INCONCLUSIVE, Reason::NoEffect);
}

/// The witnesses may see only half of a fault.
#[test]
fn a_fault_that_could_not_be_put_in_is_none_whatever_is_seen_of_it() {
    let mut events = answered().events();
    is(&finding(&events), Verdict::Upheld, Reason::Held);
    for event in &mut events {
        if let EventKind::Injected { error, .. } = &mut event.kind {
            *error = Some("no room".into());
        }
    }
    let found = finding(&events);
    is(&found, INCONCLUSIVE, Reason::NoEffect);
    assert!(found.because.contains("no room"), "{found:?}");
}

/// Kubernetes reacts to the loss of a node, not to what an operator did before.
#[test]
fn what_follows_from_lost_nodes_counts_from_the_faults_that_hide_them() {
    let events = answered().events();
    let counted = |events: &[Event]| {
        let history = History::replay(events).unwrap();
        (history.cause(Phase::Fault).unwrap(), history.loss_of_nodes().unwrap())
    };
    let (cause, loss) = counted(&events);
    assert_eq!(cause, loss);
    let before = Mono(cause.start.0 - 1_000_000);
    let mut events = drained_at(&events, before);
    assert_eq!(counted(&events), (Interval { start: before, end: cause.end }, loss));
    // If both faults hide nodes, both count.
    if let EventKind::Started { plan, .. } = &mut events[0].kind {
        plan.faults[1].spec = plan.faults[0].spec.clone();
    }
    let (cause, loss) = counted(&events);
    assert_eq!(cause, loss);
}

#[test]
fn other_windows_count_from_the_last_fault_whatever_it_is() {
    // Broken from the middle of the fault until 500 ms after the drain, which comes 300 ms after the loss of the node.
    let world = World::uniform(Operator::Always(is_a()), ready(), Look::A, &[""]).with(|w| w.from = after(500));
    let (first, drain) = (world.times(0, 26).0, INJECTED + 300);
    let world = world.edit(0, 30, |s| s.look = Look::B);
    let seen = world.times(0, 30).0;
    assert!(first < seen && INJECTED + 500 < seen && seen < drain + 500);
    let judged = |follows_lost_nodes| {
        let mut events = drained_at(&world.events(), world.at(drain));
        if let EventKind::Started { plan, .. } = &mut events[0].kind {
            plan.claims[0].window.follows_lost_nodes = follows_lost_nodes;
        }
        finding(&events)
    };
    is(&judged(true), Verdict::Refuted, Reason::Counterexample);
    is(&judged(false), Verdict::Upheld, Reason::Held);
}

#[test]
fn witnesses_that_agree_in_the_end_were_only_asked_too_early_before() {
    let early = EventKind::Witnessed(kchaos::event::Proof {
        fault: 0,
        checkpoint: kchaos::event::Checkpoint::Injected,
        witnesses: vec![kchaos::event::Witness {
            what: "pid".into(),
            seen: "there".into(),
            effect: Some(false),
            from: answered().at(INJECTED + 1),
            to: answered().at(INJECTED + 20),
        }],
    });
    let mut events = answered().events();
    events.push(Event { at: answered().at(INJECTED + 21), kind: early });
    is(&finding(&events), Verdict::Upheld, Reason::Held);
}

#[test]
fn a_disturbance_counts_where_the_claim_looks() {
    let disturbed = |ms, what| answered().with(|w| w.disturbed.push((ms, what))).finding();
    let removed = || Disturbance::NodeRemoved("worker".into());
    is(&disturbed(4_000, removed()), INCONCLUSIVE, Reason::Disturbed);
    // It is noticed later than it happens.
    is(&disturbed(LAST_LOOK + 1, removed()), INCONCLUSIVE, Reason::Disturbed);
    is(&disturbed(1_000, removed()), Verdict::Upheld, Reason::Held);
    is(&disturbed(2_500, Disturbance::GoneOff("worker".into())), INCONCLUSIVE, Reason::Disturbed);
    is(&disturbed(500, Disturbance::GoneOff("worker".into())), INCONCLUSIVE, Reason::Disturbed);
    // A claim that compares with the baseline needs the baseline undisturbed too.
    let unchanged = answered().with(|w| {
        w.operator = Operator::Unchanged;
        w.disturbed.push((1_000, removed()));
    });
    is(&unchanged.finding(), INCONCLUSIVE, Reason::Disturbed);
}

#[test]
fn a_timeout_of_an_observer_that_came_late_decides_nothing() {
    let world = answered().edit(0, 40, |s| (s.look, s.took) = (Look::Timeout, TIMEOUT));
    is(&world.finding(), Verdict::Refuted, Reason::Counterexample);
    // Begun more than an interval late: nobody was looking.
    let late = world.edit(0, 40, |s| s.late = INTERVAL + 1);
    is(&late.finding(), INCONCLUSIVE, Reason::Starved);
    is(&world.edit(0, 40, |s| s.late = INTERVAL).finding(), Verdict::Refuted, Reason::Counterexample);
}

/// On a machine that is too busy to look, Kubernetes is too busy to answer.
#[test]
fn a_timeout_beside_a_starved_sample_decides_nothing() {
    let long = INTERVAL + 5;
    let timeout = answered().edit(0, 40, |s| (s.look, s.took) = (Look::Timeout, long));
    is(&timeout.finding(), Verdict::Refuted, Reason::Counterexample);
    for (slot, verdict) in [(41, INCONCLUSIVE), (39, INCONCLUSIVE), (60, Verdict::Refuted)] {
        let starved = timeout.edit(0, slot, |s| (s.look, s.took) = (Look::Starved, long));
        assert_eq!(starved.finding().verdict, verdict, "{slot}");
    }
    // An answer, or a refusal, is one whenever it comes.
    let refused = timeout.edit(0, 40, |s| (s.look, s.took) = (Look::Refused, 5));
    let starved = refused.edit(0, 41, |s| (s.look, s.took) = (Look::Starved, long));
    is(&starved.finding(), Verdict::Refuted, Reason::Counterexample);
}

/// Observers and cluster share one machine, so what starves one of them starves the others, and whom they ask.
#[test]
fn a_timeout_refutes_nothing_while_another_observer_is_starved() {
    let long = INTERVAL + 5;
    let timeout = answered().edit(0, 40, |s| (s.look, s.took) = (Look::Timeout, long));
    let beside = |slot| timeout.edit(1, slot, |s| (s.look, s.took) = (Look::Starved, long));
    for (slot, verdict) in [(40, INCONCLUSIVE), (39, INCONCLUSIVE), (60, Verdict::Refuted)] {
        assert_eq!(beside(slot).finding().verdict, verdict, "{slot}");
    }
    let contended = |from, to| timeout.with(|w| w.contended.push((from, to, 50)));
    let due = FIRST_SLOT + 40 * INTERVAL;
    for ((from, to), verdict) in [
        ((due - 900, due), INCONCLUSIVE),
        ((due + long, due + 900), INCONCLUSIVE),
        ((due - 900, due - 1), Verdict::Refuted),
    ] {
        assert_eq!(contended(from, to).finding().verdict, verdict, "from {from} to {to}");
    }
    // Nor does it count for the claim, even where so short a time may go unseen.
    let tolerant = contended(due - 900, due).with(|w| w.may_be_lost = 9);
    is(&tolerant.finding(), INCONCLUSIVE, Reason::Starved);
    is(&tolerant.with(|w| w.contended.clear()).finding(), Verdict::Refuted, Reason::Counterexample);
    let refused = beside(40).edit(0, 40, |s| (s.look, s.took) = (Look::Refused, 5));
    is(&refused.finding(), Verdict::Refuted, Reason::Counterexample);
    // That nobody answers is no less so.
    let silent = World::uniform(Operator::Never(Expect::Answers(true)), requests(), Look::Timeout, &["node0", "node1"]);
    let starved = silent.edit(1, 41, |s| (s.look, s.took) = (Look::Starved, 5));
    is(&silent.finding(), Verdict::Upheld, Reason::Held);
    assert_eq!(starved.edit(1, 41, |s| s.look = Look::Timeout).finding().verdict, Verdict::Upheld);
    is(&starved.edit(0, 41, |s| s.look = Look::A).finding(), Verdict::Refuted, Reason::Counterexample);
}

/// Who says that he waited in vain has been seen to give no answer, also by an observer that began late. Why he did is as
/// open as after any other silence.
#[test]
fn a_gateway_that_gives_up_gives_no_answer_and_may_be_excused() {
    let long = INTERVAL + 5;
    let gave_up = answered().edit(0, 40, |s| (s.look, s.took) = (Look::GaveUp, long));
    is(&gave_up.finding(), Verdict::Refuted, Reason::Counterexample);
    let starved = gave_up.edit(1, 40, |s| (s.look, s.took) = (Look::Starved, long));
    is(&starved.finding(), INCONCLUSIVE, Reason::Starved);
    let beside = gave_up.edit(0, 41, |s| (s.look, s.took) = (Look::Starved, long));
    is(&beside.finding(), INCONCLUSIVE, Reason::Starved);
    is(&gave_up.edit(0, 40, |s| s.late = INTERVAL + 1).finding(), INCONCLUSIVE, Reason::Starved);
    let busy = |slots: usize| {
        answered().with(|w| {
            w.series[0].2[25..25 + slots].iter_mut().for_each(|s| (s.look, s.took) = (Look::GaveUp, TIMEOUT));
            w.contended.push((PROVEN, LAST_LOOK, 40));
        })
    };
    is(&busy(33).finding(), INCONCLUSIVE, Reason::Starved);
    is(&busy(34).finding(), Verdict::Refuted, Reason::Counterexample);
    // That nobody answers is seen, although the observer was late.
    let no_answers = |look| World::uniform(Operator::Never(Expect::Answers(true)), requests(), look, &["node0"]);
    for (look, verdict) in [(Look::GaveUp, Verdict::Upheld), (Look::Timeout, INCONCLUSIVE)] {
        assert_eq!(no_answers(look).edit(0, 40, |s| s.late = INTERVAL + 1).finding().verdict, verdict, "{look:?}");
    }
}

/// A machine of which half is taken is slow, and not dead.
#[test]
fn a_silence_refutes_if_it_was_longer_than_a_busy_machine_explains() {
    let silent = |slots: u64, percent| {
        answered().with(|w| {
            let slots = 25..25 + usize::try_from(slots).unwrap();
            w.series[0].2[slots].iter_mut().for_each(|s| (s.look, s.took) = (Look::Timeout, TIMEOUT));
            w.contended.push((PROVEN, LAST_LOOK, percent));
        })
    };
    is(&silent(20, 40).finding(), INCONCLUSIVE, Reason::Starved);
    // 3.3 s, of which 1.3 s were lost; windows allow 2 s in any case.
    is(&silent(33, 40).finding(), INCONCLUSIVE, Reason::Starved);
    is(&silent(34, 40).finding(), Verdict::Refuted, Reason::Counterexample);
    is(&silent(34, 50).finding(), INCONCLUSIVE, Reason::Starved);
}

#[test]
fn a_sample_known_too_late_refutes_but_does_not_cover() {
    let too_late = INTERVAL + TIMEOUT + 1;
    let good = answered().edit(1, 40, |s| (s.late, s.took) = (too_late - 5, 5));
    is(&good.finding(), INCONCLUSIVE, Reason::Starved);
    is(&good.edit(1, 40, |s| s.late -= 1).finding(), Verdict::Upheld, Reason::Held);
    is(&good.edit(1, 40, |s| s.look = Look::Refused).finding(), Verdict::Refuted, Reason::Counterexample);
}

#[test]
fn a_timeout_may_come_late_since_a_starved_observer_waits_for_longer() {
    let silent = World::uniform(Operator::Never(Expect::Answers(true)), requests(), Look::Timeout, &["node0"])
        .with(|w| w.phase = Phase::Fault);
    is(&silent.finding(), Verdict::Upheld, Reason::Held);
    let long = 2 * (INTERVAL + TIMEOUT);
    is(&silent.edit(0, 40, |s| s.took = long).finding(), Verdict::Upheld, Reason::Held);
    is(&silent.edit(0, 40, |s| s.took = long + 1).finding(), INCONCLUSIVE, Reason::Starved);
    let refused = |took| silent.edit(0, 40, |s| (s.look, s.took) = (Look::Refused, took)).finding();
    is(&refused(INTERVAL + TIMEOUT), Verdict::Upheld, Reason::Held);
    is(&refused(INTERVAL + TIMEOUT + 1), INCONCLUSIVE, Reason::Starved);
}

#[test]
fn a_sample_that_straddles_an_edge_covers_unless_it_failed_and_decides_nothing() {
    let world = answered();
    let (from, to) = world.window();
    let slot_across = |edge: u64| {
        let (_, offset, _) = &world.series[0];
        let k = usize::try_from((edge - FIRST_SLOT - offset) / INTERVAL).unwrap();
        let (due, ..) = world.times(0, k);
        (k, edge - due)
    };
    // Due in the window, and known one moment after it or at its last moment.
    let (last, room) = slot_across(to);
    let bad = |took| world.edit(0, last, |s| (s.look, s.late, s.took) = (Look::Refused, 0, took));
    is(&bad(room + 1).finding(), INCONCLUSIVE, Reason::Gaps);
    is(&bad(room).finding(), Verdict::Refuted, Reason::Counterexample);
    let good = |took| world.edit(0, last, |s| (s.late, s.took) = (0, took));
    is(&good(room + 1).finding(), Verdict::Upheld, Reason::Held);
    // Begun before the window, known during it.
    let (before, room) = slot_across(from - 1);
    let bad = world.edit(0, before, |s| (s.look, s.late, s.took) = (Look::Refused, 0, room + 2));
    is(&bad.finding(), Verdict::Upheld, Reason::Held);
}

#[test]
fn as_many_slots_in_a_row_may_be_lost_as_the_resolution_allows() {
    let losing = |may_be_lost, slots: &[usize]| {
        let mut world = answered().with(|w| w.may_be_lost = may_be_lost);
        for &k in slots {
            world = world.edit(0, k, |s| s.look = Look::Missing);
        }
        world.finding()
    };
    is(&losing(0, &[40]), INCONCLUSIVE, Reason::Gaps);
    is(&losing(2, &[40, 41, 43, 44]), Verdict::Upheld, Reason::Held);
    is(&losing(2, &[40, 41, 42]), INCONCLUSIVE, Reason::Gaps);
    let three = Duration::from_millis(3 * INTERVAL);
    assert_eq!(losing(2, &[40, 41]).unseen, Some(three));
    assert_eq!(losing(2, &[40]).unseen, Some(Duration::from_millis(2 * INTERVAL)));
}

#[test]
fn a_window_shorter_than_the_resolution_still_needs_a_sample() {
    let world = answered().with(|w| (w.may_be_lost, w.from, w.to) = (9, after(1_000), after(1_300)));
    let inside = world.inside();
    let blind = |keep: usize| {
        world.with(|w| inside.iter().skip(keep).for_each(|&(i, k)| w.series[i].2[k].look = Look::Missing)).finding()
    };
    is(&blind(inside.len()), Verdict::Upheld, Reason::Held);
    is(&blind(0), INCONCLUSIVE, Reason::Gaps);
    // A series that saw something does not stand in for the other.
    is(&blind(1), INCONCLUSIVE, Reason::Gaps);
}

#[test]
fn nothing_is_lost_as_long_as_it_may_be_on_its_way() {
    // The window's last sample, a bad one, takes long to arrive.
    let world = answered().with(|w| (w.may_be_lost, w.to) = (1, after(1_500)));
    let (_, to) = world.window();
    let last = usize::try_from((to - FIRST_SLOT) / INTERVAL).unwrap();
    let world = world.edit(0, last, |s| (s.look, s.lag) = (Look::Refused, 250));
    let events = world.events();
    let outlook = |ms| {
        let so_far: Vec<Event> = events.iter().filter(|e| e.at <= world.at(ms)).cloned().collect();
        outlook(&History::replay(&so_far).unwrap()).remove(0).reason
    };
    assert_eq!(outlook(to + 100), Reason::Gaps);
    assert_eq!(outlook(to + 300), Reason::Counterexample);
    let lost = world.edit(0, last, |s| s.look = Look::Missing);
    is(&lost.finding(), Verdict::Upheld, Reason::Held);
}

#[test]
fn a_missing_slot_is_a_gap_wherever_it_is() {
    let world = answered();
    let (from, to) = world.window();
    for (i, k) in world.places() {
        let (due, ..) = world.times(i, k);
        let expected =
            if due >= from && due <= to { (INCONCLUSIVE, Reason::Gaps) } else { (Verdict::Upheld, Reason::Held) };
        assert_eq!(world.edit(i, k, |s| s.look = Look::Missing).reason(), expected, "slot {k}, due at {due}");
    }
}

#[test]
fn an_announced_series_that_says_nothing_is_a_gap_and_a_late_stranger_is_not() {
    let silent = answered().with(|w| w.series.push(("node2".into(), 0, vec![])));
    is(&silent.finding(), INCONCLUSIVE, Reason::NoSamples);
    // It has samples only after the window.
    let late = answered().with(|w| {
        let mut slots = w.series[0].2.clone();
        slots.iter_mut().take(70).for_each(|s| s.look = Look::Missing);
        w.series.push(("node2".into(), 0, slots));
    });
    is(&late.finding(), INCONCLUSIVE, Reason::Gaps);
    let mut events = late.events();
    for e in &mut events {
        if let EventKind::Watching { series } = &mut e.kind {
            series.get_mut(&0).unwrap().pop();
        }
    }
    is(&finding(&events), Verdict::Upheld, Reason::Held);
}

#[test]
fn the_length_of_the_injecting_call_never_refutes() {
    // Broken from 500 ms after the *beginning* of the call; the call ends 50 ms after its beginning.
    let broken = |operator, from, to, turn: u64| {
        let world = World::uniform(operator, ready(), Look::A, &[""]).with(|w| (w.from, w.to) = (from, to));
        world.with(|w| {
            for k in 0..95 {
                let (due, ..) = w.times(0, k);
                if due >= turn {
                    w.series[0].2[k].look = Look::B;
                }
            }
        })
    };
    let always = broken(Operator::Always(is_a()), Edge::PhaseStart, after(500), INJECTING + 510);
    is(&always.finding(), Verdict::Upheld, Reason::Held);
    let from_then_on = broken(Operator::Always(Expect::Is("b".into())), after(500), Edge::PhaseEnd, INJECTED + 470);
    is(&from_then_on.finding(), Verdict::Upheld, Reason::Held);
    let by_then = broken(Operator::Eventually(Expect::Is("b".into())), Edge::PhaseStart, after(490), INJECTED + 469);
    is(&by_then.finding(), Verdict::Upheld, Reason::Happened);
}

#[test]
fn what_must_hold_throughout_must_hold_only_where_the_fault_is_proven() {
    let world = World::uniform(Operator::Always(is_a()), ready(), Look::A, &[""]).with(|w| w.from = after(0));
    let slot = (0..95).find(|k| world.times(0, *k).0 > INJECTED).unwrap();
    assert!(world.times(0, slot).2 < PROVEN);
    is(&world.edit(0, slot, |s| s.look = Look::B).finding(), Verdict::Upheld, Reason::Held);
    is(&world.edit(0, slot + 1, |s| s.look = Look::B).finding(), Verdict::Refuted, Reason::Counterexample);
}

#[test]
fn what_must_hold_from_the_injection_on_must_hold_while_the_fault_goes_in() {
    let world = World::uniform(Operator::Always(is_a()), ready(), Look::A, &[""]).with(|w| w.from = Edge::CauseStart);
    let slot = (0..95).find(|k| world.times(0, *k).0 >= INJECTING).unwrap();
    assert!(world.times(0, slot).2 < PROVEN);
    is(&world.edit(0, slot - 1, |s| s.look = Look::B).finding(), Verdict::Upheld, Reason::Held);
    is(&world.edit(0, slot, |s| s.look = Look::B).finding(), Verdict::Refuted, Reason::Counterexample);
}

#[test]
fn an_empty_window_decides_nothing_and_says_why() {
    for operator in
        [Operator::Always(is_a()), Operator::Never(is_a()), Operator::Eventually(is_a()), Operator::Unchanged]
    {
        let empty =
            World::uniform(operator, ready(), Look::A, &[""]).with(|w| (w.from, w.to) = (after(1_000), after(100)));
        is(&empty.finding(), INCONCLUSIVE, Reason::NoSamples);
        assert!(empty.finding().because.contains("the window is empty"), "{}", empty.finding().because);
    }
}

#[test]
fn a_window_that_outlasts_its_phase_is_not_over() {
    let world = World::uniform(Operator::Always(is_a()), ready(), Look::A, &[""]).with(|w| w.to = after(3_701));
    is(&world.finding(), INCONCLUSIVE, Reason::Interrupted);
    is(&world.with(|w| w.to = after(3_700)).finding(), Verdict::Upheld, Reason::Held);
}

#[test]
fn an_application_that_does_not_answer_has_not_lost_its_data() {
    let token = || ProbeSpec::Token { of: "keeper".into() };
    let lost = World::uniform(Operator::Never(Expect::AsBefore(true)), token(), Look::A, &["node0"]).with(|w| {
        w.phase = Phase::Recovery;
        for k in 22..95 {
            w.series[0].2[k].look = if k < 75 { Look::Refused } else { Look::B };
        }
    });
    is(&lost.finding(), Verdict::Upheld, Reason::Held);
    let never_back = lost.with(|w| {
        for k in 22..95 {
            w.series[0].2[k].look = Look::Refused;
        }
    });
    is(&never_back.finding(), INCONCLUSIVE, Reason::NoSamples);
    let kept = lost.with(|w| {
        for k in 75..95 {
            w.series[0].2[k].look = Look::A;
        }
    });
    is(&kept.finding(), Verdict::Refuted, Reason::Counterexample);
    // For what the API reports, an error says nothing.
    let believed =
        World::uniform(Operator::Always(is_a()), ready(), Look::A, &[""]).edit(0, 40, |s| s.look = Look::Refused);
    is(&believed.finding(), INCONCLUSIVE, Reason::Gaps);
}

#[test]
fn a_value_of_another_kind_decides_nothing() {
    let world = World::uniform(Operator::Always(Expect::Equals(0)), ready(), Look::A, &[""]);
    is(&world.finding(), INCONCLUSIVE, Reason::Gaps);
    assert!(world.finding().because.contains("another kind"), "{}", world.finding().because);
}

#[test]
fn a_phase_is_settled_when_nothing_more_can_be_learnt() {
    let now = |world: &World, ms: u64| {
        let events: Vec<Event> = world.events().into_iter().filter(|e| e.at <= world.at(ms)).collect();
        settled(&History::replay(&events).unwrap(), Phase::Fault)
    };
    // Waits only for the end of the phase.
    assert!(!now(&answered(), PROVEN - 10));
    assert!(now(&answered(), PROVEN + 300));
    // Waits for its window, and for the window's last samples.
    let bounded = answered().with(|w| w.to = after(1_500));
    assert!(!now(&bounded, INJECTING + 1_490));
    assert!(now(&bounded, INJECTING + 1_600));
    let gap = bounded.edit(0, 30, |s| s.look = Look::Missing);
    assert!(!now(&gap, INJECTING + 1_600));
    assert!(now(&gap, INJECTING + 2_000));
    // It happens, or it does not.
    let eventually = World::uniform(Operator::Eventually(Expect::Is("b".into())), ready(), Look::A, &[""]).with(|w| {
        w.to = after(2_000);
        for k in 35..95 {
            w.series[0].2[k].look = Look::B;
        }
    });
    assert!(!now(&eventually, eventually.times(0, 35).1));
    assert!(now(&eventually, eventually.times(0, 35).2));
    let never = eventually.with(|w| {
        for k in 35..95 {
            w.series[0].2[k].look = Look::A;
        }
    });
    assert!(!now(&never, INJECTED + 1_990));
    assert!(now(&never, INJECTED + 2_200));
    let open = never.with(|w| w.to = Edge::PhaseEnd);
    assert!(!now(&open, LAST_LOOK - 1));
    // A contradiction is final.
    let refuted = bounded.edit(1, 30, |s| s.look = Look::Refused);
    assert!(now(&refuted, refuted.times(1, 30).2));
    // There is nothing to wait for at all.
    assert!(now(&answered().with(|w| w.phase = Phase::Recovery), PROVEN));
    assert!(now(&never.with(|w| w.unsupported = Some("no netem".into())), 300));
}

#[test]
fn an_outlook_takes_for_granted_that_the_effect_lasts_and_nothing_else() {
    let world = World::uniform(Operator::Eventually(is_a()), ready(), Look::A, &[""]);
    let look = |world: &World| {
        let events: Vec<Event> = world.events().into_iter().filter(|e| e.at <= world.at(4_000)).collect();
        (outlook(&History::replay(&events).unwrap()).remove(0).verdict, finding(&events).verdict)
    };
    assert_eq!(look(&world), (Verdict::Upheld, INCONCLUSIVE));
    assert_eq!(look(&world.with(|w| w.proofs[1].1 = Some(vec![Some(false)]))), (INCONCLUSIVE, INCONCLUSIVE));
    let healed = world.with(|w| w.proofs[2].1 = Some(vec![Some(false)]));
    assert_eq!(outlook(&History::replay(&healed.events()).unwrap()).remove(0).verdict, INCONCLUSIVE);
}

#[test]
fn a_finding_tells_when_with_bounds_from_the_cause() {
    let world = World::uniform(Operator::Eventually(Expect::Is("b".into())), ready(), Look::A, &[""]).with(|w| {
        w.to = after(2_000);
        for k in 35..95 {
            w.series[0].2[k].look = Look::B;
        }
    });
    let found = world.finding();
    let ms = Duration::from_millis;
    let (before, at) = (world.times(0, 34).1, world.times(0, 35).2);
    assert_eq!(found.observed_at, Some((ms(before - INJECTED), ms(at - INJECTING))));
    assert_eq!(found.evidence.iter().map(|e| e.slot).collect::<Vec<_>>(), [35, 34, 36]);
    assert_eq!(found.evidence[0].outcome, "“b”");
    assert_eq!(found.evidence[0].from, ms(world.times(0, 35).1));
    assert_eq!(found.expected, "at some time “b”");
    assert_eq!(found.window, (None, Some(ms(2_000))));
    // Too late: refuted, and the finding says by how much.
    let late = world.with(|w| w.to = after(1_000)).finding();
    is(&late, Verdict::Refuted, Reason::NeverHappened);
    assert!(late.observed.contains("seen only 1.4 s after the fault, after the window"), "{}", late.observed);
}

#[test]
fn outages_are_bounded_by_what_worked_before_and_after() {
    let sample = |slot: u64, start: u64, end: u64, outcome| Sample {
        probe: 0,
        series: String::new(),
        slot,
        due: Mono(start),
        start: Mono(start),
        end: Mono(end),
        outcome,
    };
    let good = || Outcome::Saw(Value::Text("a".into()));
    let bad = || Outcome::Failed(Failure::Timeout);
    let unknown = || Outcome::Unknown("blind".into());
    let measure = |outcomes: Vec<Outcome>| {
        let samples: Vec<Sample> = outcomes
            .into_iter()
            .enumerate()
            .map(|(k, o)| sample(k as u64, k as u64 * 100, k as u64 * 100 + 30, o))
            .collect();
        outages(&samples, |s| match s.outcome {
            Outcome::Saw(_) => Some(true),
            Outcome::Failed(_) => Some(false),
            Outcome::Unknown(_) => None,
        })
    };
    let us = Duration::from_micros;
    assert_eq!(measure(vec![good(), good()]), []);
    let found = measure(vec![good(), bad(), bad(), bad(), good()]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].began, found[0].ended), ((Some(Mono(0)), Mono(130)), (Mono(300), Some(Mono(430)))));
    assert_eq!(found[0].duration(), (us(170), Some(us(430))));
    assert_eq!((found[0].slots, found[0].failures), ((1, 3), 3));
    // A sample that could not look is passed over and widens the bounds.
    let blurred = measure(vec![good(), unknown(), bad(), unknown(), good()]);
    assert_eq!((blurred[0].began, blurred[0].ended), ((Some(Mono(0)), Mono(230)), (Mono(200), Some(Mono(430)))));
    assert_eq!(blurred[0].duration(), (us(0), Some(us(430))));
    let open = measure(vec![bad(), good(), bad(), bad()]);
    assert_eq!((open[0].began.0, open[0].ended.1), (None, Some(Mono(130))));
    assert_eq!((open[1].duration(), open[1].ended), ((us(70), None), (Mono(300), None)));
}

#[test]
fn a_mitigation_is_shown_only_by_a_difference() {
    let found = answered().finding();
    let control = |verdict| Finding { arm: Some(Arm::Control), verdict, ..found.clone() };
    let shown = |findings: &[Finding]| mitigations(findings).iter().map(|m| m.shown).collect::<Vec<_>>();
    assert_eq!(shown(&[found.clone(), control(Verdict::Upheld)]), [true]);
    for verdict in [Verdict::Refuted, Verdict::Inconclusive, Verdict::Unsupported] {
        assert_eq!(shown(&[found.clone(), control(Verdict::Upheld), control(verdict)]), [false]);
        assert_eq!(shown(&[Finding { verdict, ..found.clone() }, control(Verdict::Upheld)]), [false]);
    }
    assert_eq!(shown(std::slice::from_ref(&found)), [false]);
    assert_eq!(shown(&[Finding { arm: None, ..found.clone() }]), [false; 0]);
    let other = Finding { sentence: "m.other".into(), ..control(Verdict::Upheld) };
    assert_eq!(shown(&[found, other]), [false, false]);
}

#[test]
fn records_that_are_no_history_are_refused() {
    let events = answered().events();
    let refused = |change: &dyn Fn(&mut Vec<Event>)| {
        let mut events = events.clone();
        change(&mut events);
        History::replay(&events).map(|_| ()).unwrap_err()
    };
    let push = |kind: EventKind| move |events: &mut Vec<Event>| *events = then(std::mem::take(events), [kind.clone()]);
    assert_eq!(refused(&|e| drop(e.remove(0))), IllegalHistory::NotStarted);
    let other_run = answered().with(|w| w.from = after(1)).events().remove(0);
    assert_eq!(refused(&|e| e.push(other_run.clone())), IllegalHistory::TwoRuns);
    let contradicts = |e: IllegalHistory| assert!(matches!(e, IllegalHistory::Contradiction { .. }), "{e}");
    contradicts(refused(&push(EventKind::Injecting { fault: 0 })));
    contradicts(refused(&push(EventKind::Injected { fault: 0, error: None })));
    contradicts(refused(&push(EventKind::Phase(Phase::Fault))));
    contradicts(refused(&push(EventKind::Finished(End::Dirty))));
    let impossible = |e: IllegalHistory| assert!(matches!(e, IllegalHistory::Impossible { .. }), "{e}");
    impossible(refused(&push(EventKind::Injecting { fault: 1 })));
    let first = |events: &[Event]| events.iter().position(|e| matches!(e.kind, EventKind::Sampled(_))).unwrap();
    let bend = |bend: &dyn Fn(&mut Sample)| {
        refused(&|events| {
            let at = first(events);
            if let EventKind::Sampled(s) = &mut events[at].kind {
                bend(s);
            }
        })
    };
    impossible(bend(&|s| s.probe = 1));
    impossible(bend(&|s| s.end = s.start - Duration::from_micros(1)));
    impossible(bend(&|s| s.due = s.due + Duration::from_millis(INTERVAL)));
    impossible(refused(&|events| {
        for e in events {
            if e.kind == EventKind::Phase(Phase::Undo) {
                e.at = Mono(8_000_000);
            }
        }
    }));
    impossible(refused(&|events| {
        for e in events {
            if let EventKind::Witnessed(p) = &mut e.kind {
                p.witnesses[0].to = p.witnesses[0].from - Duration::from_micros(1);
            }
        }
    }));
}
