//! Everything that is observed during a run, as a stream of samples.
//!
//! This module takes a plan and handles to a cluster and produces [`Sample`]s until it is told to stop. It runs one
//! task per *source*, not per probe, so that probes of one source see the same moment and share the cost of one look.
//! The sources, with their probes and series:
//!
//! - The engine, for what *is*: `node-state`, `node-processes`, `component-processes`, `component-identities`,
//!   `kubelet-answers`, `api-answers`, `containers`, `container-identities`. One unnamed series each.
//! - Lists from the API, for what is believed: `node-ready`, `node-taints`, `nodes-missed`, `pods`, `pod-identities`,
//!   `restarts`, `endpoints`, `leader`. One unnamed series each.
//! - The API itself: `api`, `api-of`. One unnamed series each.
//! - A list of what was written: `writes`. One unnamed series.
//! - The API servers' audit logs: `stale-writes`. One unnamed series.
//! - The API, for what it asks a kubelet: `log`, `exec`. One unnamed series.
//! - A URL, asked by kchaos: `reach`. One unnamed series.
//! - Samplers in pods: `reach` (a Service), `requests`, `token`. One series for each observer, named after its node.
//! - Samplers in pods: `pod-requests`. One series for each observer and pod, named `NODE→POD`.
//!
//! Beside the samples it tells what the machine's processors did.
//!
//! Every source is kept honest: beside what it was told to ask, it asks something that must fail, and a null probe
//! tells whether it was starved. A sample that could not see is `Unknown`, and so is a slot that nobody served;
//! neither is ever made up. Nothing is retried and nothing is judged here.

mod api;
mod api_to_kubelet;
mod believed;
mod engine;
mod ledger;
mod processors;
mod sampler_log;
mod stale_writes;
mod url;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Mono;
use crate::cluster::api::Identity;
use crate::cluster::docker::Engine;
use crate::cluster::{self, Cluster};
use crate::component::Leader;
use crate::error::Result;
use crate::event::EventKind;
use crate::observer_lag::SharedLag;
use crate::plan::{Plan, PlannedProbe};
use crate::sample::{Failure, Outcome, Sample};
use crate::scenario::{Address, ApiVerb, ProbeSource};
use crate::time_slots::{Slot, Slots};
use crate::workload::Deployed;

use self::ledger::Ledger;

/// How many missed slots of one stall are told of. The rest are missing, which means the same.
const MISSED_TOLD: u64 = 100;
const NULL_EVERY: Duration = Duration::from_millis(50);

/// Clients for the `api` probes, by index of the probe. They make a new connection for each request, so they see what a newly arriving user
/// sees, not what a user with an open connection sees.
#[derive(Clone)]
pub struct Asking(BTreeMap<usize, Client>);

impl Asking {
    /// Makes a client for each probe of the plan that asks the API.
    ///
    /// # Errors
    /// If the cluster shows no credentials, or a node publishes no port of its API.
    pub async fn of(plan: &Plan, cluster: &Cluster) -> Result<Self> {
        let mut clients = BTreeMap::new();
        for (index, probe) in plan.probes.iter().enumerate() {
            let ProbeSource::Api { of, verb } = probe.spec.source() else { continue };
            let identity = match verb {
                ApiVerb::ReadByOperator => Identity::Operator,
                ApiVerb::Read | ApiVerb::ReadCached | ApiVerb::ReadDefault | ApiVerb::Write => Identity::User,
            };
            let client = match of {
                None => cluster.fresh_client(identity).await?,
                Some(target) => {
                    let Some(node) = plan.targets.get(target) else { continue };
                    let server = cluster::api::published(&cluster.engine, node).await?;
                    cluster.credentials(identity).await?.fresh_client(server).await?
                }
            };
            clients.insert(index, client);
        }
        Ok(Self(clients))
    }
}

/// Part of the names of objects written the way users write.
const USERS: &str = "users";

