//! One run of a plan: setup → baseline → fault → undo → recovery → cleanup.
//!
//! Takes a [`Plan`] and a cluster, gives events and nothing else: it does not judge (it only asks the judge whether there is still
//! something to wait for). Whatever happens, signals and errors included, what was prepared is undone before [`run`] returns; if this
//! process is killed, the guardian does it.
//!
//! There is one loop, [`Run::during`]: every step of the experiment is a future driven by it, and while the step goes on, it records
//! samples, renews the guardian's lease and listens for signals.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::{Mono, Wall, boot_id};
use crate::cluster::Cluster;
use crate::error::{Error, Exit, Result};
use crate::event::{Checkpoint, Disturbance, End, Event, EventKind, Phase, Proof, Sample, Witness};
use crate::fault;
use crate::guardian::Guardian;
use crate::history::History;
use crate::journal::Journal;
use crate::plan::{Plan, PlannedFault, Span};
use crate::probe;
use crate::residue::{self, Census};
use crate::signal::{Signal, Signals};
use crate::undo;
use crate::verdict;
use crate::workload;

/// Quiet time with all probes as they should be before anything is broken.
const QUIET: Duration = Duration::from_secs(5);
/// How long a steady state is waited for. Longer than any timer of a cluster that has just been put back.
const STEADY_WITHIN: Duration = Duration::from_secs(60);
/// How long the witnesses may take to agree that an effect is there, or gone.
const PROVEN_WITHIN: Duration = Duration::from_secs(15);
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// How long the cluster may take to look as before, once everything was undone.
const CLEAN_WITHIN: Duration = Duration::from_secs(90);
/// How long the engine may be away before an undo gives up.
const ENGINE_BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often open claims are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Records events: journal first, then whoever watches.
pub struct Recorder<'a> {
    journal: Journal,
    events: Vec<Event>,
    watch: Box<dyn FnMut(&Event) + 'a>,
}

impl<'a> Recorder<'a> {
    /// A recorder into `journal`; `watch` sees every event once it is written.
    pub fn new(journal: Journal, watch: impl FnMut(&Event) + 'a) -> Self {
        Self { journal, events: Vec::new(), watch: Box::new(watch) }
    }

    /// Everything recorded so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    fn record(&mut self, kind: EventKind) -> Result<()> {
        let event = self.journal.append(kind)?;
        (self.watch)(&event);
        self.events.push(event);
        Ok(())
    }
}

/// What cuts a run short. Not an error of the run: it ends in order.
enum Cut {
    /// A signal, a lost lease, a broken journal: why.
    Short(String),
    /// No steady state before the fault, or a fault without effect: nothing more to learn.
    Futile,
}

impl From<Error> for Cut {
    fn from(error: Error) -> Self {
        Self::Short(error.to_string())
    }
}

type Step<T = ()> = std::result::Result<T, Cut>;

/// Runs the plan to its end. The outcome is in the recorder's events; the last one is `Finished`.
///
/// # Errors
/// Only if the run could not even be recorded to its end: then the guardian, which sees the journal unfinished, does the rest.
pub async fn run(plan: Plan, cluster: &Cluster, recorder: &mut Recorder<'_>, guardian: Guardian, signals: Signals) -> Result<()> {
    recorder.record(EventKind::Started {
        wall: Wall::now(),
        boot_id: boot_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        plan: Box::new(plan.clone()),
    })?;
    let (samples_in, samples) = mpsc::channel(65_536);
    let mut run = Run { plan, cluster, recorder, guardian, signals, samples, samples_in: Some(samples_in), probes: CancellationToken::new(), cut: false, before: None };

    let cut = run.observe().await.err();
    if let Some(Cut::Short(why)) = &cut {
        run.recorder.record(EventKind::Interrupted { why: why.clone() })?;
    }
    let end = run.put_back().await?;
    run.recorder.record(EventKind::Finished(end))
}

struct Run<'a, 'w> {
    plan: Plan,
    cluster: &'a Cluster,
    recorder: &'a mut Recorder<'w>,
    guardian: Guardian,
    signals: Signals,
    samples: mpsc::Receiver<Sample>,
    samples_in: Option<mpsc::Sender<Sample>>,
    probes: CancellationToken,
    /// A first signal was seen: finish the step, then put back.
    cut: bool,
    before: Option<Census>,
}

