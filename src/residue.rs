//! The residue audit: what differs between the cluster before the fault and after everything was put back.
//!
//! Takes two [`Census`]es, gives the [`Difference`]s. A census is taken from below (containers, addresses, restart policies, firewall
//! rules, units) and from the API (taints, leftover objects); it is a flat map so that a difference always has a name. It holds only
//! what outlives a restart of a healthy node: no pids, no counters, no rules with generated names or ports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Namespace, Node as ApiNode, PersistentVolume};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::docker::{Engine, Node, Output};
use crate::cluster::lease::{self, is_valid};
use crate::error::Result;
use crate::in_node::ETCD;
use crate::scenario::Leader;

/// Time for what is asked inside of one node.
const NODE_WITHIN: Duration = Duration::from_secs(20);
/// Time for one request to the API.
const API_WITHIN: Duration = Duration::from_secs(10);
/// How long a cluster that was put back may take to be as before, whoever put it back: a node may have to boot, and its kubelet to ask again.
pub(crate) const AS_BEFORE_WITHIN: Duration = Duration::from_secs(180);
/// How often a cluster that is not yet as before is looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// Prefix of every label that kchaos sets.
const OURS: &str = "kchaos.io/";

/// Everything the audit compares, as `kind/owner/item` → value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Census(pub BTreeMap<String, String>);

/// One item that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Name of the item, as in [`Census`].
    pub item: String,
    /// Value before the fault; `None` if it was absent.
    pub before: Option<String>,
    /// Value now; `None` if it is absent.
    pub now: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => write!(f, "{}: {now}, was {before}", self.item),
            (Some(before), None) => write!(f, "{}: gone, was {before}", self.item),
            (None, Some(now)) => write!(f, "{}: {now}, was not there", self.item),
            (None, None) => f.write_str(&self.item),
        }
    }
}

impl Census {
    /// What is not in `now` as it is here, by name of the item.
    pub fn differences(&self, now: &Self) -> Vec<Difference> {
        let items: BTreeSet<_> = self.0.keys().chain(now.0.keys()).collect();
        let compared = items.into_iter().map(|item| Difference {
            item: item.clone(),
            before: self.0.get(item).cloned(),
            now: now.0.get(item).cloned(),
        });
        compared.filter(|d| d.before != d.now).collect()
    }

    /// A component of the control plane that nobody leads, if the API was asked and there is one: whatever is claimed of Kubernetes' reactions, on
    /// such a cluster it proves nothing.
    pub fn without_leader(&self) -> Option<&'static str> {
        let asked = self.0.keys().any(|item| item.starts_with("api/node/"));
        let led = |name: &str| self.0.contains_key(&format!("api/leader/{name}"));
        Leader::ALL.map(Leader::name).into_iter().find(|name| asked && !led(name))
    }

    fn put(&mut self, item: String, value: impl Into<String>) {
        self.0.insert(item, value.into());
    }
}

/// Takes a census of a kind cluster. Without `api` its objects are left out; an API that does not answer is an item of its own.
///
/// # Errors
/// If the engine does not answer.
pub async fn census(engine: &Engine, cluster: &str, api: Option<&kube::Client>) -> Result<Census> {
    let mut census = Census::default();
    let nodes = engine.nodes(cluster).await?;
    for taken in futures::future::join_all(nodes.iter().map(|node| node_census(engine, node))).await {
        census.0.append(&mut taken?.0);
    }
    for (name, purpose) in engine.leftovers(cluster).await? {
        census.put(format!("leftover/container/{name}"), purpose);
    }
    if let Some(api) = api
        && let Err(why) = api_census(api, &mut census).await
    {
        census.put("api".into(), format!("does not answer: {why}"));
    }
    Ok(census)
}

