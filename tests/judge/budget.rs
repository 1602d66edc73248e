//! Outages compared with a budget: what is certain decides, what is uncertain never does.

use std::time::Duration;

use kchaos::event::Phase;
use kchaos::plan::Operator;
use kchaos::run_history::History;
use kchaos::verdict::{Reason, Verdict, settled};
use proptest::prelude::*;

use super::world::*;

/// Requests from two nodes are answered, except in these slots of the first.
fn out(slots: std::ops::Range<usize>, look: Look) -> World {
    let answered = World::uniform(Operator::OutageAtMost(Duration::ZERO), requests(), Look::A, &["node0", "node1"]);
    slots.fold(answered, |world, slot| world.edit(0, slot, |s| s.look = look))
}

fn held_against(world: &World, budget: u64) -> (Verdict, Reason) {
    world.with(|w| w.operator = Operator::OutageAtMost(Duration::from_millis(budget))).reason()
}

#[test]
fn the_shortest_time_refutes_the_longest_upholds_and_between_them_nothing_is_said() {
    // Five samples of 5 ms, one every 100 ms. The last good one began at 3,020 and the first bad one ended at 3,125;
    // the last bad one began at 3,520 and the next good one ended at 3,625.
    let world = out(30..35, Look::Refused);
    for (budget, verdict, reason) in [
        (394, Verdict::Refuted, Reason::Counterexample),
        (395, Verdict::Inconclusive, Reason::Indistinct),
        (604, Verdict::Inconclusive, Reason::Indistinct),
        (605, Verdict::Upheld, Reason::Held),
    ] {
        assert_eq!(held_against(&world, budget), (verdict, reason), "{budget} ms");
    }
    let told = world.with(|w| w.operator = Operator::OutageAtMost(Duration::from_millis(300))).finding().because;
    assert!(told.contains("from node0") && told.contains("300 ms"), "{told}");
}

#[test]
fn an_outage_counts_where_it_begins_however_late_it_ends() {
    let world = out(55..71, Look::Refused);
    assert_eq!(held_against(&world, 1_000).0, Verdict::Refuted, "it began in the fault");
    assert_eq!(held_against(&world, 1_705), (Verdict::Upheld, Reason::Held));
    let recovery = world.with(|w| w.phase = Phase::Recovery);
    assert_eq!(held_against(&recovery, 1_000), (Verdict::Upheld, Reason::Held), "and not in the recovery");
    let later = out(70..80, Look::Refused).with(|w| w.phase = Phase::Recovery);
    assert_eq!(held_against(&later, 500).0, Verdict::Refuted);
}

#[test]
fn nothing_is_settled_while_an_outage_goes_on_that_may_still_be_within_its_budget() {
    let settled_at = |world: &World, ms, budget| {
        let world = world.with(|w| w.operator = Operator::OutageAtMost(Duration::from_millis(budget)));
        let events: Vec<_> = world.events().into_iter().filter(|event| event.at <= world.at(ms)).collect();
        settled(&History::replay(&events).unwrap(), world.phase)
    };
    let world = out(30..35, Look::Refused);
    assert!(settled_at(&world, 2_900, 1_000), "before it");
    assert!(!settled_at(&world, 3_400, 1_000), "in it");
    assert!(settled_at(&world, 3_400, 100), "its budget is used up");
    assert!(settled_at(&world, 6_900, 1_000), "after it");
}

#[test]
fn a_service_that_answers_every_other_request_is_out_all_the_time() {
    let world =
        (30..61).step_by(2).fold(out(0..0, Look::A), |world, slot| world.edit(0, slot, |s| s.look = Look::Refused));
    assert_eq!(held_against(&world, 2_994).0, Verdict::Refuted);
    assert_eq!(held_against(&world, 3_205), (Verdict::Upheld, Reason::Held));
    // Three quiet seconds end an outage.
    let apart =
        [30, 61].into_iter().fold(out(0..0, Look::A), |world, slot| world.edit(0, slot, |s| s.look = Look::Refused));
    assert_eq!(held_against(&apart, 205), (Verdict::Upheld, Reason::Held));
    let close =
        [30, 59].into_iter().fold(out(0..0, Look::A), |world, slot| world.edit(0, slot, |s| s.look = Look::Refused));
    assert_eq!(held_against(&close, 205).0, Verdict::Refuted);
}

#[test]
fn what_was_out_before_the_fault_is_none_of_its_outages() {
    assert_eq!(held_against(&out(5..9, Look::Refused), 150), (Verdict::Upheld, Reason::Held));
}

#[test]
fn of_several_faults_an_outage_counts_from_the_first_on() {
    // Out from 2,020 to 2,325; the drain is at 2,000, the node is lost from 2,300 on.
    let world = out(19..22, Look::Refused).with(|w| w.operator = Operator::OutageAtMost(Duration::from_millis(150)));
    let events = drained_at(&world.events(), world.at(2_000));
    let found = finding(&events);
    assert_eq!((found.verdict, found.reason), (Verdict::Refuted, Reason::Counterexample), "{found:?}");
    // Without the drain, it was out before anything was done.
    assert_eq!(held_against(&world, 150), (Verdict::Upheld, Reason::Held));
}

#[test]
fn an_outage_belongs_to_the_fault_whatever_failed_a_moment_before() {
    // A failure or a missing sample 200 ms before the fault; the actual outage begins at 3,120.
    for look in [Look::Refused, Look::Missing] {
        let world = out(30..35, Look::Refused).edit(0, 20, |s| s.look = look);
        assert_eq!(held_against(&world, 394).0, Verdict::Refuted, "{look:?}");
        assert_eq!(held_against(&world, 604), (Verdict::Inconclusive, Reason::Indistinct), "{look:?}");
        assert_eq!(held_against(&world, 605), (Verdict::Upheld, Reason::Held), "{look:?}");
    }
}

