//! Which [`Change`] a fault inside a node is, and what prevents it. [`crate::in_node`] makes and undoes the changes.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::try_join_all;

use crate::cluster::docker::Engine;
use crate::component::Component;
use crate::error::{Error, Result};
use crate::in_node::{ApiChange, Change, ETCD, InNode, SwitchName};
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::{
    ApiServerOfStore, BadConfig, CertificateOf, FaultSpec, ObjectName, Place, Reclaim, Remedy, StoreOfRestarted,
};

use super::certificate;

/// Time for one look into the node.
const LOOK: Duration = Duration::from_secs(10);
/// Prints what prevents any change. A change that another run left is one: its switch would undo it in the middle of
/// this run.
const IN_THE_WAY: &str = "command -v flock >/dev/null || echo 'it has no flock'
for left in /var/lib/kchaos/*; do
	[ ! -e \"$left\" ] || echo \"something is changed in it already: $(basename \"$left\")\"
done
";
const OF_KUBELET: &str = "systemctl is-active --quiet kubelet || echo 'its kubelet is not active'
[ -e /var/lib/kubelet/config.yaml ] || echo 'its kubelet has no configuration file'";
const OF_COMPONENT: &str = "[ -e \"/etc/kubernetes/manifests/$1.yaml\" ] || echo \"its kubelet has no manifest of $1\"
pgrep -f \"^$1( |\\$)\" >/dev/null || echo \"$1 does not run there\"";
/// Prints what prevents the loss of a store. etcd must be the only member: one of several members is replaced rather
/// than restored, which is another procedure.
const OF_STORE: &str = r#"pgrep -f '^etcd( |$)' >/dev/null || { echo 'etcd does not run there'; exit; }
for tool in etcd etcdctl etcdutl; do
	[ -e "$(tool_of_etcd "$tool")" ] || echo "the image of its etcd has no $tool"
done
"$(tool_of_etcd etcdutl)" snapshot restore --help 2>/dev/null | grep -q -e --bump-revision || echo 'its etcdutl knows no --bump-revision'
members=$(ask_etcd member list 2>/dev/null | wc -l)
[ "$members" = 1 ] || echo "its etcd is not the only member, but one of $members"
"#;
/// Prints what prevents the loss of a member, or of its connections to the others. With fewer than three members, the others have no majority.
const OF_MEMBER: &str = r#"pgrep -f '^etcd( |$)' >/dev/null || { echo 'etcd does not run there'; exit; }
[ -e "$(tool_of_etcd etcdctl)" ] || { echo 'the image of its etcd has no etcdctl'; exit; }
members=$(ask_etcd member list 2>/dev/null | grep -c ', started, ')
[ "$members" -ge 3 ] || echo "its etcd is one of $members members, so the others would be no majority"
ask_etcd endpoint health --cluster >/dev/null 2>&1 || echo 'a member of its etcd is not well'
"#;
const OF_CONTAINERS: &str = "command -v ctr >/dev/null || echo 'it has no ctr'";
/// An operator who acts through the API needs `kubectl` and the credentials of kubeadm.
const OF_API: &str = "command -v kubectl >/dev/null || { echo 'it has no kubectl'; exit; }
[ -e /etc/kubernetes/admin.conf ] || echo 'it has no /etc/kubernetes/admin.conf'";
/// Before an operator's rights are taken away, there must be a way into the API that does not depend on RBAC.
const OF_BINDING: &str = "command -v kubectl >/dev/null || { echo 'it has no kubectl'; exit; }
[ -e /etc/kubernetes/super-admin.conf ] ||
	sed -n 's/^ *client-certificate-data: //p' /etc/kubernetes/admin.conf | base64 -d | openssl x509 -noout -subject | grep -q system:masters ||
	echo 'it has no way into the API that does not depend on RBAC, as super-admin.conf is'";
/// Checks the tools of the packet filter, given as arguments, and what else a partition needs.
const OF_PARTITION: &str = "for tool; do \"$tool\" -w -S >/dev/null 2>&1 || echo \"its $tool does not work\"; done
command -v ip >/dev/null || echo 'it has no ip'";
/// Checks that packets can also be dropped at random. That is tried where nobody is, in a network of its own.
const OF_PACKET_LOSS: &str = "
for tool; do
	unshare --net \"$tool\" -w -A INPUT -m statistic --mode random --probability 0.5 -j DROP 2>/dev/null || echo \"its kernel, or its $tool, can't drop packets at random (xt_statistic)\"
done";

/// Returns the change that the fault is, under a new switch; `None` if it is a fault of the container alone. Reads
/// only.
pub(super) async fn prepare(engine: &Engine, fault: &PlannedFault) -> Result<Option<InNode>> {
    let change = match &fault.spec {
        FaultSpec::Restart { store: StoreOfRestarted::Lost, .. } => Change::StorePutAside,
        FaultSpec::PowerOff { .. }
        | FaultSpec::Stop { .. }
        | FaultSpec::Pause { .. }
        | FaultSpec::Restart { .. }
        | FaultSpec::RestartLoop { .. } => return Ok(None),
        FaultSpec::KubeletStop { .. } => Change::KubeletStopped,
        FaultSpec::KubeletFreeze { watchdog: false, .. } => Change::KubeletFrozen,
        FaultSpec::KubeletFreeze { watchdog: true, .. } => Change::KubeletFrozenWatched,
        FaultSpec::KubeletKill { restart: true, .. } => Change::KubeletKilled,
        FaultSpec::KubeletKill { restart: false, .. } => Change::KubeletKilledForGood,
        FaultSpec::KubeletCrash { .. } => Change::KubeletCrashing,
        FaultSpec::KubeletConfig { file: BadConfig::Invalid, .. } => Change::KubeletConfigInvalid,
        FaultSpec::KubeletConfig { file: BadConfig::Removed, .. } => Change::KubeletConfigRemoved,
        FaultSpec::ComponentDown { component, .. } => Change::ComponentDown(*component),
        FaultSpec::ComponentKill { component, .. } => Change::ComponentKilled(*component),
        FaultSpec::ComponentFreeze { component, .. } => Change::ComponentFrozen(*component),
        FaultSpec::ComponentFlag { component, flag, .. } => {
            Change::ComponentFlag { component: *component, flag: flag.clone() }
        }
        FaultSpec::StoreLoss { left, api_server: ApiServerOfStore::Restarted, .. } => Change::StoreLost(*left),
        FaultSpec::StoreLoss { left, api_server: ApiServerOfStore::Kept, .. } => Change::StoreLostUnnoticed(*left),
        // Somebody may act on the members that are left, so that they could forget this one.
        FaultSpec::MemberLoss { .. } if fault.operator.is_some() => Change::MemberLostOfMajority,
        FaultSpec::MemberLoss { .. } => Change::MemberLost,
        FaultSpec::Partition { drops, .. } => {
            Change::Partition { peers: addresses(engine, &fault.peers).await?, drops: *drops }
        }
        FaultSpec::PacketLoss { percent, .. } => {
            Change::PacketLoss { peers: addresses(engine, &fault.peers).await?, percent: *percent }
        }
        FaultSpec::CertificateExpired { of, .. } => {
            Change::CertificateExpired { of: *of, certificate: certificate::expired(engine, fault, *of).await? }
        }
        FaultSpec::Drain { .. } => Change::Api(ApiChange::Drained { node: object(&fault.node.name)? }),
        FaultSpec::DeleteBinding { name } => Change::Api(ApiChange::BindingDeleted { binding: name.clone() }),
        FaultSpec::DeadWebhook { unanswered } => Change::Api(ApiChange::WebhookDead { unanswered: *unanswered }),
        FaultSpec::VolumeLoss { of, left, .. } => {
            Change::VolumeLost { namespace: namespace(fault, of)?, workload: object(of)?, left: *left }
        }
        FaultSpec::ContainerKill { of, .. } => {
            Change::ContainersKilled { namespace: namespace(fault, of)?, workload: object(of)? }
        }
        FaultSpec::DeleteNamespace {} => Change::Api(ApiChange::NamespaceDeleted(
            fault.objects.clone().ok_or_else(|| unresolved("the workloads' namespace"))?,
        )),
        FaultSpec::Delete { workload, held, reclaim } => match fault.objects.clone() {
            Some(objects) if reclaim.is_some() => {
                Change::Api(ApiChange::ClaimDeleted { objects, retained: *reclaim == Some(Reclaim::Retain) })
            }
            Some(objects) if *held => Change::Api(ApiChange::WorkloadHeld(objects)),
            Some(objects) => Change::Api(ApiChange::WorkloadDeleted(objects)),
            None => return Err(unresolved(workload)),
        },
    };
    let node = match change {
        Change::Api(_) => operator(fault)?,
        _ => &fault.node,
    };
    nothing_in_the_way(engine, node, &change).await?;
    Ok(Some(InNode { node: node.clone(), change, switch: SwitchName::unique() }))
}

/// Returns the change that the remedy is; `None` if the fault's own change carries out the remedy.
pub(super) async fn prepare_remedy(engine: &Engine, fault: &PlannedFault, remedy: Remedy) -> Result<Option<InNode>> {
    let node = || object(&fault.node.name);
    let change = match remedy {
        Remedy::OutOfService => Change::Api(ApiChange::OutOfService { node: node()? }),
        Remedy::DeleteNode => Change::Api(ApiChange::NodeDeleted { node: node()? }),
        Remedy::RecoverFromSurvivor => Change::SurvivorAlone,
        // The fault's own change carries it out, since the remedy needs what that change recorded.
        Remedy::ReplaceMember | Remedy::RestoreCopy => return Ok(None),
        Remedy::RestoreSnapshot => {
            let node = if fault.spec.place() == Place::Api { operator(fault)? } else { &fault.node };
            look(engine, node, OF_STORE, &[]).await?;
            return Ok(None);
        }
    };
    let node = operator(fault)?;
    nothing_in_the_way(engine, node, &change).await?;
    Ok(Some(InNode { node: node.clone(), change, switch: SwitchName::unique() }))
}

fn operator(fault: &PlannedFault) -> Result<&NodeId> {
    let operator = fault.operator.as_ref();
    operator.ok_or_else(|| Error::could_not_run("the plan names no control plane that an operator could act from"))
}

/// The namespace of a workload that the fault names.
fn namespace(fault: &PlannedFault, workload: &str) -> Result<ObjectName> {
    fault.objects.as_ref().map(|objects| objects.namespace.clone()).ok_or_else(|| unresolved(workload))
}

fn unresolved(workload: &str) -> Error {
    Error::could_not_run(format!("the plan does not say what `{workload}` consists of"))
}

/// The name of a node in the API. kind gives the node the name of its container.
fn object(name: &str) -> Result<ObjectName> {
    name.parse().map_err(|_| Error::could_not_run(format!("{name:?} can't be the name of an object")))
}

/// Says what the change needs that the node's kernel does not have.
pub(super) async fn lacks(engine: &Engine, fault: &PlannedFault) -> Result<Option<String>> {
    if !matches!(fault.spec, FaultSpec::PacketLoss { .. }) {
        return Ok(None);
    }
    let output = engine.exec(&fault.node, &["sh", "-c", OF_PACKET_LOSS, "sh", "iptables"], None, LOOK).await?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned))
}

async fn nothing_in_the_way(engine: &Engine, node: &NodeId, change: &Change) -> Result<()> {
    let more = if matches!(change, Change::PacketLoss { .. }) { OF_PACKET_LOSS } else { "" };
    let (own, about) = match change {
        Change::Partition { peers, .. } | Change::PacketLoss { peers, .. } if peers.iter().any(IpAddr::is_ipv6) => {
            (OF_PARTITION, vec!["iptables", "ip6tables"])
        }
        Change::Partition { .. } | Change::PacketLoss { .. } => (OF_PARTITION, vec!["iptables"]),
        Change::ComponentDown(component)
        | Change::ComponentKilled(component)
        | Change::ComponentFrozen(component)
        | Change::ComponentFlag { component, .. } => (OF_COMPONENT, vec![component.name()]),
        Change::CertificateExpired { of: CertificateOf::KubeApiserver, .. } => {
            (OF_COMPONENT, vec![Component::KubeApiserver.name()])
        }
        Change::StoreLost(_) | Change::StoreLostUnnoticed(_) | Change::StorePutAside => (OF_STORE, vec![]),
        Change::MemberLost
        | Change::MemberLostOfMajority
        | Change::SurvivorAlone
        | Change::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => (OF_MEMBER, vec![]),
        Change::Api(ApiChange::BindingDeleted { .. }) => (OF_BINDING, vec![]),
        Change::Api(_) => (OF_API, vec![]),
        Change::VolumeLost { .. } | Change::ContainersKilled { .. } => (OF_CONTAINERS, vec![]),
        _ => (OF_KUBELET, vec![]),
    };
    look(engine, node, &[IN_THE_WAY, own, more].concat(), &about).await
}

/// Runs a script in a node. The script prints what prevents the change there; printing anything is an error.
async fn look(engine: &Engine, node: &NodeId, script: &str, about: &[&str]) -> Result<()> {
    let script = [ETCD, script].concat();
    let argv = [&["sh", "-c", &script, "sh"], about].concat();
    let output = engine.exec(node, &argv, None, LOOK).await?;
    let found = String::from_utf8_lossy(&output.stdout);
    let why: Vec<&str> = found.lines().chain(output.stderr.lines()).collect();
    if output.code == 0 && why.is_empty() {
        return Ok(());
    }
    let says = |what: &str| why.iter().any(|why| why.contains(what));
    let next = match (says("only member"), says("no majority")) {
        _ if says("xt_statistic") => "modprobe xt_statistic, if the machine's kernel has that module",
        (true, _) => "run it where there is one: kchaos up single; of several members, `kchaos run ha` breaks one",
        (_, true) => "run it where there are three: kchaos up ha",
        _ => "put it back first: kchaos rollback --all; what no journal knows of, `kchaos doctor` names",
    };
    Err(Error::could_not_run(format!("{} can't be broken: {}", node.name, why.join("; "))).next(next))
}

/// Returns every address of these nodes, of both families.
async fn addresses(engine: &Engine, nodes: &[NodeId]) -> Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for (node, state) in nodes.iter().zip(try_join_all(nodes.iter().map(|node| engine.state(node))).await?) {
        let of = state.addresses.values().chain(state.addresses_v6.values());
        let of: Vec<IpAddr> = of.filter_map(|address| address.parse().ok()).collect();
        if of.is_empty() {
            return Err(Error::could_not_run(format!("{} has no address to be cut off from", node.name))
                .next(format!("start it, or remove it: docker start {}", node.name)));
        }
        found.extend(of);
    }
    Ok(found)
}
