//! A claim's window on the clock of one run.
//!
//! This module takes the plan's edges and the history, and returns two moments and whether the window is over. The
//! cause of a phase is an interval, so an edge that counts from it is uncertain by the length of that interval. This
//! uncertainty never refutes a claim: if something must happen *once*, the window is as wide as the uncertain edges
//! allow; if something must hold *throughout*, it is as narrow as they allow. So no claim is refuted because a call to
//! the engine took time.

use std::time::Duration;

use crate::clock::Mono;
use crate::event::Phase;
use crate::plan::{Edge, Operator, PlannedClaim, PlannedProbe};
use crate::run_history::{Ended, History, Interval};

/// A window on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolved {
    /// First moment.
    pub from: Mono,
    /// Last moment; for a window that is not over, the last moment about which anything is known.
    pub to: Mono,
    /// Whether the window is over, so that anything that has not happened in it never will.
    pub closed: bool,
    /// The interval from which times are counted.
    pub cause: Interval,
    /// Where the phase ends, as far as is known.
    pub phase_until: Mono,
}

/// The window of a claim; `None` until its phase begins.
pub(super) fn resolve(history: &History, claim: &PlannedClaim) -> Option<Resolved> {
    let window = &claim.window;
    let span = history.span(window.phase)?;
    let cause = match window.phase {
        Phase::Fault if window.follows_lost_nodes => history.loss_of_nodes()?,
        phase => history.cause(phase)?,
    };
    let throughout = !matches!(claim.operator, Operator::Eventually(_));
    let from = match window.from {
        // A claim that must hold throughout also covers the time in which the remedy is applied. What the remedy brings
        // about comes only after that time.
        Edge::PhaseStart if throughout && window.phase == Phase::Remedy => cause.start,
        Edge::CauseStart => cause.start,
        Edge::PhaseStart => span.start,
        Edge::PhaseEnd => span.until,
        // A claim that must hold throughout the fault counts only where the fault is proven.
        Edge::After(d) if throughout => (cause.end + d).max(span.start),
        Edge::After(d) => cause.start + d,
    };
    let (to, closed) = match window.to {
        Edge::CauseStart => (cause.start, true),
        Edge::PhaseStart => (span.start, true),
        Edge::PhaseEnd => (span.until, span.ended == Ended::InOrder),
        Edge::After(d) => {
            let to = if throughout { cause.start + d } else { cause.end + d };
            (to.min(span.until), to <= span.until)
        }
    };
    Some(Resolved { from, to, closed, cause, phase_until: span.until })
}

/// How long after its due time a sample may still be under way: it may start an interval late and then run into its
/// timeout.
pub(super) fn tail(probe: &PlannedProbe) -> Duration {
    probe.interval + probe.timeout
}

/// The moment until which samples of the window may still arrive.
pub(super) fn complete_at(history: &History, claim: &PlannedClaim, window: &Resolved) -> Mono {
    window.to + 2 * tail(&history.plan().probes[claim.probe])
}