#[test]
fn between_the_last_look_of_the_witnesses_and_the_undo_it_is_still_the_fault() {
    // Begins at 6,025: after the last look at 6,000 and before the undo at 6,110.
    let world = out(59..80, Look::Refused);
    assert_eq!(held_against(&world, 1_000).0, Verdict::Refuted);
    assert_eq!(held_against(&world.with(|w| w.phase = Phase::Recovery), 1_000), (Verdict::Upheld, Reason::Held));
}

#[test]
fn quiet_is_counted_from_failure_to_failure_however_long_each_took() {
    let slow = |slots: &[usize]| {
        let late = |world: World, slot: &usize| world.edit(0, *slot, |s| (s.look, s.took) = (Look::Timeout, TIMEOUT));
        slots.iter().fold(out(0..0, Look::A), late)
    };
    assert_eq!(held_against(&slow(&[30, 59]), 1_000).0, Verdict::Refuted);
    assert_eq!(held_against(&slow(&[30, 60]), 1_000), (Verdict::Upheld, Reason::Held));
}

#[test]
fn an_outage_that_is_not_seen_to_end_is_never_within_a_budget() {
    let world = out(55..95, Look::Refused);
    assert_eq!(held_against(&world, 1_000).0, Verdict::Refuted);
    assert_eq!(held_against(&world, 3_600_000), (Verdict::Inconclusive, Reason::Indistinct));
}

#[test]
fn nobody_looking_is_no_answer_and_may_hide_what_is_not_longer() {
    let unseen = out(30..37, Look::Missing);
    assert_eq!(held_against(&unseen, 804), (Verdict::Inconclusive, Reason::Gaps));
    assert_eq!(held_against(&unseen, 805), (Verdict::Upheld, Reason::Held));
    // Beside failures, a missing sample makes an outage less certain, never shorter.
    let frayed = out(30..35, Look::Refused).edit(0, 35, |s| s.look = Look::Missing);
    assert_eq!(held_against(&frayed, 605), (Verdict::Inconclusive, Reason::Indistinct));
    assert_eq!(held_against(&frayed, 394).0, Verdict::Refuted);
}

/// Samples go on until the last ones are in. One that is lost or fails then is not part of an outage of the recovery.
/// But one that fails may have begun to before.
#[test]
fn what_comes_after_the_recovery_is_none_of_its_outages() {
    for (look, first) in [(Look::Unknown, 88), (Look::Refused, 89)] {
        let recovery = |slots| out(slots, look).with(|w| w.phase = Phase::Recovery);
        assert_eq!(held_against(&recovery(92..95), 1_000), (Verdict::Upheld, Reason::Held), "{look:?}");
        assert_ne!(held_against(&recovery(first..95), 1_000).0, Verdict::Upheld, "{look:?}");
    }
}

/// Two looks are missed within three seconds, the first of them in the recovery and the other one the last of all.
#[test]
fn a_look_missed_after_the_recovery_leaves_no_outage_open_that_nobody_saw() {
    let missed = |first| {
        let world = out(88..89, first).with(|w| w.phase = Phase::Recovery);
        world.edit(0, 93, |s| s.look = Look::Unknown)
    };
    assert_eq!(held_against(&missed(Look::Unknown), 1_000), (Verdict::Upheld, Reason::Held));
    assert_eq!(held_against(&missed(Look::Refused), 1_000), (Verdict::Inconclusive, Reason::Indistinct), "it was seen");
}

/// From the last look of the witnesses to the undo.
#[test]
fn what_nobody_saw_between_the_fault_and_the_undo_is_an_outage_of_the_fault() {
    assert_eq!(held_against(&out(59..70, Look::Unknown), 500), (Verdict::Inconclusive, Reason::Gaps));
}

#[test]
fn without_a_sample_nothing_is_kept() {
    assert_eq!(held_against(&out(0..95, Look::Missing), 60_000).0, Verdict::Inconclusive);
}

proptest! {
    #[test]
    fn who_allows_more_is_never_harder_to_satisfy(world in any_world(), less in 0u64..2_000, more in 0u64..2_000) {
        let world = world.with(|w| (w.spec, w.may_be_lost) = (requests(), 0));
        let (less, more) = (less.min(more), less.max(more));
        let ease = |budget| match held_against(&world, budget).0 {
            Verdict::Refuted => 0,
            Verdict::Inconclusive | Verdict::Unsupported => 1,
            Verdict::Upheld => 2,
        };
        prop_assert!(ease(less) <= ease(more), "{less}: {:?}, {more}: {:?}", held_against(&world, less), held_against(&world, more));
    }

    #[test]
    fn a_lost_sample_never_turns_a_verdict_into_its_opposite(world in any_world(), budget in 0u64..2_000, at in any::<prop::sample::Index>()) {
        let world = world.with(|w| (w.spec, w.may_be_lost) = (requests(), 0));
        let places = world.places();
        prop_assume!(!places.is_empty());
        let (series, slot) = places[at.index(places.len())];
        let lost = world.edit(series, slot, |s| s.look = Look::Missing);
        let both = [held_against(&world, budget).0, held_against(&lost, budget).0];
        prop_assert!(both != [Verdict::Upheld, Verdict::Refuted] && both != [Verdict::Refuted, Verdict::Upheld], "{both:?}");
    }
}