/// Takes a census again and again until it is as before, at most `within`, and gives the last differences: a cluster that was just put
/// back needs a while. An engine that does not answer is a difference too. What only the API knows is compared if `api` is given.
pub async fn wait_until_as(
    engine: &Engine,
    cluster: &str,
    api: Option<&kube::Client>,
    before: &Census,
    within: Duration,
) -> Vec<Difference> {
    let give_up = Instant::now() + within;
    loop {
        let differences = match census(engine, cluster, api).await {
            Ok(now) => comparable(before, &now, api.is_some()).differences(&now),
            Err(e) => vec![Difference { item: "engine".into(), before: None, now: Some(e.to_string()) }],
        };
        if differences.is_empty() || Instant::now() > give_up {
            return differences;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// What of a census can be held against `now`. A node whose container was removed meanwhile is nobody's residue: whoever removed it
/// knows, and nothing could bring it back.
fn comparable(before: &Census, now: &Census, with_api: bool) -> Census {
    let there = |name: &str| now.0.contains_key(&format!("node/{name}/state"));
    let kept = before.0.iter().filter(|(item, _)| {
        let mut parts = item.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("api"), ..) | (Some("leftover"), Some("namespace" | "volume" | "webhook"), _) if !with_api => false,
            (Some("api"), Some("node"), Some(name)) | (Some("node"), Some(name), _) => there(name),
            _ => true,
        }
    });
    Census(kept.map(|(item, value)| (item.clone(), value.clone())).collect())
}

async fn node_census(engine: &Engine, node: &Node) -> Result<Census> {
    let mut census = Census::default();
    let name = &node.id.name;
    let state = engine.state(&node.id).await?;
    census.put(format!("node/{name}/state"), &state.status);
    census.put(format!("node/{name}/restart-policy"), state.restart_policy.to_string());
    for (network, address) in &state.addresses {
        let fixed = if state.pinned.contains(network) { " (fixed)" } else { "" };
        census.put(format!("node/{name}/address/{network}"), format!("{address}{fixed}"));
    }
    if state.status == "running" {
        let within = [ETCD, WITHIN].concat();
        let within = ["sh", "-c", &within];
        let (units, within, v4, v6) = tokio::join!(
            asked(engine, node, &["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]),
            asked(engine, node, &within),
            asked(engine, node, &["iptables-save"]),
            asked(engine, node, &["ip6tables-save"]),
        );
        if let Some(units) = units {
            census.put(format!("node/{name}/units"), "asked");
            let text = String::from_utf8_lossy(&units.stdout).into_owned();
            for unit in text.lines().filter_map(|line| line.split_whitespace().next()) {
                census.put(format!("node/{name}/unit/{unit}"), "failed");
            }
        }
        if let Some(within) = within {
            let text = String::from_utf8_lossy(&within.stdout).into_owned();
            for (item, value) in text.lines().filter_map(|line| line.split_once(' ')) {
                census.put(format!("node/{name}/{item}"), value);
            }
        }
        for (family, saved) in [("ip", v4), ("ip6", v6)] {
            let Some(saved) = saved else { continue };
            census.put(format!("node/{name}/firewall/{family}"), "asked");
            for (rule, count) in lasting_rules(&String::from_utf8_lossy(&saved.stdout)) {
                census.put(format!("node/{name}/firewall/{family}/{rule}"), count.to_string());
            }
        }
    }
    Ok(census)
}

/// What a node says to a command. It may be too busy, or going down, to be asked; then what it would have said is missing, which is a difference.
async fn asked(engine: &Engine, node: &Node, argv: &[&str]) -> Option<Output> {
    engine.exec(&node.id, argv, None, NODE_WITHIN).await.ok().filter(|output| output.code == 0)
}

/// What faults change inside of a node, as lines `ITEM VALUE`: the kubelet's unit, process and files, certificates, the members of etcd and, if there are
/// several, whether all have the same in it, and whatever bears our name. A member's id is not among it: one that was restored from a snapshot has another.
const WITHIN: &str = r#"
if [ -e /var/lib/kubelet/config.yaml ] || systemctl cat kubelet >/dev/null 2>&1; then
	echo "kubelet/unit $(systemctl show kubelet -P ActiveState) $(systemctl show kubelet -P UnitFileState) $(systemctl show kubelet -P DropInPaths)"
	pid=$(systemctl show kubelet -P MainPID)
	echo "kubelet/process $(grep -q '^State:.[Tt]' /proc/$pid/status 2>/dev/null && echo stopped || echo 'not stopped')"
	sha256sum /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env 2>/dev/null | while read -r sum file; do echo "file$file $sum"; done
fi
for manifest in /etc/kubernetes/manifests/*.yaml; do
	[ ! -e "$manifest" ] || echo "file$manifest $(sha256sum <"$manifest" | cut -d' ' -f1)"
done
for certificate in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt; do
	[ ! -e "$certificate" ] || echo "file$certificate $(sha256sum <"$certificate" | cut -d' ' -f1)"
done
current=/var/lib/kubelet/pki/kubelet-client-current.pem
[ ! -e $current ] || echo "kubelet/certificate $(readlink $current)"
# Asked again if it is of two minds: members lag a little behind each other.
for attempt in 1 2 3; do
	[ -e /etc/kubernetes/manifests/etcd.yaml ] || break
	members=$(ask_etcd --command-timeout=2s member list 2>/dev/null) || continue
	count=$(echo "$members" | wc -l)
	data="$count of $count members, with 1 hash"
	if [ "$count" -gt 1 ]; then
		said=$(ask_etcd --command-timeout=2s get /registry/namespaces/kube-system --write-out=json)
		revision=$(echo "$said" | sed -n 's/.*"revision":\([0-9]*\).*/\1/p')
		hashes=$(ask_etcd --command-timeout=2s endpoint hashkv --cluster --rev="$revision" | cut -d, -f2)
		data="$(echo "$hashes" | wc -l) of $count members, with $(echo "$hashes" | sort -u | wc -l) hash"
	fi
	if [ $attempt = 3 ] || [ "$data" = "$count of $count members, with 1 hash" ]; then
		echo "etcd/members $(echo "$members" | cut -d' ' -f2- | sort | tr '\n' ';')"
		echo "etcd/data $data"
		break
	fi
done
for left in /etc/kubernetes/kchaos-* /etc/kubernetes/pki/*.kchaos-* /var/lib/kubelet/pki/kchaos-* /var/lib/kchaos/* /etc/systemd/system/kchaos-* /run/systemd/transient/kchaos-*; do
	[ ! -e "$left" ] || echo "left$left there"
done
"#;

/// Who writes rules on a node by himself, under names or with ports that differ from one start to the next: the service proxy, network
/// plugins, and the engine's name server, whose address kind turns into the gateway's.
const GENERATED: [&str; 7] = ["KUBE-", "CNI-", "DOCKER_", "DOCKER-", "FLANNEL-", "KCHAOS-MASQ", "127.0.0.11"];

/// The rules and chains of an `iptables-save` that nobody on a node makes by himself, as `table rule` → how many there are.
fn lasting_rules(saved: &str) -> BTreeMap<String, usize> {
    let mut rules = BTreeMap::new();
    let mut table = "";
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if (line.starts_with(':') || line.starts_with("-A"))
            && !GENERATED.iter().any(|prefix| line.contains(prefix))
        {
            // Counters, in brackets behind a chain's policy, are no difference; neither is a chain that exists and does nothing.
            let rule = line.split(" [").next().unwrap_or(line);
            if !rule.ends_with(" ACCEPT") || rule.starts_with("-A") {
                *rules.entry(format!("{table} {rule}")).or_insert(0) += 1;
            }
        }
    }
    rules
}

async fn api_census(client: &kube::Client, census: &mut Census) -> std::result::Result<(), String> {
    for node in list::<ApiNode>(client).await? {
        let name = node.metadata.name.unwrap_or_default();
        let spec = node.spec.unwrap_or_default();
        for taint in spec.taints.unwrap_or_default() {
            census
                .put(format!("api/node/{name}/taint/{}:{}", taint.key, taint.effect), taint.value.unwrap_or_default());
        }
        if let Some(network) = spec.pod_cidr {
            census.put(format!("api/node/{name}/pod-cidr"), network);
        }
        if spec.unschedulable == Some(true) {
            census.put(format!("api/node/{name}/cordoned"), "yes");
        }
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        if let Some(ready) = conditions.into_iter().find(|c| c.type_ == "Ready") {
            census.put(format!("api/node/{name}/ready"), ready.status);
        }
    }
    for leader in Leader::ALL {
        // Who leads is no matter, and may have changed.
        if lease::of(client, leader).await?.is_some_and(|lease| is_valid(&lease, Timestamp::now())) {
            census.put(format!("api/leader/{}", leader.name()), "leads");
        }
    }
    let mut ours = BTreeSet::new();
    for namespace in list::<Namespace>(client).await? {
        // Every store has this one, and no two have it in common.
        if namespace.metadata.name.as_deref() == Some("kube-system") {
            census.put("api/store".into(), namespace.metadata.uid.clone().unwrap_or_default());
        }
        let labels = namespace.metadata.labels.unwrap_or_default();
        if labels.keys().any(|label| label.starts_with(OURS)) {
            let name = namespace.metadata.name.unwrap_or_default();
            census
                .put(format!("leftover/namespace/{name}"), namespace.status.and_then(|s| s.phase).unwrap_or_default());
            ours.insert(name);
        }
    }
    // Those by which whoever administers a cluster of kubeadm has his rights.
    for binding in list::<ClusterRoleBinding>(client).await? {
        let name = binding.metadata.name.unwrap_or_default();
        if name.starts_with("kubeadm:") {
            let subjects = binding.subjects.unwrap_or_default().into_iter().map(|subject| subject.name);
            let to = subjects.collect::<Vec<_>>().join(",");
            census.put(format!("api/binding/{name}"), format!("{} to {to}", binding.role_ref.name));
        }
    }
    for webhook in list::<ValidatingWebhookConfiguration>(client).await? {
        let name = webhook.metadata.name.unwrap_or_default();
        if name.starts_with("kchaos-") {
            census.put(format!("leftover/webhook/{name}"), "there");
        }
    }
    for volume in list::<PersistentVolume>(client).await? {
        // The namespace goes first, so a volume of ours is known by its claim's namespace, which needs our prefix.
        let claim = volume.spec.and_then(|s| s.claim_ref).and_then(|c| c.namespace).unwrap_or_default();
        if ours.contains(&claim) || claim.starts_with("kchaos-") {
            let name = volume.metadata.name.unwrap_or_default();
            census.put(format!("leftover/volume/{name}"), claim);
        }
    }
    Ok(())
}

async fn list<K>(client: &kube::Client) -> std::result::Result<Vec<K>, String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + std::fmt::Debug,
    K: serde::de::DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    match tokio::time::timeout(API_WITHIN, api.list(&ListParams::default())).await {
        Ok(Ok(list)) => Ok(list.items),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {API_WITHIN:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(items: &[(&str, &str)]) -> Census {
        Census(items.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_changed_a_lost_and_a_new_item_are_each_named() {
        let before = census(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let now = census(&[("a", "1"), ("b", "9"), ("d", "4")]);
        let found: Vec<_> = before
            .differences(&now)
            .into_iter()
            .map(|d| (d.item, d.before.unwrap_or_default(), d.now.unwrap_or_default()))
            .collect();
        let expected = [("b", "2", "9"), ("c", "3", ""), ("d", "", "4")];
        assert_eq!(found, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert!(before.differences(&before).is_empty());
    }

    #[test]
    fn without_the_api_its_items_are_left_out_and_a_removed_node_is_nobodys_residue() {
        let before = census(&[("node/a/state", "running"), ("node/b/state", "running"), ("api/node/a/ready", "True")]);
        let now = census(&[("node/a/state", "exited")]);
        let items = |with_api| -> Vec<_> {
            comparable(&before, &now, with_api).differences(&now).into_iter().map(|d| d.item).collect()
        };
        assert_eq!(items(false), ["node/a/state"]);
        assert_eq!(items(true), ["api/node/a/ready", "node/a/state"]);
    }

    const SAVED: &str = "\
# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT ACCEPT [12:3456]
:FORWARD DROP [0:0]
:KUBE-FORWARD - [0:0]
-A INPUT -m comment --comment \"kubernetes health check\" -j KUBE-NODEPORTS
-A FORWARD -s 10.244.0.0/16 -j DROP
COMMIT
*nat
:DOCKER_OUTPUT - [0:0]
-A DOCKER_OUTPUT -d 172.18.0.1/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:40771
-A PREROUTING -d 172.29.77.1/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:44283
-A POSTROUTING -j CNI-0123456789abcdef
COMMIT
";

    #[test]
    fn a_forgotten_rule_and_a_changed_policy_are_found() {
        let rules = lasting_rules(SAVED);
        let found: Vec<_> = rules.keys().map(String::as_str).collect();
        assert_eq!(found, ["filter -A FORWARD -s 10.244.0.0/16 -j DROP", "filter :FORWARD DROP"]);
    }

    #[test]
    fn a_rule_that_is_there_twice_differs_from_one_that_is_there_once() {
        let twice = SAVED.replace("COMMIT\n*nat", "-A FORWARD -s 10.244.0.0/16 -j DROP\nCOMMIT\n*nat");
        assert_ne!(lasting_rules(&twice), lasting_rules(SAVED));
    }
}
