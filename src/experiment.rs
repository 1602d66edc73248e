//! One run of a plan: setup → baseline → fault (→ remedy) → undo → recovery → collect → cleanup.
//!
//! Takes a [`Plan`] and a cluster and gives events, nothing else. It does not judge; it only asks the judge whether
//! there is still something to wait for. Whatever happens, signals and errors included, every prepared fault is undone
//! before [`run`] returns. If this process is killed, the guardian undoes it.
//!
//! Every step of the experiment is a future driven by `Run::during`, or by `Run::finish` if it must not be left half
//! done. While a step runs, `Run::attend` records samples, renews the guardian's lease and listens for signals.

mod recorder;
mod step;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use self::recorder::Recorder;
use crate::census::Census;
use crate::clock::{Mono, Wall, boot_id};
use crate::cluster::{Cluster, facts};
use crate::component::{Component, Leader};
use crate::error::{Error, Exit, Result};
use crate::event::{self, Cause, Checkpoint, Disturbance, End, Event, EventKind, Interruption, Phase, Proof};
use crate::fault::{self, Repeating, Witnesses};
use crate::fence::Fenced;
use crate::guardian::Guardian;
use crate::journal::AppendError;
use crate::plan::{Plan, Span};
use crate::probe::{self, Asking};
use crate::progress::Told;
use crate::residue;
use crate::rollback::CleanedUp;
use crate::run_history::History;
use crate::signal::Signals;
use crate::steady_state;
use crate::undo::Undo;
use crate::unwind;
use crate::verdict;
use crate::workload::{self, Object, Rollout, Theirs};

/// How long all probes must show the steady state before the fault goes in.
const QUIET: Duration = Duration::from_secs(5);
/// How long even the shortest fault is watched once it is proven, so that requests that time out fit in.
const OBSERVED_AT_LEAST: Duration = Duration::from_millis(1_500);
/// How long to wait for a steady state. Longer than any timer of a cluster that has just been put back: a client that
/// the API refused for a while (such as kube-proxy, after the store was lost) lists again only after 30 s to 60 s
/// (client-go's `reflector.go`).
const STEADY_WITHIN: Duration = Duration::from_secs(120);
/// After how long a wait that usually is shorter is explained to the user.
const EXPLAIN_AFTER: Duration = Duration::from_secs(15);
/// How long the witnesses may take to agree that an effect is gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);
/// How long samples may be on their way: the deadline of a probe, twice on a starved machine, plus the delay of the
/// sampler's log.
const COLLECTED_WITHIN: Duration = Duration::from_secs(5);
/// How often to check whether open claims are decided.
const LOOK: Duration = Duration::from_millis(500);
/// Longest interval between two renewals of the guardian's lease.
const RENEW: Duration = Duration::from_secs(5);

/// Why a run is cut short. This is not an error: the run ends in order.
enum Cut {
    /// A signal, a lost lease, a broken journal.
    Short(Interruption),
    /// No steady state before the fault, or a fault without effect: there is nothing more to learn.
    Futile,
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        Self { cause: Cause::Error, why: error.in_one_line() }
    }
}

impl From<Fenced> for Interruption {
    fn from(fenced: Fenced) -> Self {
        Self { cause: Cause::LeaseLost, why: fenced.to_string() }
    }
}

impl From<AppendError> for Interruption {
    fn from(error: AppendError) -> Self {
        let cause = match error {
            AppendError::Fenced(_) => Cause::LeaseLost,
            AppendError::Broken(_) => Cause::Journal,
            AppendError::Illegal(_) | AppendError::Unguarded => Cause::Error,
        };
        Self { cause, why: error.to_string() }
    }
}

impl<T: Into<Interruption>> From<T> for Cut {
    fn from(cause: T) -> Self {
        Self::Short(cause.into())
    }
}

type Step<T = ()> = std::result::Result<T, Cut>;

