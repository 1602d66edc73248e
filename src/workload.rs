//! What runs in the cluster while it is broken: the scenario's workloads, the samplers that watch them from inside, and
//! the user's own workload, if there is one.
//!
//! This module takes a plan, puts its objects into namespaces of the run's own, waits until all of them are ready, and
//! returns the samplers with their targets. It breaks nothing and judges nothing. [`remove`] removes what was put in,
//! and nothing else.

mod hasten;
mod manifest;
mod processor_share;
mod ready;
mod sampler;
#[cfg(test)]
mod tests;
mod user_manifests;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim as Claim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::agent_image;
use crate::cluster::docker::Engine;
use crate::error::{Error, Result};
use crate::node::{NodeId, Role};
use crate::plan::Plan;
use crate::scenario::Stage;

pub(crate) use hasten::hastened;
pub use manifest::{CANARY, Object, RUN, WORKLOAD, agnhost};
pub use sampler::{Sampler, Watched, check_theirs};
pub use user_manifests::{Rollout, Theirs};

/// An image may have to be pulled first; if all are preloaded, it takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How much longer it may take for each pod. On two cores, up to four pods were started in a second.
const READY_EACH: Duration = Duration::from_secs(1);
/// How long the API may take to accept the late workloads.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);
/// How long one try may take. A load balancer that has not noticed the fault yet sends some requests to nobody.
const TAKEN_AT_ONCE: Duration = Duration::from_secs(2);
/// Time between two looks whether a namespace's pods are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// How long the pods of the user's own workload may take to end once it is removed: nobody needs them any more, and the
/// cluster is not as before while they exist.
const THEIR_LAST_SECONDS: u32 = 10;
/// How long an earlier run's namespace may take to go away. It waits for volumes to be cleaned up.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// The samplers in the cluster, and the objects that are still to be put in.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    /// One on each node that probes ask from; empty if no probe needs a sampler.
    pub samplers: Vec<Sampler>,
    /// Objects to put in once the snapshot is taken: see [`add_after_snapshot`].
    pub after_snapshot: Vec<Object>,
    /// Objects to put in once the fault is in: see [`add`].
    pub late: Vec<Object>,
}

/// Puts the workloads of the first stage and the samplers into the cluster, and waits until they are ready and placed
/// as the plan wants.
///
/// # Errors
/// If an object is refused, something does not become ready (the error says what, and why as far as the cluster tells),
/// or replicas are not on the nodes that the plan wants. What was made stays: [`remove`] removes it.
pub async fn deploy(engine: &Engine, client: &Client, plan: &Plan) -> Result<Deployed> {
    let nodes: Vec<NodeId> =
        plan.facts.nodes.values().filter(|n| n.role != Role::LoadBalancer).map(|n| n.node.clone()).collect();
    let image = agent_image::ensure(engine, &nodes).await?;
    let of = |stage| manifest::of_stage(plan, &image, stage);
    let first = of(Stage::First)?;
    let watch = plan.watch_namespace();
    futures::try_join!(vacate(client, &plan.namespace, None), vacate(client, &watch, None))?;
    for object in manifest::foundation(plan) {
        create_once(client, &object).await?;
    }
    try_join_all(first.iter().map(|object| create_once(client, object))).await?;
    ready::workloads(client, plan, Stage::First, ready_within(plan)).await?;
    let pods = Api::<Pod>::namespaced(client.clone(), &plan.namespace)
        .list(&ListParams::default())
        .await
        .map_err(|e| failed("list the pods of the workloads", &e))?
        .items;
    spread(plan, &pods)?;
    started_on(plan, &pods)?;
    let samplers = sampler::deploy(client, plan, &image, &pods).await?;
    Ok(Deployed { samplers, after_snapshot: of(Stage::AfterSnapshot)?, late: of(Stage::WithTheFault)? })
}

/// Puts in the objects that come after a snapshot, and waits until they are ready.
///
/// # Errors
/// If an object is refused, or something does not become ready.
pub async fn add_after_snapshot(client: &Client, plan: &Plan, deployed: &Deployed) -> Result<()> {
    try_join_all(deployed.after_snapshot.iter().map(|object| create_once(client, object))).await?;
    ready::workloads(client, plan, Stage::AfterSnapshot, ready_within(plan)).await
}