impl Run<'_, '_> {
    /// Everything up to the end of recovery. On `Err` the caller puts back what there is to put back.
    async fn observe(&mut self) -> Step {
        self.setup().await?;
        self.baseline().await?;
        self.fault().await?;
        self.undo().await?;
        self.recovery().await
    }

    async fn setup(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Setup))?;
        let (cluster, plan) = (self.cluster, self.plan.clone());
        let before = self.during(residue::census(cluster)).await??;
        self.record(EventKind::Surveyed { census: before.clone() })?;
        self.before = Some(before);
        let since = Mono::now();
        let deployed = self.during(workload::deploy(cluster, &plan)).await??;
        self.record(EventKind::Waited { what: "workloads to be ready".into(), since })?;
        let samples = self.samples_in.take().ok_or_else(|| Cut::Short("setup ran twice".into()))?;
        let series = self.during(probe::start(&plan, cluster, &deployed, samples, self.probes.clone())).await??;
        self.record(EventKind::Watching { series })
    }

    /// Waits until every probe has shown its steady state for a quiet time.
    async fn baseline(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Baseline))?;
        let since = Mono::now();
        let steady = self
            .watch(Span { at_least: QUIET, at_most: STEADY_WITHIN }, |events| {
                History::replay(events).is_ok_and(|h| verdict::steady(&h, QUIET))
            })
            .await?;
        self.record(EventKind::Waited { what: "a quiet baseline".into(), since })?;
        if !steady {
            return Err(Cut::Futile);
        }
        for fault in 0..self.plan.faults.len() {
            let proof = self.ask(fault, Checkpoint::Baseline).await?;
            let present = proof.witnesses.iter().any(|w| w.effect != Some(false));
            self.record(EventKind::Witnessed(proof))?;
            if present {
                return Err(Cut::Futile);
            }
        }
        Ok(())
    }

    async fn fault(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Fault))?;
        let engine = &self.cluster.engine;
        for fault in 0..self.plan.faults.len() {
            let planned = self.plan.faults[fault].clone();
            let undo = self.during(fault::prepare(engine, &planned)).await??;
            self.record(EventKind::Prepared { fault, undo })?;
            self.guardian.renew().map_err(|fenced| Cut::Short(fenced.to_string()))?;
            self.record(EventKind::Injecting { fault })?;
            let error = self.during(fault::inject(engine, &planned)).await?.err().map(|e| e.to_string());
            self.record(EventKind::Injected { fault, error })?;
            if !self.prove(fault, Checkpoint::Injected, true, PROVEN_WITHIN).await? {
                return Err(Cut::Futile);
            }
        }
        let since = Mono::now();
        self.watch(self.plan.fault_for, |events| settled(events, Phase::Fault)).await?;
        self.record(EventKind::Waited { what: "Kubernetes to react".into(), since })?;
        for fault in 0..self.plan.faults.len() {
            let proof = self.ask(fault, Checkpoint::WindowEnd).await?;
            self.record(EventKind::Witnessed(proof))?;
        }
        Ok(())
    }

    async fn undo(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Undo))?;
        self.roll_back().await?;
        self.record(EventKind::Phase(Phase::Recovery))?;
        for fault in 0..self.plan.faults.len() {
            self.prove(fault, Checkpoint::Undone, false, GONE_WITHIN).await?;
        }
        Ok(())
    }

    async fn recovery(&mut self) -> Step {
        let since = Mono::now();
        self.watch(self.plan.recovery_for, |events| settled(events, Phase::Recovery)).await?;
        self.record(EventKind::Waited { what: "Kubernetes to recover".into(), since })
    }

    /// What must happen whatever went before: undo, removal of what kchaos made, audit. Signals no longer cut it.
    async fn put_back(&mut self) -> Result<End> {
        let undone = self.roll_back().await?;
        self.recorder.record(EventKind::Phase(Phase::Cleanup))?;
        self.probes.cancel();
        let cluster = self.cluster;
        let namespace = self.plan.namespace.clone();
        if let Err(error) = self.finish(workload::remove(cluster, &namespace)).await {
            tracing::warn!("{error}");
        }
        let Some(before) = self.before.take() else { return Ok(undone) };
        let residue = self.finish(residue::wait_until_as(cluster, &before, CLEAN_WITHIN)).await;
        let clean = residue.is_empty() && undone == End::Clean;
        self.recorder.record(EventKind::Audited { residue })?;
        Ok(if clean { End::Clean } else { End::Dirty })
    }

    /// Applies every undo that is written down and not yet applied.
    async fn roll_back(&mut self) -> Result<End> {
        let engine = self.cluster.engine.clone();
        let events = self.recorder.events.clone();
        let (record, mut records) = mpsc::unbounded_channel();
        let mut record = move |kind| {
            // The receiver lives as long as this function.
            let _ = record.send(kind);
        };
        let rollback = tokio::spawn(async move { undo::rollback(&engine, &events, ENGINE_BACK_WITHIN, &mut record).await });
        while let Some(kind) = self.finish(records.recv()).await {
            self.recorder.record(kind)?;
        }
        rollback.await.map_err(|e| Error::with_exit(Exit::Dirty, format!("the rollback broke down: {e}")))
    }

    /// Asks the witnesses until the effect is `wanted`, at most `within`, and records the last answer.
    async fn prove(&mut self, fault: usize, checkpoint: Checkpoint, wanted: bool, within: Duration) -> Step<bool> {
        let give_up = Mono::now() + within;
        loop {
            let proof = self.ask(fault, checkpoint).await?;
            let agreed = !proof.witnesses.is_empty() && proof.witnesses.iter().all(|w| w.effect == Some(wanted));
            if agreed || Mono::now() > give_up {
                self.record(EventKind::Witnessed(proof))?;
                return Ok(agreed);
            }
        }
    }

    async fn ask(&mut self, fault: usize, checkpoint: Checkpoint) -> Step<Proof> {
        let planned: PlannedFault = self.plan.faults[fault].clone();
        let peers = self.plan.observers.clone();
        let engine = &self.cluster.engine;
        let witnesses: Vec<Witness> = self.during(fault::witness(engine, &planned, &peers)).await?;
        Ok(Proof { fault, checkpoint, witnesses })
    }

    /// Watches for at least and at most the span; ends in between once `done`. Tells whether it was done.
    async fn watch(&mut self, span: Span, done: impl Fn(&[Event]) -> bool) -> Step<bool> {
        let begin = Mono::now();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.during(look.tick()).await?;
            let elapsed = Mono::now().since(begin);
            if elapsed >= span.at_least && done(&self.recorder.events) {
                return Ok(true);
            }
            if elapsed >= span.at_most {
                return Ok(false);
            }
        }
    }

    fn record(&mut self, kind: EventKind) -> Step {
        Ok(self.recorder.record(kind)?)
    }

    /// Drives a step; then says if a signal wants the run cut short.
    async fn during<T>(&mut self, step: impl Future<Output = T>) -> Step<T> {
        let done = self.finish(step).await;
        self.guardian.check().map_err(|fenced| Cut::Short(fenced.to_string()))?;
        if self.cut {
            return Err(Cut::Short("a signal".into()));
        }
        Ok(done)
    }

    /// Drives a step to its end while recording samples, renewing the lease and listening for signals.
    async fn finish<T>(&mut self, step: impl Future<Output = T>) -> T {
        tokio::pin!(step);
        let mut renew = tokio::time::interval(self.guardian.renew_every());
        renew.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                done = &mut step => return done,
                Some(sample) = self.samples.recv() => {
                    if let Err(error) = self.recorder.record(EventKind::Sampled(sample)) {
                        tracing::error!("{error}");
                        self.cut = true;
                    }
                }
                _ = renew.tick() => {
                    if let Err(fenced) = self.guardian.renew() {
                        let taken = EventKind::Disturbed(Disturbance::TakenOver(fenced.to_string()));
                        if self.recorder.record(taken).is_err() { self.cut = true; }
                    }
                }
                signal = self.signals.next() => match signal {
                    Signal::First(name) => {
                        eprintln!("{name}: putting everything back; once more to leave at once");
                        self.cut = true;
                    }
                    Signal::Again(name) => self.signals.leave(&name),
                },
            }
        }
    }
}

fn settled(events: &[Event], phase: Phase) -> bool {
    History::replay(events).is_ok_and(|history| verdict::settled(&history, phase))
}