/// Runs the plan to its end, with the user's own workload if the plan names one. The outcome is in the recorder's
/// events; the last one is `Finished`.
///
/// # Errors
/// If the run could not be recorded to its end. Then nothing more is injected, and the guardian, which sees the journal
/// unfinished, puts back what is left.
pub async fn run(
    plan: Plan,
    theirs: Option<&Theirs>,
    cluster: &Cluster,
    recorder: &mut Recorder<'_>,
    guardian: &Guardian,
    signals: &mut Signals,
) -> Result<()> {
    recorder.record(EventKind::Started {
        wall: Wall::now(),
        boot_id: boot_id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        plan: Box::new(plan.clone()),
    })?;
    let (observed_in, observed) = mpsc::channel(65_536);
    let mut renew = tokio::time::interval(guardian.renew_every().min(RENEW));
    renew.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut run = Run {
        plan: Arc::new(plan),
        theirs,
        cluster,
        recorder,
        guardian,
        renew,
        signals,
        observed,
        observed_in,
        probes: CancellationToken::new(),
        witnesses: Vec::new(),
        undos: BTreeMap::new(),
        kept: JoinSet::new(),
        repeating: Repeating::default(),
        late: Vec::new(),
        before: None,
        cut: None,
        cut_written: false,
        ending: false,
    };
    let ended = run.go_through().await;
    // Also if the run leaves everything else to its guardian.
    run.stop_repeating().await;
    ended
}

struct Run<'a, 'w> {
    plan: Arc<Plan>,
    theirs: Option<&'a Theirs>,
    cluster: &'a Cluster,
    recorder: &'a mut Recorder<'w>,
    guardian: &'a Guardian,
    renew: Interval,
    signals: &'a mut Signals,
    /// What the probes observe.
    observed: mpsc::Receiver<EventKind>,
    observed_in: mpsc::Sender<EventKind>,
    probes: CancellationToken,
    /// The witnesses of each fault, in the order of the plan.
    witnesses: Vec<Witnesses>,
    /// The undos of each fault, as far as they are in the journal.
    undos: BTreeMap<usize, Vec<Undo>>,
    /// Tasks that keep in the faults that would otherwise undo themselves.
    kept: JoinSet<()>,
    repeating: Repeating,
    /// Objects that are created once the faults are in.
    late: Vec<Object>,
    /// The census that the audit compares with.
    before: Option<Census>,
    /// Why the run is to end. It ends after the current step.
    cut: Option<Interruption>,
    cut_written: bool,
    /// The run puts back what is left, and no signal cuts that short.
    ending: bool,
}

impl Run<'_, '_> {
    async fn go_through(&mut self) -> Result<()> {
        if let Err(Cut::Short(cut)) = self.observe().await {
            self.cut_short(cut)?;
        }
        let end = self.put_back().await?;
        Ok(self.recorder.record(EventKind::Finished(end))?)
    }

    /// Everything up to the end of collecting. On `Err` the caller puts back what is left.
    async fn observe(&mut self) -> Step {
        self.setup().await?;
        self.baseline().await?;
        self.fault().await?;
        self.remedy().await?;
        self.undo().await?;
        self.recovery().await?;
        self.collect().await
    }

