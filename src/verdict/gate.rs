//! The gate: what must be in order before samples count. The fault must be proven to be in effect throughout, and
//! nothing else may disturb the run.

use crate::clock::Mono;
use crate::event::{Checkpoint, Disturbance, Phase, Proof};
use crate::plan::PlannedClaim;
use crate::run_history::History;

use super::Reason;
use super::sample_truth::unsteady;
use super::window::Resolved;
use super::words;

/// Why no sample can decide the claim: the reason, and the reason in words.
pub(super) type Closed = (Reason, String);

/// Passes if the proofs of the phase's faults are complete.
pub(super) fn proofs(history: &History, phase: Phase) -> Result<(), Closed> {
    check(history, phase, true)
}

/// The same for a run that is going on: passes without the proof that the effect lasted, as long as the witnesses can't
/// have been asked for it yet.
pub(super) fn proofs_so_far(history: &History, phase: Phase) -> Result<(), Closed> {
    let going_on = history.interrupted().is_none() && history.undoing().is_none() && !is_over(history);
    check(history, phase, !going_on)
}

fn check(history: &History, phase: Phase, to_the_end: bool) -> Result<(), Closed> {
    if phase == Phase::Baseline {
        return Ok(());
    }
    let faults = 0..history.plan().faults.len();
    if faults.is_empty() {
        return Err((Reason::NoEffect, "the plan breaks nothing, so nothing can follow from it".into()));
    }
    // Check the faults in the order of injection: if one is not seen to be in, the next is not tried.
    for fault in faults.clone() {
        absent_before(history, fault)?;
        present_after(history, fault)?;
    }
    // A fault that is shut in with its node lasts as long as the fault that shuts it in, and that one is checked
    // itself.
    let seen = |fault: &usize| history.plan().shut_in_by(*fault).is_none();
    for fault in faults.clone().filter(seen).filter(|_| to_the_end) {
        present_at_end(history, fault)?;
    }
    if phase == Phase::Remedy {
        if let Some(why) = history.remedy_failed() {
            return Err((Reason::NotRemedied, format!("the remedy failed: {why}")));
        }
        if history.cause(phase).is_none() {
            return Err(cut(history, "before the remedy was done"));
        }
    }
    if phase == Phase::Recovery {
        if history.entered(Phase::Recovery).is_none() {
            return Err(cut(history, "before recovery was watched"));
        }
        if history.undo_failed() {
            return Err((Reason::NotUndone, "not every undo could be applied".into()));
        }
    }
    // A witness that still sees the effect after the undo sees something other than the fault, and has proven nothing.
    if phase == Phase::Recovery || is_over(history) {
        for fault in faults {
            absent_at_last(history, fault)?;
        }
    }
    over_in_time(history, phase, to_the_end)
}

/// Checks that an outage planned to end before Kubernetes notices did end in time. In recovery, it counts until the
/// witnesses see that the effect is gone, not only until the undo.
fn over_in_time(history: &History, phase: Phase, to_the_end: bool) -> Result<(), Closed> {
    let (Some(within), Some(loss)) = (history.plan().over_within, history.loss_of_nodes()) else { return Ok(()) };
    let faults = 0..history.plan().faults.len();
    let seen =
        || faults.flat_map(|fault| latest(history.proofs(fault, Checkpoint::Undone))).flat_map(|(_, p)| &p.witnesses);
    let (over, what) = match phase {
        Phase::Recovery => (seen().map(|w| w.to).max(), "seen to be over"),
        _ => (history.undoing(), "undone"),
    };
    let Some(over) = over else {
        // How long it was can't be told yet. It may turn out to be too long.
        return if to_the_end { Err(cut(history, "before the outage was over")) } else { Ok(()) };
    };
    let lasted = over.since(loss.start);
    if lasted <= within {
        return Ok(());
    }
    let (lasted, within) = (words::seconds(lasted), words::at_least(within));
    Err((
        Reason::LastedTooLong,
        format!("the outage was to be over {within} after the injection, and was {what} only after {lasted}"),
    ))
}

