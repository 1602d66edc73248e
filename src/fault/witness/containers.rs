//! A workload's containers that run on a node, as the first process of each.

use std::collections::BTreeSet;

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::event::Checkpoint;
use crate::in_node::CONTAINERS;
use crate::plan::PlannedFault;
use crate::scenario::FaultSpec;

/// Prints, for each running container, its id, and id and start time of its first process. Each process is looked up in
/// the kernel's own list.
const LOOK_AT: &str = r#"set -eu
containers=$(containers_of "$1" "$2")
tasks=$(ctr -n k8s.io tasks ls)
for container in $containers; do
	pid=$(echo "$tasks" | sed -n "s/^$container *\([0-9]*\) *RUNNING.*/\1/p")
	[ -n "$pid" ] && process=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) || continue
	echo "$container $pid $(echo "$process" | cut -d ' ' -f 20)"
done
"#;

/// The containers that run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Running(BTreeSet<String>);

impl Running {
    /// Looks for the containers. `None` if the fault is not about containers, or nothing can be told.
    pub(super) async fn look(engine: &Engine, fault: &PlannedFault) -> Result<Option<Self>> {
        let (FaultSpec::ContainerKill { of, .. }, Some(objects)) = (&fault.spec, &fault.objects) else {
            return Ok(None);
        };
        let script = [CONTAINERS, LOOK_AT].concat();
        let namespace = objects.namespace.to_string();
        let output = engine.exec(&fault.node, &["sh", "-c", &script, "sh", &namespace, of], None, LOOK).await?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok((output.code == 0).then(|| Self(said.lines().map(str::to_owned).collect())))
    }
}

/// Has every container that ran ended? Once the fault is over, it is that fewer run than before.
pub(super) fn held_against(before: Option<&Running>, now: Option<&Running>, checkpoint: Checkpoint) -> Testimony {
    let (Some(Running(before)), Some(Running(now))) = (before, now) else {
        return ("they could not be looked at".to_owned(), None);
    };
    if before.is_empty() {
        return ("none of them ran before".to_owned(), None);
    }
    let same = before.intersection(now).count();
    let said = format!("{same} of the {} that ran before, and {} others", before.len(), now.len() - same);
    let effect = if checkpoint == Checkpoint::Undone { now.len() < before.len() } else { same == 0 };
    (said, Some(effect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_ended_only_if_its_own_process_has() {
        let running = |lines: &[&str]| Running(lines.iter().map(|&line| line.to_owned()).collect());
        let before = running(&["a 7 100", "b 8 100"]);
        let effect = |now: &[&str], checkpoint| held_against(Some(&before), Some(&running(now)), checkpoint).1;
        assert_eq!(effect(&["a 7 100", "b 8 100"], Checkpoint::Injected), Some(false));
        assert_eq!(effect(&["b 8 100"], Checkpoint::Injected), Some(false), "one of two is left");
        assert_eq!(effect(&["c 9 200", "d 7 201"], Checkpoint::Injected), Some(true));
        assert_eq!(effect(&["a 7 200", "b 8 201"], Checkpoint::Injected), Some(true), "their numbers were used again");
        assert_eq!(effect(&[], Checkpoint::WindowEnd), Some(true));
        // Whether as many run again is all that the undo waits for.
        assert_eq!(effect(&[], Checkpoint::Undone), Some(true));
        assert_eq!(effect(&["c 9 200"], Checkpoint::Undone), Some(true));
        assert_eq!(effect(&["c 9 200", "d 7 201"], Checkpoint::Undone), Some(false));
        assert_eq!(held_against(Some(&running(&[])), Some(&before), Checkpoint::Injected).1, None);
        assert_eq!(held_against(None, Some(&before), Checkpoint::Injected).1, None);
    }
}
