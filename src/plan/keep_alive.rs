//! Keep-alive: the user's own claims about Services and URLs, which are added to any plan.
//!
//! Each of them becomes two claims, one about the fault and one about the recovery: no outage that begins in that phase
//! lasts longer than a budget. The default budget is the longest time to withdraw a dead pod from its Service, plus
//! leader failover if a control plane is lost: an application with replicas need not be out for longer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::resolve::plan_probe;
use super::window::{LEADER_START, OBSERVED_AFTER, Reach, Use, pods_of_a_node, seconds, window};
use super::{Edge, Operator, Plan, PlannedClaim, PlannedFault};
use crate::cluster::facts::NodeFacts;
use crate::error::{Error, Result};
use crate::node::Role;
use crate::scenario::{Address, FaultSpec, NotAnAddress, ProbeSpec, SERVICE, ServiceRequest, WindowName};

/// The id under which findings about keep-alive claims are filed, alongside the ids of the page's sentences.
pub const KEEP_ALIVE: &str = "keep-alive";

/// A target to keep alive: `ADDRESS[=BUDGET]`, such as `service/shop/web:80=5s`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepAlive {
    /// The address to request.
    pub address: Kept,
    /// How long an outage may last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Duration>,
}

/// The address of something to keep alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kept {
    /// An address that exists independently of the run.
    There(Address),
    /// A Service of the manifests that the run adds: `service/NAME:PORT[/PATH]`.
    OfManifests(ServiceRequest),
}

impl Kept {
    /// The error for a Service of the manifests when the run adds no manifests.
    pub fn without_manifests(&self) -> Error {
        Error::usage(format!(
            "--keep-alive {self} names no namespace, so that it is a Service of --manifests; there are none"
        ))
        .next(
            "give the directory they are in, --manifests DIR, or the Service's namespace: service/NAMESPACE/NAME:PORT",
        )
    }
}

impl FromStr for Kept {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> std::result::Result<Self, NotAnAddress> {
        match text.strip_prefix(SERVICE) {
            // Only a first segment with a port is a Service's name; otherwise it is a namespace.
            Some(request) if request.split('/').next().is_some_and(|first| first.contains(':')) => {
                request.parse().map(Self::OfManifests)
            }
            _ => text.parse().map(Self::There),
        }
    }
}

impl TryFrom<String> for Kept {
    type Error = NotAnAddress;
    fn try_from(text: String) -> std::result::Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<Kept> for String {
    fn from(kept: Kept) -> Self {
        kept.to_string()
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There(address) => address.fmt(f),
            Self::OfManifests(request) => write!(f, "{SERVICE}{request}"),
        }
    }
}

impl FromStr for KeepAlive {
    type Err = NotAnAddress;

    /// Parses `ADDRESS[=BUDGET]`. The budget is a duration after the last `=`; anything else there belongs to the
    /// address.
    fn from_str(text: &str) -> std::result::Result<Self, NotAnAddress> {
        let budget = |text: &str| text.parse::<SignedDuration>().ok()?.try_into().ok();
        match text.rsplit_once('=').and_then(|(address, last)| Some((address, budget(last)?))) {
            Some((address, budget)) => Ok(Self { address: address.parse()?, budget: Some(budget) }),
            // In a path, `=` could be intended, but a misspelt budget is far more likely.
            None if text.contains('=') && !text.contains('?') => Err(NotAnAddress::BUDGET),
            None => Ok(Self { address: text.parse()?, budget: None }),
        }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.budget {
            Some(budget) => write!(f, "{}={}", self.address, seconds(budget)),
            None => self.address.fmt(f),
        }
    }
}

impl Plan {
    /// Adds the claims that these targets are kept alive.
    ///
    /// Unless the fault must end early, it then lasts at least as long as the budget allows, so that a longer outage
    /// would be seen.
    ///
    /// # Errors
    /// If a budget depends on a setting that could not be read, or a target is a Service of manifests and the plan has
    /// none.
    pub fn keep_alive(&mut self, wanted: &[KeepAlive], ends_early: bool) -> Result<()> {
        for (nth, wanted) in wanted.iter().enumerate() {
            let spec = ProbeSpec::Reach(self.address_of(&wanted.address)?);
            let probe = self.probes.iter().position(|p| p.spec == spec).unwrap_or_else(|| {
                self.probes.push(plan_probe(&spec));
                self.probes.len() - 1
            });
            let (budget, from) = match wanted.budget {
                Some(budget) => (budget, vec![format!("budget = {} (--keep-alive)", seconds(budget))]),
                None => self.time_to_withdraw()?,
            };
            if !ends_early {
                self.fault_for.at_least = self.fault_for.at_least.max(budget + OBSERVED_AFTER);
                self.fault_for.at_most = self.fault_for.at_most.max(self.fault_for.at_least);
            }
            // An outage may begin with the recovery, and is then watched until it is decided.
            self.recovery_for.at_most = self.recovery_for.at_most.max(budget + OBSERVED_AFTER);
            for (name, id, when) in [
                (WindowName::Fault, format!("keep-alive-{}", nth + 1), "as long as the fault lasts"),
                (WindowName::Recovery, format!("keep-alive-{}-recovery", nth + 1), "while the cluster recovers"),
            ] {
                let (mut window, unsupported) = self.whole(name)?;
                window.bounded_by.clone_from(&from);
                self.claims.push(PlannedClaim {
                    id,
                    sentence: KEEP_ALIVE.into(),
                    says: format!("{} stays up {when}, but for what its budget allows", wanted.address),
                    arm: None,
                    line: 0,
                    probe,
                    operator: Operator::OutageAtMost(budget),
                    window,
                    unsupported,
                });
            }
        }
        self.keep_alive.extend_from_slice(wanted);
        Ok(())
    }

