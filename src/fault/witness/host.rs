//! The processes of a node, as the host's kernel shows them in `/proc`.

use std::time::Duration;

use super::{KUBELET, Testimony, command_lines::has_flag};
use crate::cluster::host_processes::{self, Process};
use crate::component::Component;
use crate::event::Checkpoint;
use crate::scenario::{CertificateOf, FaultSpec};

/// A kubelet that has lived this long is no longer kept from its work.
const AT_WORK: Duration = Duration::from_secs(5);
/// A node that has lived this long is in no restart loop, where it would have been killed before.
const OUT_OF_THE_LOOP: Duration = Duration::from_secs(4);

/// The processes that a fault may end, as they were before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// The node's init; `None` if the node's processes can't be seen from here.
    pub init: Option<Process>,
    /// The host's pid of that init, as the engine gives it.
    pub pid: u32,
    /// The kubelet.
    pub kubelet: Option<Process>,
    /// The component that the fault breaks.
    pub component: Option<Process>,
}

impl Before {
    /// Looks at the processes of the container with this id and this init.
    pub(super) fn look(id: &str, pid: u32, component: Option<Component>) -> Self {
        let first = |name: &str| host_processes::named(id, name).first().map(|fares| fares.process);
        Self {
            init: Process::of(pid, id),
            pid,
            kubelet: first(KUBELET),
            component: component.and_then(|component| first(component.comm())),
        }
    }
}

/// Looks at the processes of the container with this id. That is worth something only if the node was seen before the
/// fault.
pub(super) fn testimony(id: &str, spec: &FaultSpec, before: Before, checkpoint: Checkpoint) -> Testimony {
    let Before { init, pid, kubelet, component: had } = before;
    let Some(init) = init else { return ("the node's processes can't be seen from here".into(), None) };
    match spec {
        FaultSpec::Restart { .. } if checkpoint != Checkpoint::Undone => match init.lives() {
            true => (format!("its init is the one it was, pid {pid}"), Some(false)),
            false => (format!("the init it had, pid {pid}, is gone"), Some(true)),
        },
        FaultSpec::RestartLoop { .. } if init.lives() => {
            (format!("its init is the one it was, pid {pid}"), Some(false))
        }
        FaultSpec::RestartLoop { .. } => match host_processes::oldest(id) {
            None => ("no process".to_owned(), Some(true)),
            Some(age) => {
                let seen = format!("its oldest process has lived for {:.1} s", age.as_secs_f64());
                (seen, Some(age < OUT_OF_THE_LOOP))
            }
        },
        FaultSpec::PowerOff { .. } | FaultSpec::Stop { .. } | FaultSpec::Restart { .. } => {
            let count = host_processes::processes(id);
            (format!("{count} processes"), Some(count == 0))
        }
        FaultSpec::Pause { .. } => match host_processes::is_frozen(pid, id) {
            Some(frozen) => ((if frozen { "frozen" } else { "not frozen" }).to_owned(), Some(frozen)),
            None => ("its freezer can't be read".to_owned(), None),
        },
        FaultSpec::KubeletFreeze { watchdog: true, .. } | FaultSpec::KubeletKill { restart: true, .. }
            if checkpoint != Checkpoint::Undone =>
        {
            match kubelet {
                Some(kubelet) if kubelet.lives() => (format!("its kubelet is the one it was, {kubelet}"), Some(false)),
                Some(kubelet) => (format!("the kubelet it had, {kubelet}, is gone"), Some(true)),
                None => ("it had no kubelet before".to_owned(), None),
            }
        }
        FaultSpec::KubeletStop { .. }
        | FaultSpec::KubeletKill { .. }
        | FaultSpec::KubeletFreeze { watchdog: true, .. } => {
            let count = host_processes::named(id, KUBELET).len();
            (format!("{count} processes of a kubelet"), Some(count == 0))
        }
        FaultSpec::KubeletFreeze { watchdog: false, .. } => {
            let kubelets = host_processes::named(id, KUBELET);
            let stopped = kubelets.iter().filter(|kubelet| kubelet.stopped).count();
            let seen = format!("{stopped} of {} processes of a kubelet are stopped", kubelets.len());
            (seen, Some(stopped > 0 && stopped == kubelets.len()))
        }
        FaultSpec::ComponentKill { .. }
        | FaultSpec::StoreLoss { .. }
        | FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. }
            if checkpoint != Checkpoint::Undone =>
        {
            match had {
                Some(had) if had.lives() => (format!("the process it had, {had}, is there"), Some(false)),
                Some(had) => (format!("the process it had, {had}, is gone"), Some(true)),
                None => ("it had no process before".to_owned(), None),
            }
        }
        FaultSpec::StoreLoss { .. }
        | FaultSpec::MemberLoss { .. }
        | FaultSpec::CertificateExpired { of: CertificateOf::EtcdPeer, .. } => {
            let count = host_processes::named(id, Component::Etcd.comm()).len();
            (format!("{count} processes of etcd"), Some(count == 0))
        }
        FaultSpec::ComponentDown { component, .. } | FaultSpec::ComponentKill { component, .. } => {
            let count = host_processes::named(id, component.comm()).len();
            (format!("{count} processes of {}", component.name()), Some(count == 0))
        }
        FaultSpec::ComponentFreeze { component, .. } => {
            let all = host_processes::named(id, component.comm());
            let stopped = all.iter().filter(|process| process.stopped).count();
            let seen = format!("{stopped} of {} processes of {} are stopped", all.len(), component.name());
            (seen, Some(stopped > 0 && stopped == all.len()))
        }
        FaultSpec::ComponentFlag { component, flag, .. } => {
            let all = host_processes::named(id, component.comm()).into_iter().map(|fares| fares.process.arguments());
            has_flag(*component, flag, &all.collect::<Vec<_>>())
        }
        FaultSpec::KubeletCrash { .. }
        | FaultSpec::KubeletConfig { .. }
        | FaultSpec::CertificateExpired { of: CertificateOf::Kubelet, .. } => {
            match host_processes::named(id, KUBELET).iter().map(|kubelet| kubelet.age).max() {
                None => ("there is no kubelet".to_owned(), Some(true)),
                Some(age) => (format!("its kubelet is {:.1} s old", age.as_secs_f64()), Some(age < AT_WORK)),
            }
        }
        _ => ("it can't be seen from here".to_owned(), None),
    }
}