/// Starts all probes of the plan and returns the series they will have, by index of the probe. A returned series that
/// then yields no samples is a gap. What is observed goes to `observed`, to be recorded, until `cancel`.
///
/// `via` is the client for kchaos' own questions to the API; `asking` holds the clients of the `api` probes.
pub fn start(
    plan: &Arc<Plan>,
    deployed: &Deployed,
    engine: &Engine,
    via: &Client,
    asking: &Asking,
    observed: &mpsc::Sender<EventKind>,
    cancel: &CancellationToken,
) -> BTreeMap<usize, Vec<String>> {
    let source = Source { observed: observed.clone(), lag: SharedLag::default() };
    let ledger = Ledger::default();
    run(cancel, null(source.lag.clone()));
    run(cancel, processors::watch(Arc::clone(plan), engine.clone(), observed.clone()));
    for (pace, probes) in paces(plan, ProbeSource::Engine) {
        run(cancel, engine::poll(Arc::clone(plan), probes, pace, engine.clone(), source.clone()));
    }
    for (pace, probes) in paces(plan, ProbeSource::Lists) {
        run(cancel, believed::poll(Arc::clone(plan), probes, pace, via.clone(), source.clone()));
    }
    for leader in Leader::ALL {
        for (pace, probes) in paces(plan, ProbeSource::AuditLog(leader)) {
            run(cancel, stale_writes::poll(Arc::clone(plan), probes, leader, pace, engine.clone(), source.clone()));
        }
    }
    for (index, probe) in plan.probes.iter().enumerate() {
        let (pace, namespace) = (Pace::of(probe), plan.watch_namespace());
        match probe.spec.source() {
            ProbeSource::Api { of, verb } => {
                let Some(client) = asking.0.get(&index).cloned() else { continue };
                let by = of.map_or_else(|| USERS.to_owned(), |target| format!("of-{target}"));
                let asked = api::Asked { probe: index, verb, by, namespace };
                run(cancel, api::poll(asked, pace, client, ledger.clone(), source.clone()));
            }
            ProbeSource::Ledger(that) => {
                let asked = ledger::Asked { probe: index, that, namespace };
                run(cancel, ledger::poll(asked, pace, via.clone(), ledger.clone(), source.clone()));
            }
            ProbeSource::ApiToKubelet { pod, wants } => {
                let (pod, namespace) = (pod.to_owned(), plan.namespace.clone());
                let asked = api_to_kubelet::Asked { probe: index, wants, pod, namespace };
                run(cancel, api_to_kubelet::poll(asked, pace, via.clone(), source.clone()));
            }
            ProbeSource::Address(address @ Address::Url { host, port, .. }) => {
                let asked = url::Asked { probe: index, host: host.clone(), port: *port, request: address.request() };
                run(cancel, url::poll(asked, pace, source.clone()));
            }
            _ => {}
        }
    }
    for sampler in &deployed.samplers {
        run(cancel, sampler_log::follow(engine.clone(), sampler.clone(), observed.clone()));
    }
    series(plan, deployed)
}

/// The series of every probe of the plan, by index of the probe.
pub fn series(plan: &Plan, deployed: &Deployed) -> BTreeMap<usize, Vec<String>> {
    let of = |(index, probe): (usize, &PlannedProbe)| {
        let names = match probe.spec.source() {
            ProbeSource::Engine
            | ProbeSource::Lists
            | ProbeSource::Api { .. }
            | ProbeSource::Ledger(_)
            | ProbeSource::AuditLog(_)
            | ProbeSource::ApiToKubelet { .. }
            | ProbeSource::Address(Address::Url { .. }) => vec![String::new()],
            ProbeSource::Service(_) | ProbeSource::EachPod(_) | ProbeSource::Address(Address::Service { .. }) => {
                let watches = deployed.samplers.iter().flat_map(|s| &s.watches);
                watches.filter(|w| w.probe == index).map(|w| w.series.clone()).collect()
            }
        };
        (index, names)
    };
    plan.probes.iter().enumerate().map(of).collect()
}