    async fn setup(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Setup))?;
        let (cluster, plan, probes) = (self.cluster, Arc::clone(&self.plan), self.probes.clone());
        let client = self.during(cluster.client()).await??;
        let census = self.census_in_order(&client).await?;
        self.before = Some(census.clone());
        self.record(EventKind::Surveyed { census })?;

        let since = Mono::now();
        let rollout = self.put_in_theirs(&client).await?;
        let deploying = workload::deploy(&cluster.engine, &client, &plan);
        let deployed = self.explained(deploying, workload::waits_for(&client, &plan)).await??;
        if let Some(rollout) = rollout {
            self.rolled_out(rollout).await?;
        }
        self.save().await?;
        let adding = workload::add_after_snapshot(&client, &plan, &deployed);
        self.explained(adding, workload::waits_for(&client, &plan)).await??;
        self.record(EventKind::Waited { what: "workloads to be ready".into(), since })?;
        let asking = self.during(Asking::of(&plan, cluster)).await??;
        let series = probe::start(&plan, &deployed, &cluster.engine, &client, &asking, &self.observed_in, &probes);
        self.late = deployed.late;
        self.record(EventKind::Watching { series })
    }

    /// Takes a census once the cluster is in order. In one that has just been started this takes a while, and until then
    /// nothing that Kubernetes does or does not do would prove anything.
    async fn census_in_order(&mut self, client: &kube::Client) -> Step<Census> {
        let (cluster, give_up) = (self.cluster, Mono::now() + STEADY_WITHIN);
        let mut told = None;
        loop {
            let census = self.during(residue::census(&cluster.engine, &cluster.name, Some(client))).await??;
            let Some(what) = census.not_in_order() else { return Ok(census) };
            if Mono::now() > give_up {
                return Err(Error::could_not_run(format!("cluster {} is not in order: {what}", cluster.name))
                    .next("look why: kubectl get nodes; kubectl get pods -n kube-system; kchaos rollback --all")
                    .into());
            }
            if told.as_ref() != Some(&what) {
                self.note(&format!("waiting for the cluster to be in order: {what}"));
                told = Some(what);
            }
            self.during(tokio::time::sleep(LOOK)).await?;
        }
    }

    /// Creates the user's own workload. While it rolls out, the scenario's workloads can be deployed, too.
    async fn put_in_theirs(&mut self, client: &kube::Client) -> Step<Option<Rollout>> {
        let plan = Arc::clone(&self.plan);
        let (Some(theirs), Some(manifests)) = (self.theirs, &plan.manifests) else { return Ok(None) };
        self.note(&format!("putting {} into namespace {}", manifests.path, manifests.namespace));
        self.during(theirs.put_in(client, &manifests.namespace)).await??;
        Ok(Some(theirs.rollout(client, &manifests.namespace)))
    }

    async fn rolled_out(&mut self, mut rollout: Rollout) -> Step {
        let missing: Vec<&str> = rollout.missing().collect();
        if !missing.is_empty() {
            self.note(&format!("waiting for {}", missing.join(", ")));
        }
        while let Some(rolled_out) = self.during(rollout.next()).await? {
            let name = rolled_out?;
            self.note(&format!("{name} is rolled out"));
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        (self.recorder.watch)(Told::Note(text));
    }

    /// Saves the state that the remedy needs, from a cluster in which the workloads run.
    async fn save(&mut self) -> Step {
        let (engine, plan) = (&self.cluster.engine, Arc::clone(&self.plan));
        if !plan.saves() {
            return Ok(());
        }
        // All of them first: what one keeps in a node is in the way of another that is yet to be prepared.
        for fault in 0..plan.faults.len() {
            self.prepare(fault).await?;
        }
        for (fault, planned) in plan.faults.iter().enumerate() {
            let undo = self.prepare(fault).await?;
            let lease = self.guardian.lease_length();
            let saved = self.finish(fault::save(engine, planned, &undo, lease)).await;
            self.record(EventKind::Saved { fault, what: saved? })?;
        }
        Ok(())
    }

    /// Writes the fault's undos to the journal, once. From then on sends the signs of life that a dead man's switch in
    /// a node waits for.
    async fn prepare(&mut self, fault: usize) -> Step<Vec<Undo>> {
        if let Some(undo) = self.undos.get(&fault) {
            return Ok(undo.clone());
        }
        let (engine, plan) = (&self.cluster.engine, Arc::clone(&self.plan));
        let mut undo = self.during(fault::prepare(engine, &plan.faults[fault])).await??;
        if let Some(remedy) = plan.does().filter(|remedy| fault == 0 || !remedy.is_done_once()) {
            undo.extend(self.during(fault::prepare_remedy(engine, &plan.faults[fault], remedy)).await??);
        }
        self.record(EventKind::Prepared { fault, undo: undo.clone() })?;
        self.undos.insert(fault, undo.clone());
        self.kept.spawn(fault::keep(engine.clone(), undo.clone(), self.guardian.lease_length()));
        Ok(undo)
    }

    /// Waits until every probe has shown its steady state for the quiet time and the witnesses see no effect of the
    /// planned faults.
    async fn baseline(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Baseline))?;
        let since = Mono::now();
        let is_steady = |events: &[Event]| steady_state::holds(events, QUIET).is_ok();
        let mut steady = self.watch(Span { at_least: QUIET, at_most: EXPLAIN_AFTER }, is_steady).await?;
        if !steady {
            if let Err(unsteady) = steady_state::holds(&self.recorder.events, QUIET) {
                (self.recorder.watch)(Told::Unsteady(&unsteady));
            }
            let rest = STEADY_WITHIN - EXPLAIN_AFTER;
            steady = self.watch(Span { at_least: Duration::ZERO, at_most: rest }, is_steady).await?;
        }
        self.record(EventKind::Waited { what: "a quiet baseline".into(), since })?;
        if !steady {
            return Err(Cut::Futile);
        }
        let engine = &self.cluster.engine;
        for fault in 0..self.plan.faults.len() {
            let plan = Arc::clone(&self.plan);
            let called = self.during(Witnesses::call(engine, &plan.faults[fault], &plan.observers)).await??;
            for blind in called.dismissed() {
                tracing::info!("not asked any more: {}: {}", blind.what, blind.seen);
            }
            let (witnesses, within) = (called.baseline().to_vec(), called.agree_within());
            self.witnesses.push(called);
            if witnesses.iter().all(|w| w.effect == Some(false)) {
                self.record(EventKind::Witnessed(Proof { fault, checkpoint: Checkpoint::Baseline, witnesses }))?;
            // On a busy machine, an answer that came too late looks like the effect.
            } else if !self.prove(fault, Checkpoint::Baseline, false, within).await? {
                return Err(Cut::Futile);
            }
        }
        Ok(())
    }

    async fn fault(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Fault))?;
        let (engine, plan) = (&self.cluster.engine, Arc::clone(&self.plan));
        self.during(still_led(self.cluster, &plan)).await??;
        self.during(still_reporting(self.cluster, &plan)).await??;
        // Prepare all faults first: a change by one fault is not the prior state of another.
        for fault in 0..plan.faults.len() {
            self.prepare(fault).await?;
        }
        let injecting = Mono::now();
        for (fault, planned) in plan.faults.iter().enumerate() {
            let undo = self.prepare(fault).await?;
            self.look_last(fault).await?;
            self.guardian.renew()?;
            self.record(EventKind::Injecting { fault })?;
            // Signals do not interrupt an injection, so that the journal knows more about the fault than "maybe".
            let lease = self.guardian.lease_length();
            let injected = self.finish(fault::inject(engine, planned, &undo, lease)).await;
            let error = injected.err().map(|e| e.to_string());
            let failed = error.is_some();
            self.record(EventKind::Injected { fault, error })?;
            // A fault that went in only half counts as none, whatever witnesses see of it.
            if failed {
                return Err(Cut::Futile);
            }
            self.repeating.begin(engine, planned, undo, self.guardian.lease());
            let within = self.witnesses[fault].agree_within();
            if !self.prove(fault, Checkpoint::Injected, true, within).await? {
                return Err(Cut::Futile);
            }
        }
        self.add_late().await?;
        let since = Mono::now();
        let mut span = plan.fault_for;
        // If the fault must end before a timer fires, its duration counts from the injection, not from the proof.
        if plan.over_within.is_some() {
            span = span.less(since.since(injecting)).no_shorter_than(OBSERVED_AT_LEAST);
        }
        self.watch(span, |events| settled(events, Phase::Fault)).await?;
        self.record(EventKind::Waited { what: "Kubernetes to react".into(), since })?;
        let mut healed = false;
        for fault in (0..plan.faults.len()).filter(|fault| plan.shut_in_by(*fault).is_none()) {
            let proof = self.ask(fault, Checkpoint::WindowEnd).await?;
            healed |= proof.witnesses.iter().any(|w| w.effect == Some(false));
            self.record(EventKind::Witnessed(proof))?;
        }
        // What is done about a fault may do harm to those who don't have it.
        if healed && plan.remedy.is_some() {
            return Err(Cut::Futile);
        }
        Ok(())
    }

    /// Proves once more the faults that this fault is about to shut in. From then on they stay as they are, and nobody
    /// can look at them.
    async fn look_last(&mut self, shutting: usize) -> Step {
        for fault in (0..shutting).filter(|fault| self.plan.shut_in_by(*fault) == Some(shutting)).collect::<Vec<_>>() {
            let within = self.witnesses[fault].agree_within();
            if !self.prove(fault, Checkpoint::Injected, true, within).await? {
                return Err(Cut::Futile);
            }
        }
        Ok(())
    }

    /// Applies the remedy, what an operator would do, and watches its effect. If the remedy fails, the run goes on: the
    /// claims on the fault still stand.
    async fn remedy(&mut self) -> Step {
        let (engine, plan) = (&self.cluster.engine, Arc::clone(&self.plan));
        let Some(remedy) = &plan.remedy else { return Ok(()) };
        self.record(EventKind::Phase(Phase::Remedy))?;
        for (fault, planned) in plan.faults.iter().enumerate() {
            let undo = self.prepare(fault).await?;
            self.record(EventKind::Remedying { fault })?;
            let lease = self.guardian.lease_length();
            let done = self.finish(fault::remedy(engine, planned, remedy.does, &undo, lease)).await;
            let error = done.err().map(|e| e.to_string());
            let failed = error.is_some();
            self.record(EventKind::Remedied { fault, error })?;
            if failed {
                return Ok(());
            }
        }
        let since = Mono::now();
        self.watch(remedy.watched_for, |events| settled(events, Phase::Remedy)).await?;
        self.record(EventKind::Waited { what: "what was remedied to be back".into(), since })
    }

    async fn add_late(&mut self) -> Step {
        let (cluster, late) = (self.cluster, std::mem::take(&mut self.late));
        if !late.is_empty() {
            let client = self.during(cluster.client()).await??;
            self.during(workload::add(&client, &late)).await??;
        }
        Ok(())
    }

    async fn undo(&mut self) -> Step {
        self.record(EventKind::Phase(Phase::Undo))?;
        self.roll_back().await?;
        self.record(EventKind::Phase(Phase::Recovery))?;
        // Nothing recovers of a node that somebody has removed.
        if !event::removed_nodes(&self.recorder.events).is_empty() {
            return Err(Cut::Futile);
        }
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

    /// Records the samples that the probes had begun when recovery ended.
    async fn collect(&mut self) -> Step {
        let until = Mono::now();
        self.record(EventKind::Phase(Phase::Collect))?;
        let span = Span { at_least: Duration::ZERO, at_most: COLLECTED_WITHIN };
        self.watch(span, |events| History::replay(events).is_ok_and(|h| h.is_collected(until))).await?;
        Ok(())
    }

    /// What must happen in any case: undo, removal of everything that kchaos created, audit. Signals no longer cut it
    /// short.
    async fn put_back(&mut self) -> Result<End> {
        self.ending = true;
        // What is seen of a run that was cut short is no evidence, and putting back is urgent.
        if self.cut.is_some() {
            self.stop_observing();
        }
        let undone = self.roll_back().await?;
        self.recorder.record(EventKind::Phase(Phase::Cleanup))?;
        self.stop_observing();
        let Some(before) = self.before.take() else { return Ok(undone) };
        let (cluster, plan) = (self.cluster, Arc::clone(&self.plan));
        let warn = |text: &str| tracing::warn!("{text}");
        let cleaned_up = self.finish(CleanedUp::of(&cluster.engine, &plan, &before, &warn)).await;
        let told = event::removed_nodes(&self.recorder.events);
        let untold: Vec<_> = cleaned_up.removed.iter().filter(|node| !told.contains(node.as_str())).collect();
        for node in untold {
            self.recorder.record(EventKind::Disturbed(Disturbance::NodeRemoved(node.clone())))?;
        }
        let since = Mono::now();
        let residue = self.finish(cleaned_up.audit(&cluster.engine, &plan, &before)).await;
        self.recorder.record(EventKind::Waited { what: "the cluster to be as before".into(), since })?;
        let clean = residue.is_empty() && undone == End::Clean;
        self.recorder.record(EventKind::Audited { residue })?;
        Ok(if clean { End::Clean } else { End::Dirty })
    }

    /// From here on the evidence is complete: samples that arrive count for nothing and are not recorded.
    fn stop_observing(&mut self) {
        self.probes.cancel();
        self.observed.close();
        while self.observed.try_recv().is_ok() {}
    }

    /// Applies every undo that is in the journal and not yet applied.
    async fn roll_back(&mut self) -> Result<End> {
        self.stop_repeating().await;
        let engine = self.cluster.engine.clone();
        // Undoing does not need samples, and there are many.
        let actions = self.recorder.events.iter().filter(|e| !matches!(e.kind, EventKind::Sampled(_)));
        let actions: Vec<Event> = actions.cloned().collect();
        let (tell, mut told) = mpsc::unbounded_channel();
        let undoing = tokio::spawn(async move {
            // Sending can't fail: the receiver lives until the sender is dropped.
            let mut record = move |kind| drop(tell.send(kind));
            unwind::all(&engine, &actions, unwind::ENGINE_BACK_WITHIN, &mut record).await
        });
        let mut unrecorded = None;
        while let Some(kind) = self.finish(told.recv()).await {
            // An undo goes on even if it can't be recorded. The guardian then sees that the journal is unfinished.
            if let Err(error) = self.recorder.record(kind) {
                unrecorded.get_or_insert(error);
            }
        }
        let undone = undoing.await;
        // Not before: what waits for its turn to be undone must not undo itself meanwhile.
        self.kept.abort_all();
        let end = undone.map_err(|e| Error::with_exit(Exit::Dirty, format!("the rollback broke down: {e}")))?;
        unrecorded.map_or(Ok(end), |error| Err(error.into()))
    }

    /// Waits until no fault is made again any more.
    async fn stop_repeating(&mut self) {
        let mut repeating = std::mem::take(&mut self.repeating);
        self.finish(repeating.end()).await;
    }
}