/// Passes if no node was found to be removed once the faults went in. No proof is complete then.
pub(super) fn all_there(history: &History, phase: Phase) -> Result<(), Closed> {
    let Some(since) = history.entered(Phase::Fault).filter(|_| phase != Phase::Baseline) else { return Ok(()) };
    let removed = history.disturbances().iter().find_map(|(at, disturbance)| match disturbance {
        Disturbance::NodeRemoved(node) if *at >= since => Some(node),
        _ => None,
    });
    removed.map_or(Ok(()), |node| Err((Reason::Disturbed, format!("{node} was removed"))))
}

/// Passes if nothing disturbed the run from the cause to the end of the claim's window and, if the claim compares with
/// the baseline, during the baseline.
pub(super) fn undisturbed(
    history: &History,
    claim: &PlannedClaim,
    window: &Resolved,
    compares: bool,
) -> Result<(), Closed> {
    let baseline = history.span(Phase::Baseline).filter(|_| compares && claim.window.phase != Phase::Baseline);
    let watched = [Some((window.cause.start, window.to)), baseline.map(|b| (b.start, b.until))];
    for (at, disturbance) in history.disturbances() {
        let (from, to, what) = match disturbance {
            // It is noticed some time after that.
            Disturbance::NodeRemoved(node) => (Mono(0), *at, format!("{node} was removed")),
            Disturbance::GoneOff(node) => {
                (Mono(0), Mono(u64::MAX), format!("the dead man's switch in {node} had gone off, and undone the fault"))
            }
        };
        if watched.iter().flatten().any(|(start, end)| from <= *end && to >= *start) {
            return Err((Reason::Disturbed, what));
        }
    }
    Ok(())
}

/// Why no witness was asked: the run was cut short before that point, or it went on without asking.
fn unasked(history: &History, before: &str, reason: Reason, what: &str) -> Closed {
    if history.interrupted().is_some() || !is_over(history) { cut(history, before) } else { (reason, what.into()) }
}

/// All witnesses who looked before the fault must have seen no effect.
fn absent_before(history: &History, fault: usize) -> Result<(), Closed> {
    let node = &history.plan().faults[fault].node.name;
    let injecting = history.injecting(fault);
    let proofs = history.proofs(fault, Checkpoint::Baseline);
    if let Some(seen) = odd(proofs, Some(true)) {
        return Err((Reason::EffectInBaseline, format!("the effect was there before the fault went in: {seen}")));
    }
    let Some(injecting) = injecting else {
        let before = "before the fault went in";
        return Err(if history.interrupted().is_some() || !is_over(history) {
            cut(history, before)
        } else {
            let unsteady = unsteady(history);
            let what = if unsteady.is_empty() { String::new() } else { format!(": {}", unsteady.join("; ")) };
            (Reason::NoSteadyState, format!("the steady state did not hold, so nothing was injected{what}"))
        });
    };
    let all = proofs.iter().flat_map(|(_, p)| &p.witnesses);
    if !all_say(proofs, false) || all.clone().any(|w| w.to > injecting) {
        return Err((Reason::NoEffect, format!("no witness saw {node} without the effect before the fault went in")));
    }
    Ok(())
}

/// The witnesses who were asked last after the injection must all have seen the effect.
fn present_after(history: &History, fault: usize) -> Result<(), Closed> {
    if let Some(error) = history.not_injected(fault) {
        return Err((Reason::NoEffect, format!("the fault could not be put in: {error}")));
    }
    let last = latest(history.proofs(fault, Checkpoint::Injected));
    if last.is_empty() {
        return Err(unasked(
            history,
            "before the effect was proven",
            Reason::NoEffect,
            "no witness was asked after the injection",
        ));
    }
    let injecting = history.injecting(fault).unwrap_or(Mono(u64::MAX));
    if !all_say(last, true) || last.iter().flat_map(|(_, p)| &p.witnesses).any(|w| w.from < injecting) {
        let seen =
            odd(last, Some(false)).or_else(|| odd(last, None)).unwrap_or_else(|| "no witness looked in time".into());
        return Err((
            Reason::NoEffect,
            format!("the witnesses did not see the fault's effect after injection: {seen}"),
        ));
    }
    Ok(())
}

