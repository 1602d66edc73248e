//! What kchaos changes inside a node, and how the change is put back: by kchaos, or by the node itself.
//!
//! A [`Change`] consists of two shell functions from `in_node/`, `inject` and `undo`, and of what they share with
//! similar changes (`lib-….sh`). If an operator can do something about the change, there is a third function, `remedy`;
//! if that needs something saved beforehand, a fourth, `snapshot`, saves it. What an operator can do about a fault of
//! another node is a change of its own (`remedy-….sh`). The functions need nothing but what every kind node has, such as
//! a shell, systemd and util-linux.
//!
//! Each change comes with a dead man's switch (`in_node/dead-mans-switch.sh`), a timer of the node's own systemd. The
//! switch undoes the change when kchaos gives no sign of life for the length of its lease. So a change ends without an
//! engine, without a network and without any process of kchaos. Once a switch has gone off, nothing is injected under
//! it any more, however late a stopped kchaos goes on.
//!
//! An [`ApiChange`] is made with kubectl from a control-plane node. Unlike other changes, undoing it needs a working
//! API.
//!
//! Everything is done through `docker exec`. The scripts are part of this program; a journal only names them.

mod change;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::change::{ApiChange, Certificate, Change};
pub(crate) use self::change::{CONTAINERS, ETCD, HELD_BY, KUBECTL, VOLUME};
use crate::cluster::docker::{Engine, Output};
use crate::error::{Error, Result};
use crate::node::NodeId;

/// Time for one call in a node. Most calls start or stop a unit; the longest make one store from another, or wait for a
/// new member of etcd to get everything.
const WITHIN: Duration = Duration::from_secs(60);
/// Number of signs of life in the length of a lease.
const SIGNS: u32 = 4;

/// Name of a switch, of its units and of its directory in the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwitchName(String);

impl SwitchName {
    const PREFIX: &str = "kchaos-";

    /// A name that no other switch has.
    pub fn unique() -> Self {
        Self(format!("{}{:016x}", Self::PREFIX, rand::random::<u64>()))
    }
}

impl TryFrom<String> for SwitchName {
    type Error = String;

    /// Accepts only the exact form of a name. The name becomes part of paths in a node, and a journal could contain
    /// anything.
    fn try_from(name: String) -> Result<Self, String> {
        let digits = name.strip_prefix(Self::PREFIX).unwrap_or_default();
        match digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            true => Ok(Self(name)),
            false => Err(format!("{name:?} is not the name of a switch")),
        }
    }
}

impl From<SwitchName> for String {
    fn from(name: SwitchName) -> Self {
        name.0
    }
}

/// A change in one node, under one switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InNode {
    /// The node's container, by id, so that it is never taken for a namesake.
    pub node: NodeId,
    /// What is changed.
    pub change: Change,
    /// The dead man's switch.
    pub switch: SwitchName,
}

/// Who put a change back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutBack {
    /// This call or an earlier one.
    Here,
    /// The node itself: its switch had gone off.
    ByTheNode,
}

impl InNode {
    /// Sets the switch, then makes the change. Calling it again changes nothing.
    ///
    /// # Errors
    /// If the switch can't be set or has gone off, or if the change fails. The change may have been made nevertheless.
    pub async fn inject(&self, engine: &Engine, lease: Duration) -> Result<()> {
        self.call(engine, "arm", Some(lease)).await?;
        self.call(engine, "change", None).await.map(drop)
    }

    /// Saves what a remedy will need, and describes what was saved. Must be called before the change.
    ///
    /// Sets the switch first, so that what is saved does not stay for good.
    ///
    /// # Errors
    /// If there is nothing to save, or it can't be saved.
    pub async fn save(&self, engine: &Engine, lease: Duration) -> Result<String> {
        self.call(engine, "arm", Some(lease)).await?;
        let output = self.call(engine, "snapshot", None).await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Does what an operator would do about the change. Calling it again changes nothing. [`InNode::undo`] undoes the
    /// remedy, too.
    ///
    /// # Errors
    /// If the switch has gone off, or the remedy fails.
    pub async fn remedy(&self, engine: &Engine) -> Result<()> {
        self.call(engine, "remedy", None).await.map(drop)
    }

    /// Gives signs of life as long as the future is polled. A sign that hangs does not hold up the next one. No sign
    /// brings back a switch that has gone off.
    pub async fn keep(self, engine: Engine, lease: Duration) {
        let mut again = tokio::time::interval(lease / SIGNS);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            again.tick().await;
            match tokio::time::timeout(lease / SIGNS, self.call(&engine, "renew", None)).await {
                Ok(Ok(_)) => {}
                // An engine that is away may be back before the lease is over.
                Ok(Err(error)) => tracing::debug!("{error}"),
                Err(_) => tracing::debug!("no answer to a sign of life in {}", self.node.name),
            }
        }
    }

