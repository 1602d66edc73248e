//! A workload's volume, as seen on its node's disk and by the process that keeps its state there.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::in_node::VOLUME;
use crate::plan::PlannedFault;
use crate::scenario::FaultSpec;

/// Prints two inode numbers: of the directory on the disk, and of the one that the workload's processes see under
/// `/state`. `-` stands for one that is not there.
const LOOK_AT: &str = r#"set -u
volume=$(volume_of "$1" "$2" | head -n 1)
disk=$(stat -c %i "$volume" 2>/dev/null || echo -)
seen=-
for container in $(containers_of "$1" "$2"); do
	pid=$(ctr -n k8s.io tasks ls | sed -n "s/^$container *\([0-9]*\) *RUNNING.*/\1/p")
	inside=/proc/$pid/root
	[ -z "$pid" ] || seen=$(stat -c %i "$inside/state" 2>/dev/null || echo -)
done
echo "$disk $seen"
"#;

/// The directory of a volume, identified by its inode numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    disk: Option<u64>,
    seen: Option<u64>,
}

impl Directory {
    /// Looks at the volume's directory. `None` if the fault is not about a volume, or nothing can be told.
    pub(super) async fn look(engine: &Engine, fault: &PlannedFault) -> Result<Option<Self>> {
        let (FaultSpec::VolumeLoss { of, .. }, Some(objects)) = (&fault.spec, &fault.objects) else { return Ok(None) };
        let script = [VOLUME, LOOK_AT].concat();
        let namespace = objects.namespace.to_string();
        let output = engine.exec(&fault.node, &["sh", "-c", &script, "sh", &namespace, of], None, LOOK).await?;
        Ok(Self::read(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.code == 0))
    }

    fn read(said: &str) -> Option<Self> {
        let (disk, seen) = said.trim().split_once(' ')?;
        let number = |text: &str| match text {
            "-" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        Some(Self { disk: number(disk)?, seen: number(seen)? })
    }
}

/// Is the directory gone or a different one, both on the disk and for the workload? A workload that is not running sees
/// none.
pub(super) fn held_against(before: Option<&Directory>, now: Option<&Directory>) -> Testimony {
    let (Some(before), Some(now)) = (before, now) else { return ("it could not be looked at".to_owned(), None) };
    let Some(had) = before.disk.filter(|_| before.seen == before.disk) else {
        return ("the workload did not have its state there before".to_owned(), None);
    };
    let shown = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let seen = format!("directory {} on the disk, {} for the workload, was {had}", shown(now.disk), shown(now.seen));
    let effect = match (now.disk == Some(had), now.seen == Some(had)) {
        (true, true) => Some(false),
        (false, false) => Some(true),
        // One of the two has yet to follow.
        _ => None,
    };
    (seen, effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_lost_only_if_the_workload_has_lost_it_too() {
        let read = |said: &str| Directory::read(said).unwrap();
        let before = read("7 7\n");
        let effect = |now: &str| held_against(Some(&before), Some(&read(now))).1;
        assert_eq!(effect("7 7"), Some(false));
        assert_eq!(effect("9 9"), Some(true));
        assert_eq!(effect("- -"), Some(true));
        assert_eq!(effect("9 -"), Some(true));
        assert_eq!(effect("9 7"), None, "it goes on with the old one");
        assert_eq!(effect("7 -"), None, "it is back, and the workload not yet");
        assert_eq!(held_against(Some(&read("7 8")), Some(&before)).1, None);
        assert_eq!(held_against(None, Some(&before)).1, None);
        assert_eq!(Directory::read("x 7"), None);
    }
}
