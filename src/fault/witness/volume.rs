//! A workload's volume, as seen on its node's disk and by the process that keeps its state there.

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::error::Result;
use crate::in_node::{CONTAINERS, VOLUME};
use crate::plan::PlannedFault;
use crate::scenario::{FaultSpec, VolumeLeft};

/// Prints the directory on the disk, and the one that the workload's processes see under `/state`: its inode number,
/// and whether it can only be read, or its disk is full. `-` stands for one that is not there.
const LOOK_AT: &str = r#"set -u
like() {
	inode=$(stat -c %i "$3" 2>/dev/null) || { echo -; return; }
	! grep -q " $2 ro[, ]" "/proc/$1/mountinfo" || inode=$inode,read-only
	[ "$(stat -f -c %f "$3")" != 0 ] || inode=$inode,full
	echo "$inode"
}
volume=$(volume_of "$1" "$2" | head -n 1)
disk=$(like self "$volume" "$volume")
seen=-
for container in $(containers_of "$1" "$2"); do
	pid=$(ctr -n k8s.io tasks ls | sed -n "s/^$container *\([0-9]*\) *RUNNING.*/\1/p")
	inside=/proc/$pid/root
	[ -z "$pid" ] || seen=$(like "$pid" /state "$inside/state")
done
echo "$disk $seen"
"#;

/// What [`LOOK_AT`] adds to the number of a directory.
const READ_ONLY: &str = ",read-only";
const FULL: &str = ",full";

/// The directory of a volume: which one, and what can be done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    disk: Option<String>,
    seen: Option<String>,
}

impl Directory {
    /// Looks at the volume's directory. `None` if the fault is not about a volume, or nothing can be told.
    pub(super) async fn look(engine: &Engine, fault: &PlannedFault) -> Result<Option<Self>> {
        let (FaultSpec::VolumeLoss { of, .. }, Some(objects)) = (&fault.spec, &fault.objects) else { return Ok(None) };
        let script = [CONTAINERS, VOLUME, LOOK_AT].concat();
        let namespace = objects.namespace.to_string();
        let output = engine.exec(&fault.node, &["sh", "-c", &script, "sh", &namespace, of], None, LOOK).await?;
        Ok(Self::read(&String::from_utf8_lossy(&output.stdout)).filter(|_| output.code == 0))
    }

    fn read(said: &str) -> Option<Self> {
        let (disk, seen) = said.trim().split_once(' ')?;
        let one = |text: &str| match text {
            "-" => Some(None),
            it => it.starts_with(|c: char| c.is_ascii_digit()).then(|| Some(it.to_owned())),
        };
        Some(Self { disk: one(disk)?, seen: one(seen)? })
    }
}

/// Is the directory gone or a different one, or can nothing be added to it, as was to be left of it, both on the disk and
/// for the workload? A workload that is not running sees none.
pub(super) fn held_against(before: Option<&Directory>, now: Option<&Directory>, left: VolumeLeft) -> Testimony {
    let (Some(before), Some(now)) = (before, now) else { return ("it could not be looked at".to_owned(), None) };
    let Some(had) = before.disk.as_deref().filter(|_| before.seen == before.disk) else {
        return ("the workload did not have its state there before".to_owned(), None);
    };
    let (disk, seen) = (now.disk.as_deref(), now.seen.as_deref());
    let shown = |it: Option<&str>| it.unwrap_or("none").to_owned();
    let said = format!("directory {} on the disk, {} for the workload, was {had}", shown(disk), shown(seen));
    let lost = |it: &str| match left {
        VolumeLeft::Nothing | VolumeLeft::Empty => it != had,
        VolumeLeft::ReadOnly => it.ends_with(READ_ONLY),
        VolumeLeft::Full => it.ends_with(FULL),
    };
    let effect = match (disk, seen) {
        (Some(disk), Some(seen)) if disk == had && seen == had => Some(false),
        (disk, seen) if disk.is_none_or(lost) && seen.is_none_or(lost) => Some(true),
        // One of the two has yet to follow, or something else has come in the volume's place.
        _ => None,
    };
    (said, effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_lost_only_if_the_workload_has_lost_it_too() {
        let read = |said: &str| Directory::read(said).unwrap();
        let before = read("7 7\n");
        let left = |left, now: &str| held_against(Some(&before), Some(&read(now)), left).1;
        let effect = |now: &str| left(VolumeLeft::Empty, now);
        assert_eq!(effect("7 7"), Some(false));
        assert_eq!(effect("9 9"), Some(true));
        assert_eq!(effect("- -"), Some(true));
        assert_eq!(effect("9 -"), Some(true));
        assert_eq!(effect("9 7"), None, "it goes on with the old one");
        assert_eq!(effect("7 -"), None, "it is back, and the workload not yet");
        assert_eq!(left(VolumeLeft::ReadOnly, "7,read-only 7,read-only"), Some(true));
        assert_eq!(left(VolumeLeft::ReadOnly, "7,read-only -"), Some(true));
        assert_eq!(left(VolumeLeft::ReadOnly, "7 7"), Some(false));
        assert_eq!(left(VolumeLeft::ReadOnly, "7,read-only 7"), None, "it still writes to it");
        assert_eq!(left(VolumeLeft::Full, "9,full 9,full"), Some(true));
        // A node that was restarted has lost what made its volume full, and the workload writes to what is left.
        assert_eq!(left(VolumeLeft::Full, "9 9"), None);
        assert_eq!(left(VolumeLeft::ReadOnly, "9 9"), None);
        assert_eq!(held_against(Some(&read("7 8")), Some(&before), VolumeLeft::Empty).1, None);
        assert_eq!(held_against(None, Some(&before), VolumeLeft::Empty).1, None);
        assert_eq!(Directory::read("x 7"), None);
    }
}