/// All witnesses who looked at the end of the fault phase must still have seen the effect, and before the undo began.
fn present_at_end(history: &History, fault: usize) -> Result<(), Closed> {
    let proofs = history.proofs(fault, Checkpoint::WindowEnd);
    if proofs.is_empty() {
        return Err(unasked(
            history,
            "before the witnesses were asked again",
            Reason::EffectNotHeld,
            "no witness was asked at the end of the fault",
        ));
    }
    let (begun, undoing) = (history.span(Phase::Fault).map(|s| s.start), history.undoing().unwrap_or(Mono(u64::MAX)));
    let mut all = proofs.iter().flat_map(|(_, p)| &p.witnesses);
    if !all_say(proofs, true) || all.any(|w| Some(w.from) < begun || w.to > undoing) {
        let seen = odd(proofs, Some(false)).or_else(|| odd(proofs, None));
        let seen = seen.unwrap_or_else(|| "no witness looked between the injection and the undo".into());
        return Err((Reason::EffectNotHeld, format!("the effect was not seen to last until the end: {seen}")));
    }
    Ok(())
}

/// The witnesses who were asked last after the undo must all have seen that the effect is gone.
fn absent_at_last(history: &History, fault: usize) -> Result<(), Closed> {
    let last = latest(history.proofs(fault, Checkpoint::Undone));
    if last.is_empty() {
        return Err(unasked(
            history,
            "before the undo was proven",
            Reason::NotUndone,
            "no witness was asked after the undo",
        ));
    }
    let undoing = history.undoing().unwrap_or(Mono(0));
    if !all_say(last, false) || last.iter().flat_map(|(_, p)| &p.witnesses).any(|w| w.from < undoing) {
        let seen =
            odd(last, Some(true)).or_else(|| odd(last, None)).unwrap_or_else(|| "no witness looked in time".into());
        return Err((Reason::NotUndone, format!("the effect was not seen to be gone after the undo: {seen}")));
    }
    Ok(())
}

fn cut(history: &History, when: &str) -> Closed {
    let why = match history.interrupted() {
        Some((_, why)) => format!("the run was cut short {when}: {why}"),
        None => format!("the record ends {when}"),
    };
    (Reason::Interrupted, why)
}

/// Whether the run has gone past the phases that it observes.
fn is_over(history: &History) -> bool {
    history.end().is_some() || history.entered(Phase::Cleanup).is_some()
}

/// Whether each proof has witnesses, and all of them say this about the effect.
fn all_say(proofs: &[(Mono, &Proof)], effect: bool) -> bool {
    !proofs.is_empty()
        && proofs.iter().all(|(_, p)| !p.witnesses.is_empty() && p.witnesses.iter().all(|w| w.effect == Some(effect)))
}

/// The latest proofs. Witnesses are asked until they agree, so the last answers count; if several were recorded at the
/// same moment, all of them count.
fn latest<'p, 'a>(proofs: &'p [(Mono, &'a Proof)]) -> &'p [(Mono, &'a Proof)] {
    let last = proofs.last().map(|(at, _)| *at);
    &proofs[proofs.partition_point(|(at, _)| Some(*at) < last)..]
}

/// What the witnesses with this answer saw; `None` if there are none.
fn odd(proofs: &[(Mono, &Proof)], effect: Option<bool>) -> Option<String> {
    let odd = proofs.iter().flat_map(|(_, p)| &p.witnesses).filter(|w| w.effect == effect);
    let seen: Vec<String> = odd.map(|w| format!("{}: {}", w.what, w.seen)).collect();
    (!seen.is_empty()).then(|| seen.join("; "))
}
