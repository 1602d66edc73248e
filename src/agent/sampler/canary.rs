//! Canaries keep a sampler honest: beside its targets it asks two whose answers are known. A sample counts only if the
//! sampler was able to see.
//!
//! * The *null probe* asks a responder in the sampler's own thread, at the sampler's own rate. If it is late, the
//!   sampler was starved, and a timeout of that time is no evidence. If it fails, the sampler is blind.
//! * The *closed port* of the sampler's own node must refuse. If it accepts, the probe sees answers where there are
//!   none. If it is silent, the pod is cut off from everything, whatever it samples.
//!
//! Samples are held back until the canaries asked after them are back. Pure: takes outcomes, gives lines.

use std::collections::VecDeque;
use std::time::Duration;

use super::line::Line;
use crate::clock::Mono;
use crate::observer_lag::Lag;
use crate::sample::{Failure, Outcome};

/// How many blind spells are remembered. Only those of the last few seconds can affect a sample that is still held
/// back.
const KEPT: usize = 256;

/// Both canaries and the samples that wait for them.
#[derive(Debug, Default)]
pub(super) struct Canaries {
    lag: Lag,
    null: Watch,
    closed: Watch,
    blind: VecDeque<Blind>,
    held: VecDeque<(Line, Duration)>,
}

/// What is known from one canary.
#[derive(Debug)]
struct Watch {
    /// Start of the last conclusive check.
    asked: Mono,
    /// End of the last check with the expected outcome.
    good: Mono,
    /// What was wrong in the last check; `None` if it had the expected outcome.
    failing: Option<String>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { asked: Mono(0), good: Mono(0), failing: None }
    }
}

#[derive(Debug)]
struct Blind {
    from: Mono,
    to: Mono,
    why: String,
}

impl Canaries {
    /// Takes in a sample that had this deadline.
    pub(super) fn sample(&mut self, line: Line, deadline: Duration) {
        self.held.push_back((line, deadline));
    }

    /// Takes in the outcome of a null probe that was due at `due` and back at `end`.
    pub(super) fn null(&mut self, due: Mono, end: Mono, outcome: &Outcome) {
        self.lag.record(due, end);
        // A timeout in the sampler's own thread is lag, and counted as such.
        let fine = matches!(outcome, Outcome::Saw(_) | Outcome::Failed(Failure::Timeout));
        let why = (!fine).then(|| format!("its own responder: {outcome:?}"));
        check(&mut self.null, &mut self.blind, due, end, why);
    }

    /// Takes in the outcome of asking the closed port with this deadline.
    pub(super) fn closed(&mut self, start: Mono, end: Mono, outcome: &Outcome, deadline: Duration) {
        let why = match outcome {
            Outcome::Failed(Failure::Refused) => None,
            Outcome::Failed(Failure::Timeout) if self.lag.excuses(start, end, deadline) => return,
            Outcome::Saw(_) => Some("a closed port accepts".to_owned()),
            other => Some(format!("its own node is out of reach: {other:?}")),
        };
        check(&mut self.closed, &mut self.blind, start, end, why);
    }

    /// Returns the next sample for which everything is known.
    pub(super) fn decided(&mut self) -> Option<Line> {
        let known = self.null.asked.min(self.closed.asked);
        self.held.front().filter(|(line, _)| line.end <= known)?;
        let (mut line, deadline) = self.held.pop_front()?;
        if let Some(blind) = self.blind.iter().find(|b| b.from <= line.end && line.start <= b.to) {
            line.outcome = Outcome::Unknown(format!("probe-blind: {}", blind.why));
        } else if line.outcome == Outcome::Failed(Failure::Timeout) && self.lag.excuses(line.due, line.end, deadline) {
            line.outcome = Outcome::starved();
        }
        Some(line)
    }
}