/// What a run that puts in its workloads is waiting for, as far as the cluster says.
pub async fn waits_for(client: &Client, plan: &Plan) -> String {
    let watch = plan.watch_namespace();
    let of = async |namespace: &str| {
        let complaints = ready::complaints(client, namespace).await?;
        Some(format!("namespace {namespace}: {complaints}"))
    };
    let (ours, watching) = tokio::join!(of(&plan.namespace), of(&watch));
    let told: Vec<String> = ours.into_iter().chain(watching).collect();
    match told.is_empty() {
        true => "its workloads to be ready; the cluster says nothing against them".to_owned(),
        false => told.join("; "),
    }
}

fn ready_within(plan: &Plan) -> Duration {
    READY_WITHIN + READY_EACH * plan.workloads.values().map(|workload| workload.replicas).sum()
}

/// Puts in the late workloads. Claims tell what becomes of them, so they are not waited for.
///
/// # Errors
/// If an object is refused, or the API does not answer in time.
pub async fn add(client: &Client, late: &[Object]) -> Result<()> {
    let creating = try_join_all(late.iter().map(|object| create_somehow(client, object)));
    match tokio::time::timeout(TAKEN_WITHIN, creating).await {
        Ok(created) => created.map(drop),
        Err(_) => Err(Error::could_not_run(format!(
            "could not create the late workloads: the API did not answer within {} s",
            TAKEN_WITHIN.as_secs()
        ))),
    }
}

/// Removes everything of a run. Does not wait for its namespaces to be gone; see [`gone`].
///
/// # Errors
/// If the API does not do it, or a namespace is not one of kchaos'. Whatever can be removed is removed all the same.
pub async fn remove(client: &Client, plan: &Plan) -> Result<()> {
    let theirs = async {
        match &plan.manifests {
            Some(manifests) => remove_namespace(client, &manifests.namespace, Some(THEIR_LAST_SECONDS)).await,
            None => Ok(()),
        }
    };
    let watch = plan.watch_namespace();
    let (ours, watching, theirs) =
        tokio::join!(remove_namespace(client, &plan.namespace, None), remove_namespace(client, &watch, None), theirs);
    ours.and(watching).and(theirs)
}

/// Removes a namespace of a run. Its pods have `grace` seconds to end, or as many as they want if it is `None`.
async fn remove_namespace(client: &Client, namespace: &str, grace: Option<u32>) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let doing = format!("remove namespace {namespace}");
    let Some(found) = namespaces.get_opt(namespace).await.map_err(|e| failed(&doing, &e))? else { return Ok(()) };
    if found.labels().get(RUN).map(String::as_str) != Some(namespace) {
        return Err(Error::could_not_run(format!("namespace {namespace} exists and was not made by kchaos"))
            .next("choose another seed: the namespace's name depends on it"));
    }
    // By uid, so that a namesake is never removed.
    let uid = Preconditions { uid: found.uid(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(uid), ..DeleteParams::background() };
    match namespaces.delete(namespace, &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        Err(e) => return Err(failed(&doing, &e)),
    }
    // The namespace's controller would get to these only after some seconds, in alphabetical order. From now on nothing
    // new can be made in the namespace. If this fails, the controller does it.
    let (now, all) = (DeleteParams::background(), ListParams::default());
    let in_time = DeleteParams { grace_period_seconds: grace, ..now.clone() };
    let (pods, claims) =
        (Api::<Pod>::namespaced(client.clone(), namespace), Api::<Claim>::namespaced(client.clone(), namespace));
    let hastened = tokio::join!(pods.delete_collection(&in_time, &all), claims.delete_collection(&now, &all));
    if let (Err(error), _) | (_, Err(error)) = hastened {
        tracing::debug!("{doing} sooner: {error}");
    }
    Ok(())
}

/// Waits until a removed namespace is gone.
///
/// # Errors
/// If it is not gone in time.
pub async fn gone(client: &Client, namespace: &str, within: Duration) -> Result<()> {
    let waiting = ready::until(Api::<Namespace>::all(client.clone()), namespace, |found| found.is_none());
    tokio::time::timeout(within, waiting).await.map_err(|_| {
        Error::could_not_run(format!("namespace {namespace} is still there after {} s", within.as_secs()))
            .next(format!("see what holds it: kubectl get namespace {namespace} -o yaml"))
    })
}

/// Removes what is left under the name of this run, and waits until it is gone. There is nothing, unless somebody has
/// made it since the census.
async fn vacate(client: &Client, namespace: &str, grace: Option<u32>) -> Result<()> {
    let found = Api::<Namespace>::all(client.clone()).get_opt(namespace).await;
    if found.map_err(|e| failed("look for leftovers of earlier runs", &e))?.is_none() {
        return Ok(());
    }
    remove_namespace(client, namespace, grace).await?;
    gone(client, namespace, GONE_WITHIN).await
}