/// Do the components that the plan breaks as leaders still lead on their nodes? Checked just before the fault, since
/// leadership may have changed since the plan was made.
async fn still_led(cluster: &Cluster, plan: &Plan) -> Result<()> {
    // A fault of another component that has a leader does not matter to this one.
    let broken = |leader: &Leader, node: &String| {
        let is_other = |of: Component| Leader::ALL.iter().any(|other| other != leader && other.name() == of.name());
        let breaks = |of: Option<Component>| !of.is_some_and(is_other);
        plan.faults.iter().any(|fault| fault.node.name == *node && breaks(fault.spec.component()))
    };
    if !plan.facts.leaders.iter().any(|(leader, node)| broken(leader, node)) {
        return Ok(());
    }
    let now = facts::read_leaders(&cluster.client().await?).await?;
    match plan.facts.leaders.iter().find(|(leader, node)| broken(leader, node) && now.get(leader) != Some(node)) {
        None => Ok(()),
        Some((leader, node)) => {
            Err(Error::could_not_run(format!("{} does not lead on {node} any more", leader.name()))
                .next("run it again"))
        }
    }
}

/// Do the kubelets of all nodes that no fault affects still report to the API servers that the plan names? Checked just
/// before the fault.
async fn still_reporting(cluster: &Cluster, plan: &Plan) -> Result<()> {
    if plan.facts.reporting.is_empty() {
        return Ok(());
    }
    let now = facts::read_reporting(&cluster.engine, &plan.facts).await;
    for (node, plane) in plan.reporting() {
        let told = match now.get(node) {
            Some(now) if now == plane => continue,
            Some(now) => format!("the kubelet of {node} reports to the API server of {now}, and no longer to {plane}"),
            None => "the audit logs don't tell any more which API server each kubelet reports to".to_owned(),
        };
        return Err(Error::could_not_run(told).next("run it again"));
    }
    Ok(())
}

fn settled(events: &[Event], phase: Phase) -> bool {
    History::replay(events).is_ok_and(|history| verdict::settled(&history, phase))
}
