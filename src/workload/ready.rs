//! Waits until workloads are ready, by watch, and explains why they are not.

use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::scenario::{Stage, WorkloadKind};

const EXPLAIN_WITHIN: Duration = Duration::from_secs(10);
/// Pods shown of those that are not ready.
const PODS_SHOWN: usize = 10;
const EVENTS_SHOWN: usize = 5;

/// Waits until every workload of this stage has all its pods ready.
pub(super) async fn workloads(client: &Client, plan: &Plan, stage: Stage, within: Duration) -> Result<()> {
    let waits = plan.workloads.iter().filter(|(_, w)| w.stage() == stage).map(|(name, workload)| async move {
        let (client, namespace) = (client.clone(), &plan.namespace);
        match workload.kind {
            WorkloadKind::Pod => until(Api::namespaced(client, namespace), name, |p| p.is_some_and(pod)).await,
            WorkloadKind::Deployment => {
                until(Api::namespaced(client, namespace), name, |d| d.is_some_and(deployment)).await;
            }
            WorkloadKind::StatefulSet => {
                until(Api::namespaced(client, namespace), name, |s| s.is_some_and(stateful_set)).await;
            }
            WorkloadKind::DaemonSet => {
                let is =
                    |d: &DaemonSet| daemon_set(d) && d.status.as_ref().is_some_and(|s| s.desired_number_scheduled > 0);
                until(Api::namespaced(client, namespace), name, |d| d.is_some_and(is)).await;
            }
        }
    });
    match tokio::time::timeout(within, join_all(waits)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(not_ready(client, &plan.namespace, within).await),
    }
}

/// Waits until these pods are ready.
pub(super) async fn pods(client: &Client, namespace: &str, names: &[String], within: Duration) -> Result<()> {
    let waits =
        names.iter().map(|name| until(Api::namespaced(client.clone(), namespace), name, |p| p.is_some_and(pod)));
    match tokio::time::timeout(within, join_all(waits)).await {
        Ok(_) => Ok(()),
        Err(_) => Err(not_ready(client, namespace, within).await),
    }
}

/// Waits, without limit, until the named object (`None`: there is none) satisfies `is`. Errors of the watch are waited
/// out.
pub(super) async fn until<K>(api: Api<K>, name: &str, mut is: impl FnMut(Option<&K>) -> bool)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut watch = std::pin::pin!(watch_object(api, name).default_backoff());
    while let Some(seen) = watch.next().await {
        match seen {
            Ok(object) if is(object.as_ref()) => return,
            Ok(_) => {}
            Err(error) => tracing::debug!("watch of {name}: {error}"),
        }
    }
}

/// Whether the pod is ready.
pub(super) fn pod(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

pub(super) fn deployment(d: &Deployment) -> bool {
    let wanted = d.spec.as_ref().and_then(|s| s.replicas);
    d.status.as_ref().is_some_and(|status| {
        let all = |there| all(&d.metadata, status.observed_generation, there, wanted);
        all(status.ready_replicas) && all(status.replicas)
    })
}

pub(super) fn stateful_set(s: &StatefulSet) -> bool {
    let wanted = s.spec.as_ref().and_then(|s| s.replicas);
    s.status.as_ref().is_some_and(|status| all(&s.metadata, status.observed_generation, status.ready_replicas, wanted))
}

pub(super) fn replica_set(r: &ReplicaSet) -> bool {
    let wanted = r.spec.as_ref().and_then(|s| s.replicas);
    r.status.as_ref().is_some_and(|status| all(&r.metadata, status.observed_generation, status.ready_replicas, wanted))
}

pub(super) fn replication_controller(r: &ReplicationController) -> bool {
    let wanted = r.spec.as_ref().and_then(|s| s.replicas);
    r.status.as_ref().is_some_and(|status| all(&r.metadata, status.observed_generation, status.ready_replicas, wanted))
}

pub(super) fn daemon_set(d: &DaemonSet) -> bool {
    d.status.as_ref().is_some_and(|status| {
        let wanted = Some(status.desired_number_scheduled);
        all(&d.metadata, status.observed_generation, Some(status.number_ready), wanted)
    })
}

/// Whether as many exist as are wanted, by a status newer than the last change. Kubernetes leaves out a zero.
fn all(metadata: &ObjectMeta, observed: Option<i64>, there: Option<i32>, wanted: Option<i32>) -> bool {
    observed >= metadata.generation && there.unwrap_or_default() == wanted.unwrap_or_default()
}

async fn not_ready(client: &Client, namespace: &str, within: Duration) -> Error {
    let why = why_not(client, namespace).await;
    let what = format!("workloads in namespace {namespace} are not ready after {} s: {why}", within.as_secs());
    Error::could_not_run(what).next("see to it that every node is Ready and has the images: kubectl get nodes,pods -A")
}

/// Why pods in the namespace are not ready, as far as the cluster says.
pub(super) async fn why_not(client: &Client, namespace: &str) -> String {
    complaints(client, namespace).await.unwrap_or_else(|| "the cluster does not say why".to_owned())
}

/// What the cluster says of pods in the namespace that are not ready; `None` if nothing.
pub(super) async fn complaints(client: &Client, namespace: &str) -> Option<String> {
    match tokio::time::timeout(EXPLAIN_WITHIN, explain(client, namespace)).await {
        Ok(Ok(why)) if why.is_empty() => None,
        Ok(Ok(why)) => Some(why.join("; ")),
        Ok(Err(error)) => Some(format!("and the API does not tell why: {error}")),
        Err(_) => Some("and the API does not tell why".to_owned()),
    }
}

async fn explain(client: &Client, namespace: &str) -> Result<Vec<String>, kube::Error> {
    let everything = ListParams::default();
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&everything).await?;
    let unready = || pods.items.iter().filter(|p| !pod(p));
    let mut why: Vec<String> = unready().take(PODS_SHOWN).map(describe).collect();
    match unready().count().saturating_sub(PODS_SHOWN) {
        0 => {}
        more => why.push(format!("and {more} more pods")),
    }
    let mut events = Api::<Event>::namespaced(client.clone(), namespace).list(&everything).await?.items;
    events.retain(|e| e.type_.as_deref() == Some("Warning"));
    events.sort_by_key(Event::creation_timestamp);
    let shown = events.iter().skip(events.len().saturating_sub(EVENTS_SHOWN)).map(|e| {
        let object = e.involved_object.name.as_deref().unwrap_or("?");
        let (reason, message) = (e.reason.as_deref().unwrap_or("?"), e.message.as_deref().unwrap_or(""));
        format!("event on {object}: {reason}: {message}")
    });
    why.extend(shown);
    Ok(why)
}

fn describe(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or("no node");
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or("no phase");
    let containers = status.iter().flat_map(|s| s.container_statuses.iter().flatten()).filter_map(stuck);
    let details: Vec<String> = containers.collect();
    let name = pod.name_any();
    match &details[..] {
        [] => format!("pod {name} ({node}): {phase}"),
        details => format!("pod {name} ({node}): {phase}, {}", details.join(", ")),
    }
}

fn stuck(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let (reason, message) = match (&state.waiting, &state.terminated) {
        (Some(w), _) => (&w.reason, w.message.clone()),
        // The message is what the program itself has printed, which may not belong in a journal.
        (_, Some(t)) => (&t.reason, Some(format!("exit code {}", t.exit_code))),
        _ => return None,
    };
    let reason = reason.as_deref().unwrap_or("not running");
    Some(match message.as_deref() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}