    fn address_of(&self, kept: &Kept) -> Result<Address> {
        match (kept, &self.manifests) {
            (Kept::There(address), _) => Ok(address.clone()),
            (Kept::OfManifests(request), Some(manifests)) => {
                Ok(Address::Service { namespace: manifests.namespace.clone(), request: request.clone() })
            }
            (Kept::OfManifests(_), None) => Err(kept.without_manifests()),
        }
    }

    fn whole(&self, name: WindowName) -> Result<(super::Window, Option<String>)> {
        let pods = pods_of_a_node(&self.facts, self.workloads.values());
        let reach = Reach { ends_before: None, nodes: self.faults.len(), remedy: None, pods, hides_api: false };
        window(Use::During(name), &reach, &self.facts)
    }

    /// How long Kubernetes may take to withdraw a dead pod from its Service, and the settings that bound this time.
    ///
    /// If the fault may also take the leader that would do this, another must lead first, and only then starts
    /// counting.
    fn time_to_withdraw(&self) -> Result<(Duration, Vec<String>)> {
        let mut budget = Duration::ZERO;
        let mut bounded_by = Vec::new();
        let failover = self.may_lose_a_leader().then_some(WindowName::LeaderFailover);
        for name in [WindowName::EndpointsWithdrawn].into_iter().chain(failover) {
            let (window, _) = self.whole(name)?;
            if let Edge::After(end) = window.to {
                budget += end;
            }
            bounded_by.extend(window.bounded_by);
        }
        if failover.is_some() {
            budget += LEADER_START;
        }
        Ok((budget, bounded_by))
    }

    /// Whether a fault takes one of several control planes.
    fn may_lose_a_leader(&self) -> bool {
        let is_plane = |node: &NodeFacts| node.role == Role::ControlPlane;
        let several = self.facts.nodes.values().filter(|node| is_plane(node)).count() > 1;
        let takes_leader = |spec: &FaultSpec| {
            matches!(
                spec,
                FaultSpec::PowerOff { .. }
                    | FaultSpec::RestartLoop { .. }
                    | FaultSpec::Stop { .. }
                    | FaultSpec::Pause { .. }
                    | FaultSpec::Partition { .. }
            )
        };
        let lost = |fault: &PlannedFault| {
            takes_leader(&fault.spec) && self.facts.nodes.get(&fault.node.name).is_some_and(is_plane)
        };
        several && self.faults.iter().any(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_a_namespace_is_one_of_the_manifests() {
        let of = |text: &str| text.parse::<KeepAlive>().map(|kept| matches!(kept.address, Kept::OfManifests(_)));
        for (text, manifests) in [
            ("service/web:80", Ok(true)),
            ("service/web:80/a/b:1=5s", Ok(true)),
            ("service/shop/web:80", Ok(false)),
            ("http://web:80", Ok(false)),
        ] {
            assert_eq!(of(text), manifests, "{text}");
        }
        for (text, why) in
            [("service/web:0", "from 1 to 65535"), ("service/:80", "names of Kubernetes"), ("service/web", "no port")]
        {
            let told = text.parse::<KeepAlive>().unwrap_err().to_string();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn a_budget_stands_behind_the_last_equals_sign_and_is_written_as_it_is_read() {
        for (text, budget) in [
            ("service/shop/web:80", None),
            ("service/shop/web:80=5s", Some(5_000)),
            ("http://localhost:8080/x?a=b", None),
            ("http://localhost:8080/x?a=b=0.25s", Some(250)),
        ] {
            let wanted: KeepAlive = text.parse().unwrap();
            assert_eq!(wanted.budget, budget.map(Duration::from_millis), "{text}");
            assert_eq!(wanted.to_string(), text);
        }
        assert_eq!("service/shop/web:80=1m30s".parse::<KeepAlive>().unwrap().to_string(), "service/shop/web:80=90s");
        for text in
            ["", "5s", "service/shop/web=5s", "service/shop/web:80=-5s", "service/shop/web:80/x=5", "http://h/x=5sec."]
        {
            assert!(text.parse::<KeepAlive>().is_err(), "{text}");
        }
    }
}
