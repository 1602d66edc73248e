//! How a run goes from step to step: what it waits for, and what it attends to meanwhile.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{Cut, EXPLAIN_AFTER, LOOK, Run, Step};
use crate::clock::Mono;
use crate::event::{Cause, Checkpoint, Event, EventKind, Interruption, Proof};
use crate::journal::AppendError;
use crate::plan::Span;
use crate::progress::Told;
use crate::signal::Signal;

/// How long a step goes on once the run is to end. A request takes less; only a wait for something that may never come
/// takes longer.
const ABANDONED_AFTER: Duration = Duration::from_secs(3);
/// How many times as long as a look takes it is until the next one, at least. On a busy machine a look takes long, and
/// what it takes is lacking elsewhere.
const LOOKS_LAST: u32 = 4;
/// Pause between two looks of the witnesses. A look itself takes some time.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Run<'_, '_> {
    /// Asks the witnesses until all of them agree with `wanted`, for at most `within`, and records the last answer.
    pub(super) async fn prove(
        &mut self,
        fault: usize,
        checkpoint: Checkpoint,
        wanted: bool,
        within: Duration,
    ) -> Step<bool> {
        let give_up = Mono::now() + within;
        loop {
            let proof = self.ask(fault, checkpoint).await?;
            let agreed = proof.witnesses.iter().all(|w| w.effect == Some(wanted));
            if agreed || Mono::now() > give_up {
                self.record(EventKind::Witnessed(proof))?;
                return Ok(agreed);
            }
            self.during(tokio::time::sleep(ASK_AGAIN)).await?;
        }
    }

    pub(super) async fn ask(&mut self, fault: usize, checkpoint: Checkpoint) -> Step<Proof> {
        let engine = &self.cluster.engine;
        let called = std::mem::take(&mut self.witnesses);
        let asked = self.during(called[fault].ask(engine, checkpoint)).await;
        self.witnesses = called;
        Ok(Proof { fault, checkpoint, witnesses: asked? })
    }

    /// Watches for at least and at most the span; in between, ends as soon as `done` holds. Returns whether it held.
    pub(super) async fn watch(&mut self, span: Span, done: impl Fn(&[Event]) -> bool) -> Step<bool> {
        let begin = Mono::now();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.during(look.tick()).await?;
            let now = Mono::now();
            let elapsed = now.since(begin);
            if elapsed >= span.at_least && done(&self.recorder.events) {
                return Ok(true);
            }
            if elapsed >= span.at_most {
                return Ok(false);
            }
            let (took, left) = (Mono::now().since(now), span.at_most.saturating_sub(Mono::now().since(begin)));
            look.reset_after(LOOK.max(LOOKS_LAST * took).min(left.max(LOOK)));
        }
    }

    pub(super) fn record(&mut self, kind: EventKind) -> Step {
        Ok(self.recorder.record(kind)?)
    }

    /// Records, once, why the run is cut short. Records it immediately, since nothing observed from here on is
    /// evidence.
    pub(super) fn cut_short(&mut self, cut: Interruption) -> Result<(), AppendError> {
        let first = self.cut.get_or_insert(cut).clone();
        if !self.cut_written {
            self.recorder.record(EventKind::Interrupted(first))?;
            self.cut_written = true;
        }
        Ok(())
    }

    /// Does the same in the middle of a step. If recording fails, it is tried again after the step, and fails there.
    fn cut_after_step(&mut self, cut: Interruption) {
        if !self.ending {
            let _ = self.cut_short(cut);
        }
    }

    /// Drives a step that reads, waits or creates something through the API, and then returns an error if the run is to
    /// end. If the run is to end during the step, the step has a moment to finish in order, since its requests may
    /// still be carried out. Once the guardian has the run, the step has no such moment: nobody would put back what it
    /// still did.
    pub(super) async fn during<T>(&mut self, step: impl Future<Output = T>) -> Step<T> {
        let mut step = pin!(step);
        let mut give_up: Option<Instant> = None;
        loop {
            // In no fixed order: however many samples wait to be recorded, the step goes on.
            let done = tokio::select! {
                () = self.attend() => None,
                done = &mut step => Some(done),
                () = tokio::time::sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => None,
            };
            let Some(cut) = &self.cut else {
                match done {
                    Some(done) => return Ok(done),
                    None => continue,
                }
            };
            let late = give_up.is_some_and(|give_up| Instant::now() >= give_up);
            if done.is_some() || late || cut.cause == Cause::LeaseLost {
                return Err(Cut::Short(cut.clone()));
            }
            give_up.get_or_insert_with(|| Instant::now() + ABANDONED_AFTER);
        }
    }

    /// Does the same, and tells the user `why` the step is not done yet if it takes long.
    pub(super) async fn explained<T>(
        &mut self,
        step: impl Future<Output = T>,
        why: impl Future<Output = String>,
    ) -> Step<T> {
        let mut step = pin!(step);
        let explained = async {
            tokio::select! {
                biased;
                done = &mut step => Ok(done),
                why = async { tokio::time::sleep(EXPLAIN_AFTER).await; why.await } => Err(why),
            }
        };
        match self.during(explained).await? {
            Ok(done) => Ok(done),
            Err(why) => {
                self.note(&format!("still waiting for {why}"));
                self.during(step).await
            }
        }
    }

    /// Drives a step to its end, whatever happens in the meantime.
    pub(super) async fn finish<T>(&mut self, step: impl Future<Output = T>) -> T {
        let mut step = pin!(step);
        loop {
            // As in `during`.
            tokio::select! {
                () = self.attend() => {}
                done = &mut step => return done,
            }
        }
    }

    /// Waits for the next task that comes up during a step (the lease, a signal, a sample) and does it.
    async fn attend(&mut self) {
        tokio::select! {
            biased;
            _ = self.renew.tick() => if let Err(fenced) = self.guardian.renew() {
                self.cut_after_step(fenced.into());
            },
            signal = self.signals.next() => match signal {
                Signal::First(name) => {
                    self.note(&format!("{name}: putting everything back. Once more to leave at once."));
                    self.cut_after_step(Interruption::signal(name));
                }
                Signal::Again(name) => {
                    (self.recorder.watch)(Told::Leaving);
                    self.signals.leave(name);
                }
            },
            Some(observed) = self.observed.recv() => if let Err(error) = self.recorder.record(observed) {
                self.cut_after_step(error.into());
            },
        }
    }
}