    /// Undoes the change, checks that it is undone, and removes the switch. Calling it again changes nothing.
    ///
    /// # Errors
    /// If the change is not seen to be undone. The switch then stays, and goes off in time.
    pub async fn undo(&self, engine: &Engine) -> Result<PutBack> {
        let output = self.call(engine, "restore", None).await?;
        if !String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "gone-off") {
            return Ok(PutBack::Here);
        }
        // From here on the caller knows, so the node need not keep the record. The audit finds a record that can't be
        // removed.
        if let Err(error) = self.call(engine, "forget", None).await {
            tracing::warn!("{error}; once more");
            if let Err(again) = self.call(engine, "forget", None).await {
                tracing::warn!("{again}");
            }
        }
        Ok(PutBack::ByTheNode)
    }

    /// Lets the program that made the change undo it, as long as the node still has that program: it may be of another
    /// version.
    fn by_its_own(&self) -> String {
        let program = format!("/var/lib/kchaos/{}/program", self.switch.0);
        format!("[ ! -e {program} ] || exec sh {program} \"$@\"\n")
    }

    async fn call(&self, engine: &Engine, call: &str, lease: Option<Duration>) -> Result<Output> {
        let program = match call {
            "restore" | "forget" => format!("{}{}", self.by_its_own(), self.change.program()),
            _ => self.change.program(),
        };
        let mut argv = vec!["sh", "-c", &program, "kchaos", call, &self.switch.0];
        let seconds = lease.map(|lease| format!("{:.3}s", lease.as_secs_f64()));
        if let Some(seconds) = &seconds {
            argv.extend([seconds.as_str(), &program]);
        }
        let output = engine.exec_changing(&self.node, &argv, WITHIN).await?;
        match output.code {
            0 => Ok(output),
            code => Err(Error::could_not_run(format!(
                "could not {call} {} in {}: code {code}: {}",
                self.switch.0,
                self.node.name,
                output.stderr.trim()
            ))),
        }
    }
}

impl fmt::Display for InNode {
    /// The command that undoes it by hand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&by_hand(&self.node, &self.switch))
    }
}

/// Returns what was left in a node, as the commands that put it back by hand.
///
/// # Errors
/// If kchaos can't look into the node.
pub async fn left_in(engine: &Engine, node: &NodeId) -> Result<Vec<String>> {
    let look = "[ ! -e /var/lib/kchaos ] || ls /var/lib/kchaos";
    let output = engine.exec(node, &["sh", "-c", look], None, WITHIN).await?;
    if output.code != 0 {
        return Err(Error::could_not_run(format!("could not look into {}: {}", node.name, output.stderr.trim())));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let switches = names.lines().filter_map(|name| SwitchName::try_from(name.to_owned()).ok());
    Ok(switches.map(|switch| by_hand(node, &switch)).collect())
}

fn by_hand(node: &NodeId, SwitchName(switch): &SwitchName) -> String {
    let program = format!("sh /var/lib/kchaos/{switch}/program");
    format!("docker exec {} sh -c '{program} restore {switch} && rm -rf /var/lib/kchaos/{switch}'", node.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_can_not_name_anything_but_a_switch() {
        let name = SwitchName::unique();
        assert_eq!(serde_json::from_str::<SwitchName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
        for bad in [
            "",
            "kchaos-",
            "kchaos-0123",
            "../../etc",
            "kchaos-0123456789abcdeF",
            "kchaos-0123456789abc/ef",
            "kchaos-0123456789abcdef0",
        ] {
            assert!(serde_json::from_value::<SwitchName>(bad.into()).is_err(), "{bad}");
        }
    }
}