fn check(watch: &mut Watch, blind: &mut VecDeque<Blind>, start: Mono, end: Mono, why: Option<String>) {
    watch.asked = start;
    // The time between a failed check and its neighbours is unknown, so the sampler is blind from the last good check
    // to the next good one.
    let spell = match (&why, &watch.failing) {
        (Some(why), _) => Some((end, why.clone())),
        (None, Some(why)) => Some((start, why.clone())),
        (None, None) => None,
    };
    if let Some((to, why)) = spell {
        if blind.back().is_some_and(|b| b.from == watch.good && b.why == why) {
            blind.pop_back();
        }
        if blind.len() == KEPT {
            blind.pop_front();
        }
        blind.push_back(Blind { from: watch.good, to, why });
    }
    if why.is_none() {
        watch.good = end;
    }
    watch.failing = why;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;

    const DEADLINE: Duration = Duration::from_micros(500);

    fn saw() -> Outcome {
        Outcome::Saw(Value::Text("web".into()))
    }

    fn timeout() -> Outcome {
        Outcome::Failed(Failure::Timeout)
    }

    fn refused() -> Outcome {
        Outcome::Failed(Failure::Refused)
    }

    fn line(start: u64, end: u64, outcome: Outcome) -> Line {
        Line { target: 0, slot: 0, due: Mono(start), start: Mono(start), end: Mono(end), outcome }
    }

    /// Returns the outcomes of the samples, with both canaries asked every 100 µs until 5 ms.
    fn decide(samples: &[Line], null: impl Fn(u64) -> (u64, Outcome), closed: impl Fn(u64) -> Outcome) -> Vec<Outcome> {
        let mut canaries = Canaries::default();
        let mut out = Vec::new();
        let mut at = 0;
        let mut samples = samples.iter().peekable();
        while at <= 5_000 {
            while let Some(line) = samples.next_if(|l| l.end.0 <= at) {
                canaries.sample(line.clone(), DEADLINE);
            }
            let (end, outcome) = null(at);
            canaries.null(Mono(at), Mono(end), &outcome);
            let refusal = closed(at);
            let took = if refusal == timeout() { DEADLINE } else { Duration::ZERO };
            canaries.closed(Mono(at), Mono(end) + took, &refusal, DEADLINE);
            while let Some(line) = canaries.decided() {
                out.push(line.outcome);
            }
            at = end.max(at + 100);
        }
        out
    }

    #[test]
    fn samples_with_good_canaries_around_them_are_as_they_were() {
        let given = [saw(), timeout(), refused()];
        let samples: Vec<_> = (1..).zip(&given).map(|(i, o)| line(i * 500, i * 500 + 400, o.clone())).collect();
        assert_eq!(decide(&samples, |t| (t + 1, saw()), |_| refused()), given);
    }

    #[test]
    fn a_sample_waits_for_the_canaries_after_it() {
        let mut canaries = Canaries::default();
        canaries.sample(line(100, 200, saw()), DEADLINE);
        canaries.null(Mono(199), Mono(201), &saw());
        canaries.closed(Mono(250), Mono(251), &refused(), DEADLINE);
        assert_eq!(canaries.decided(), None);
        canaries.null(Mono(200), Mono(202), &saw());
        assert!(canaries.decided().is_some());
    }

    #[test]
    fn from_a_starved_sampler_only_timeouts_are_doubted() {
        let samples = [line(1_000, 1_500, timeout()), line(1_000, 1_500, refused()), line(3_000, 3_500, timeout())];
        let starved = |t| if t == 1_000 { (1_400, saw()) } else { (t + 1, saw()) };
        let seen = decide(&samples, starved, |_| refused());
        assert_eq!(seen, [Outcome::Unknown("starved".into()), refused(), timeout()]);
    }

    #[test]
    fn nothing_counts_from_the_last_good_canary_to_the_next() {
        for bad in [saw(), timeout(), Outcome::Unknown("no ports".into())] {
            let samples: Vec<_> = [1_000, 1_850, 2_050, 2_150, 3_000].map(|t| line(t, t + 10, saw())).into();
            let seen = decide(&samples, |t| (t + 1, saw()), |t| if t == 2_000 { bad.clone() } else { refused() });
            let blind: Vec<bool> = seen.iter().map(|o| matches!(o, Outcome::Unknown(_))).collect();
            assert_eq!(blind, [false, false, true, false, false], "{bad:?}");
            let seen = decide(&samples, |t| (t + 1, saw()), |t| if t >= 2_000 { bad.clone() } else { refused() });
            let blind: Vec<bool> = seen.iter().map(|o| matches!(o, Outcome::Unknown(_))).collect();
            assert_eq!(blind, [false, false, true, true, true], "{bad:?}");
        }
    }

    #[test]
    fn a_dead_responder_makes_the_probe_blind() {
        let samples = [line(2_050, 2_060, saw())];
        let seen = decide(&samples, |t| (t + 1, if t == 2_100 { refused() } else { saw() }), |_| refused());
        assert!(matches!(&seen[..], [Outcome::Unknown(why)] if why.starts_with("probe-blind")), "{seen:?}");
    }
}
