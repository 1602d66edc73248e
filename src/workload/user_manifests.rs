//! The user's own workload: put into a namespace of the run, as `kubectl apply` would, and waited for until it is
//! rolled out.
//!
//! This module takes [`Manifests`], asks the cluster for their kinds, and refuses objects that do not live in a
//! namespace before anything is touched. The workload's namespace has no pod security standard to keep. It is labelled
//! like the run's other namespaces, so it is removed and audited in the same way. The objects are put in as they are
//! written; only their kind, name and place are ever reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use kube::core::GroupVersion;
use kube::discovery::{ApiResource, Scope, pinned_group};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{THEIR_LAST_SECONDS, failed, manifest, ready, vacate};
use crate::error::{Error, Result};
use crate::user_manifests::{Manifest, Manifests};

/// How long it may take to be rolled out. Its images may have to be pulled, and parts of it may wait for one another.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// How long a new namespace's default account may take to exist; without it, no pod is let in.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(30);
/// The field manager of everything that is put in.
const MANAGER: &str = "kchaos";

/// The user's own workload; the cluster knows the kinds of all its objects.
#[derive(Debug, Clone)]
pub struct Theirs {
    objects: Vec<(Manifest, ApiResource)>,
}

impl Theirs {
    /// Asks the cluster for the kinds of the objects.
    ///
    /// # Errors
    /// If the cluster does not know a kind, or an object does not live in a namespace.
    pub async fn of(manifests: &Manifests, client: &Client) -> Result<Self> {
        let versions: BTreeSet<&str> = manifests.objects.iter().map(|object| &*object.api_version).collect();
        let mut kinds = BTreeMap::new();
        for version in versions {
            let wrong = || Error::usage(format!("{version:?} is no version of an API"));
            let group: GroupVersion = version.parse().map_err(|_| wrong())?;
            match pinned_group(client, &group).await {
                Ok(known) => {
                    let known = known.versioned_resources(&group.version).into_iter();
                    kinds.extend(known.map(|(kind, can)| ((version, kind.kind.clone()), (kind, can.scope))));
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(e) => return Err(failed(&format!("ask the cluster what it knows of {version}"), &e)),
            }
        }
        let known = manifests.objects.iter().map(|object| {
            let wrong = |what: &str| Error::usage(format!("{}: {object} {what}", object.place));
            match kinds.get(&(&*object.api_version, object.kind.clone())) {
                Some((kind, Scope::Namespaced)) => Ok((object.clone(), kind.clone())),
                Some((_, Scope::Cluster)) => {
                    Err(wrong("belongs to no namespace, so that it could not be removed with one")
                        .next("put it into the cluster yourself, and leave it out here"))
                }
                None => Err(wrong(&format!("is of a kind that this cluster does not know in {}", object.api_version))
                    .next("kubectl api-resources lists those that it knows; what defines others must be there before")),
            }
        });
        Ok(Self { objects: known.collect::<Result<_>>()? })
    }

    /// Makes the namespace and puts everything into it, in the order in which it is written.
    ///
    /// # Errors
    /// If the API refuses something. What was put in stays: [`remove`](super::remove) removes it.
    pub async fn put_in(&self, client: &Client, namespace: &str) -> Result<()> {
        vacate(client, namespace, Some(THEIR_LAST_SECONDS)).await?;
        let made = Api::all(client.clone()).create(&PostParams::default(), &manifest::namespace(namespace)).await;
        made.map_err(|e| failed(&format!("create namespace {namespace}"), &e))?;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let account = ready::until(accounts, "default", |account| account.is_some());
        tokio::time::timeout(ACCOUNT_WITHIN, account).await.map_err(|_| {
            let within = ACCOUNT_WITHIN.as_secs();
            Error::could_not_run(format!("namespace {namespace} has no ServiceAccount `default` after {within} s"))
                .next("kube-controller-manager makes it: kubectl get pods -n kube-system")
        })?;
        let params = PatchParams::apply(MANAGER).validation(ValidationDirective::Strict);
        for (object, kind) in &self.objects {
            let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, kind);
            let put_in = api.patch(object.name.as_str(), &params, &Patch::Apply(&object.object)).await;
            put_in.map_err(|error| refused(object, &error))?;
        }
        Ok(())
    }

    /// The objects to wait for.
    pub fn rollout(&self, client: &Client, namespace: &str) -> Rollout {
        let mut rollout = Rollout {
            client: client.clone(),
            namespace: namespace.to_owned(),
            waits: FuturesUnordered::new(),
            missing: BTreeSet::new(),
            until: Instant::now() + READY_WITHIN,
        };
        for (object, _) in &self.objects {
            if let Some(waiting) = waiting(object, client, namespace) {
                let name = object.to_string();
                rollout.missing.insert(name.clone());
                rollout.waits.push(waiting.map(|ended| (name, ended)).boxed());
            }
        }
        rollout
    }
}