async fn create_once(client: &Client, object: &Object) -> Result<()> {
    create(client, object).await.map_err(|e| failed(&format!("create {object}"), &e))
}

/// Tries without limit until the API has the object or refuses it. An unanswered request may have succeeded, and then
/// the object is there already.
async fn create_somehow(client: &Client, object: &Object) -> Result<()> {
    loop {
        let error = match tokio::time::timeout(TAKEN_AT_ONCE, create(client, object)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => return Ok(()),
            Ok(Err(e)) if is_refusal(&e) => return Err(failed(&format!("create {object}"), &e)),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::info!("{object} is not created yet: {error}");
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Whether the API says that it won't, rather than that it can't.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && !matches!(status.code, 409 | 429))
}

async fn create(client: &Client, object: &Object) -> kube::Result<()> {
    match object {
        Object::Namespace(o) => post(&Api::all(client.clone()), o).await,
        Object::ConfigMap(o) => post(&namespaced(client, o), o).await,
        Object::ServiceAccount(o) => post(&namespaced(client, o), o).await,
        Object::PersistentVolumeClaim(o) => post(&namespaced(client, o), o).await,
        Object::Service(o) => post(&namespaced(client, o), o).await,
        Object::PodDisruptionBudget(o) => post(&namespaced(client, o), o).await,
        Object::Pod(o) => post(&namespaced(client, o.as_ref()), o.as_ref()).await,
        Object::Deployment(o) => post(&namespaced(client, o.as_ref()), o.as_ref()).await,
        Object::StatefulSet(o) => post(&namespaced(client, o.as_ref()), o.as_ref()).await,
        Object::DaemonSet(o) => post(&namespaced(client, o.as_ref()), o.as_ref()).await,
    }
}

fn namespaced<K>(client: &Client, object: &K) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

async fn post<K>(api: &Api<K>, object: &K) -> kube::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), object).await.map(drop)
}

/// Verifies that replicas that must be on different nodes are, and that a target's node has one of them to lose.
fn spread(plan: &Plan, pods: &[Pod]) -> Result<()> {
    let workers = plan.facts.nodes.values().filter(|n| n.role == Role::Worker).count();
    for (name, workload) in plan.workloads.iter().filter(|(_, w)| w.spread && w.stage() == Stage::First) {
        let of = pods.iter().filter(|p| p.labels().get(WORKLOAD) == Some(name));
        let on: BTreeSet<&str> = of.filter_map(|p| p.spec.as_ref()?.node_name.as_deref()).collect();
        let wanted = usize::try_from(workload.replicas).unwrap_or(usize::MAX).min(workers);
        let hit =
            plan.targets.values().filter(|n| plan.facts.nodes.get(&n.name).is_some_and(|n| n.role == Role::Worker));
        let missed = hit.map(|n| n.name.as_str()).find(|n| workload.on.is_none() && !on.contains(n));
        let wrong = match missed {
            _ if on.len() < wanted => format!("are on {} nodes instead of {wanted}", on.len()),
            Some(node) if on.len() < workers => format!("have none on {node}, which is to be broken"),
            _ => continue,
        };
        return Err(Error::could_not_run(format!(
            "the scheduler did not spread workload `{name}`: its replicas {wrong}"
        ))
        .next("see whether a worker is full, tainted or cordoned: kubectl describe nodes"));
    }
    Ok(())
}

/// Verifies that the pods that are to start on a target's node are there.
fn started_on(plan: &Plan, pods: &[Pod]) -> Result<()> {
    for (name, workload) in plan.workloads.iter().filter(|(_, w)| w.stage() == Stage::First) {
        let Some(wanted) = workload.starts_on.as_ref().and_then(|target| plan.targets.get(target)) else { continue };
        let of = pods.iter().filter(|p| p.labels().get(WORKLOAD) == Some(name));
        let on = of.map(|p| p.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node"));
        if let Some(other) = on.into_iter().find(|node| *node != wanted.name) {
            let told = format!("the scheduler put workload `{name}` on {other} instead of {}", wanted.name);
            return Err(Error::could_not_run(told)
                .next("see whether that node is full, tainted or cordoned: kubectl describe nodes"));
        }
    }
    Ok(())
}

fn failed(doing: &str, error: &kube::Error) -> Error {
    Error::could_not_run(format!("could not {doing}: {error}"))
}