/// How often a source looks, and how long a look may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pace {
    interval: Duration,
    timeout: Duration,
}

impl Pace {
    fn of(probe: &PlannedProbe) -> Self {
        Self { interval: probe.interval, timeout: probe.timeout }
    }
}

/// What every source has: a channel for what it observes, and knowledge of how much time it lost.
#[derive(Clone)]
struct Source {
    observed: mpsc::Sender<EventKind>,
    lag: SharedLag,
}

impl Source {
    /// Sends one sample. A timeout counts only if this process was not kept from its work.
    async fn send(&self, taken: &Taken, timeout: Duration, probe: usize, series: &str, mut outcome: Outcome) {
        if outcome == Outcome::Failed(Failure::Timeout) && self.lag.excuses(taken.due, taken.end, timeout) {
            outcome = Outcome::starved();
        }
        let Taken { slot, due, start, end } = *taken;
        let sample = Sample { probe, series: series.to_owned(), slot, due, start, end, outcome };
        // It fails if nobody takes samples any more: the run is over.
        let _ = self.observed.send(EventKind::Sampled(sample)).await;
    }
}

/// When a sample was taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    slot: u64,
    due: Mono,
    start: Mono,
    end: Mono,
}

impl Taken {
    /// Runs `look` and records when.
    async fn take<T>(slot: &Slot, look: impl Future<Output = T>) -> (Self, T) {
        let start = Mono::now();
        let seen = look.await;
        (Self { slot: slot.number, due: slot.due, start, end: Mono::now() }, seen)
    }
}

/// One sample of a slot: index of the probe in the plan, when it was taken, and its outcome.
type Looked = (usize, Taken, Outcome);

/// Looks at a source at its pace, forever. Each slot has a task of its own, so that a slow answer delays no later
/// question. Slots for which this process had no time are told of, too.
async fn poll<L>(pace: Pace, source: Source, probes: &[usize], look: impl Fn(Slot) -> L)
where
    L: Future<Output = Vec<Looked>> + Send + 'static,
{
    let mut slots = Slots::new(Mono::now(), pace.interval);
    loop {
        let slot = slots.next().await;
        for missed in slot.last_missed(MISSED_TOLD) {
            let now = Mono::now();
            let taken = Taken { slot: missed, due: slots.due(missed), start: now, end: now };
            for &probe in probes {
                source.send(&taken, pace.timeout, probe, "", Outcome::missed()).await;
            }
        }
        let look = look(slot);
        let source = source.clone();
        tokio::spawn(async move {
            for (probe, taken, outcome) in look.await {
                source.send(&taken, pace.timeout, probe, "", outcome).await;
            }
        });
    }
}

/// The null probe: it asks nobody, so whatever it is late by was lost in this process.
async fn null(lag: SharedLag) {
    let mut slots = Slots::new(Mono::now(), NULL_EVERY);
    loop {
        let slot = slots.next().await;
        lag.record(slots.due(slot.missed.start), Mono::now(), slots.due(slot.number + 1));
    }
}

fn run(cancel: &CancellationToken, source: impl Future<Output = ()> + Send + 'static) {
    let cancel = cancel.clone();
    tokio::spawn(async move { cancel.run_until_cancelled(source).await });
}

/// Probes of one source, grouped by pace.
fn paces(plan: &Plan, source: ProbeSource) -> BTreeMap<Pace, Vec<usize>> {
    let mut paces = BTreeMap::<Pace, Vec<usize>>::new();
    for (index, probe) in plan.probes.iter().enumerate().filter(|(_, p)| p.spec.source() == source) {
        paces.entry(Pace::of(probe)).or_default().push(index);
    }
    paces
}

fn blind(why: impl std::fmt::Display) -> Outcome {
    Outcome::Unknown(format!("probe-blind: {why}"))
}