/// The error for an object that the API refuses. For a Secret it leaves out the API's words, which may quote the
/// contents.
fn refused(object: &Manifest, error: &kube::Error) -> Error {
    let why = match error {
        kube::Error::Api(status) if object.kind == "Secret" => {
            format!("the API answers {}, in words that might give away what is in it", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    Error::could_not_run(format!("could not put in {object} ({}): {why}", object.place))
        .next("kubectl apply --dry-run=server says what it has against it")
}

/// Objects on their way to be rolled out.
pub struct Rollout {
    client: Client,
    namespace: String,
    waits: FuturesUnordered<BoxFuture<'static, (String, Ended)>>,
    missing: BTreeSet<String>,
    until: Instant,
}

/// How waiting for an object ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    RolledOut,
    Failed,
}

impl Rollout {
    /// Kind and name of the objects that are not rolled out yet.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(String::as_str)
    }

    /// Waits for the next object and returns its kind and name; `None` once all are rolled out.
    ///
    /// # Errors
    /// If an object has failed for good, or they are not rolled out in time. The error gives the reason, as far as the
    /// cluster says.
    pub async fn next(&mut self) -> Option<Result<String>> {
        let wrong = match tokio::time::timeout_at(self.until, self.waits.next()).await {
            Ok(None) => return None,
            Ok(Some((name, Ended::RolledOut))) => {
                self.missing.remove(&name);
                return Some(Ok(name));
            }
            Ok(Some((name, Ended::Failed))) => format!("{name} has failed"),
            Err(_) => {
                let missing: Vec<&str> = self.missing().collect();
                format!("not rolled out after {} s: {}", READY_WITHIN.as_secs(), missing.join(", "))
            }
        };
        let why = ready::why_not(&self.client, &self.namespace).await;
        Some(Err(Error::could_not_run(format!("of the manifests, {wrong}: {why}"))
            .next("see whether they are rolled out without a run: kubectl apply --namespace=NAMESPACE --filename=DIR")))
    }
}

/// Waits until an object is rolled out or has failed; `None` if there is nothing to wait for.
fn waiting(object: &Manifest, client: &Client, namespace: &str) -> Option<BoxFuture<'static, Ended>> {
    let of = (client, namespace, object.name.as_str());
    Some(match (object.group(), &*object.kind) {
        ("apps", "Deployment") => ended(of, |it| ready::deployment(it).then_some(Ended::RolledOut)),
        ("apps", "StatefulSet") => ended(of, |it| ready::stateful_set(it).then_some(Ended::RolledOut)),
        ("apps", "DaemonSet") => ended(of, |it| ready::daemon_set(it).then_some(Ended::RolledOut)),
        ("apps", "ReplicaSet") => ended(of, |it| ready::replica_set(it).then_some(Ended::RolledOut)),
        ("", "ReplicationController") => ended(of, |it| ready::replication_controller(it).then_some(Ended::RolledOut)),
        ("", "Pod") => ended(of, pod),
        ("batch", "Job") => ended(of, job),
        _ => return None,
    })
}

fn ended<K>((client, namespace, name): (&Client, &str, &str), how: fn(&K) -> Option<Ended>) -> BoxFuture<'static, Ended>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (api, name) = (Api::<K>::namespaced(client.clone(), namespace), name.to_owned());
    Box::pin(async move {
        let mut ended = None;
        ready::until(api, &name, |object| {
            ended = object.and_then(how);
            ended.is_some()
        })
        .await;
        // A watch that ends by itself has seen nothing.
        ended.unwrap_or(Ended::Failed)
    })
}

/// A pod that has done its work need not be ready.
fn pod(pod: &Pod) -> Option<Ended> {
    match pod.status.as_ref()?.phase.as_deref() {
        Some("Succeeded") => Some(Ended::RolledOut),
        Some("Failed") => Some(Ended::Failed),
        _ => ready::pod(pod).then_some(Ended::RolledOut),
    }
}

fn job(job: &Job) -> Option<Ended> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is = |what: &str| conditions.iter().any(|c| c.type_ == what && c.status == "True");
    match (is("Complete"), is("Failed")) {
        (true, _) => Some(Ended::RolledOut),
        (_, true) => Some(Ended::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
    use serde_json::{Value, json};

    use super::*;

    fn of<K: DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_has_done_its_work_is_rolled_out_and_what_has_failed_is_not_waited_for() {
        let with = |condition: &str, status: &str| {
            of(json!({"status": {"conditions": [{"type": condition, "status": status}]}}))
        };
        for (condition, status, ended) in [
            ("Complete", "True", Some(Ended::RolledOut)),
            ("Complete", "False", None),
            ("Failed", "True", Some(Ended::Failed)),
            ("SuccessCriteriaMet", "True", None),
        ] {
            assert_eq!(job(&with(condition, status)), ended, "{condition}={status}");
        }
        assert_eq!(job(&of(json!({}))), None);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        for (status, ended) in [
            (json!({"phase": "Succeeded"}), Some(Ended::RolledOut)),
            (json!({"phase": "Failed"}), Some(Ended::Failed)),
            (json!({"phase": "Running"}), None),
            (json!({"phase": "Running", "conditions": ready}), Some(Ended::RolledOut)),
        ] {
            assert_eq!(pod(&of(json!({"status": status}))), ended, "{status}");
        }
    }

    #[test]
    fn a_status_of_before_the_last_change_is_none_and_nothing_wanted_is_all_there() {
        let deployment = |replicas: i64, ready: i64, generation: i64| {
            let status = json!({"replicas": ready, "readyReplicas": ready, "observedGeneration": generation});
            let object = json!({"metadata": {"generation": 2}, "spec": {"replicas": replicas, "selector": {}, "template": {}}, "status": status});
            ready::deployment(&of::<Deployment>(object))
        };
        assert!(deployment(2, 2, 2) && !deployment(2, 1, 2) && !deployment(2, 2, 1));
        // Kubernetes leaves out a zero.
        let none = json!({"metadata": {"generation": 1}, "spec": {"replicas": 0, "selector": {}, "template": {}}, "status": {"observedGeneration": 1}});
        assert!(ready::deployment(&of::<Deployment>(none)));
        let nowhere = json!({"metadata": {"generation": 1}, "status": {"observedGeneration": 1, "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}});
        assert!(ready::daemon_set(&of::<DaemonSet>(nowhere)));
    }
}
