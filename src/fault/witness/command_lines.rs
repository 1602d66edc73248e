//! The command lines of a component's processes: do they have a flag?

use super::{LOOK, Testimony};
use crate::cluster::docker::Engine;
use crate::component::Component;
use crate::event::Checkpoint;
use crate::node::NodeId;
use crate::scenario::Flag;

/// Prints the command lines of a component's processes, one per line. If there is no process, prints whether one of the
/// component's containers was started with this flag: the absence of a process alone does not show that the flag was
/// tried.
const COMMAND_LINES: &str = r#"lines=$(for pid in $(pgrep -f "^$1( |\$)"); do tr '\0' ' ' <"/proc/$pid/cmdline" && echo; done 2>/dev/null)
[ -z "$lines" ] || { echo "$lines"; exit 0; }
for id in $(ctr -n k8s.io containers ls -q "labels.\"io.kubernetes.container.name\"==$1"); do
	! ctr -n k8s.io containers info "$id" | grep -qFe "\"$2\"" || { echo "$1 $2"; exit 0; }
done
"#;

/// Asks the node for the command lines of the component.
pub(super) async fn testimony(
    engine: &Engine,
    node: &NodeId,
    component: Component,
    flag: &Flag,
    checkpoint: Checkpoint,
) -> Testimony {
    let argv = ["sh", "-c", COMMAND_LINES, "sh", component.name(), &flag.to_string()];
    match engine.exec(node, &argv, None, LOOK).await {
        Ok(output) if output.code == 0 => {
            let text = String::from_utf8_lossy(&output.stdout);
            let lines: Vec<Vec<String>> =
                text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
            match has_flag(component, flag, &lines) {
                // The kubelet takes its time to start the component with the flag. By the end of the window it must
                // have done so.
                (seen, _) if checkpoint == Checkpoint::WindowEnd && lines.iter().all(|line| is_gone(line)) => {
                    (format!("{seen}, and no container of it has had it"), None)
                }
                testimony => testimony,
            }
        }
        Ok(output) => (output.stderr, None),
        Err(e) => (e.to_string(), None),
    }
}

/// Does every process of a component have the flag? A component that can't live with the flag runs only at times, or
/// not at all.
pub(super) fn has_flag(component: Component, flag: &Flag, command_lines: &[Vec<String>]) -> Testimony {
    let flag = flag.to_string();
    let all = command_lines.iter().filter(|words| !is_gone(words)).count();
    let with = command_lines.iter().filter(|words| words.contains(&flag)).count();
    (format!("{with} of {all} processes of {} have {flag}", component.name()), Some(with == all))
}

/// Is this the command line of a process that has just ended?
fn is_gone(words: &[String]) -> bool {
    words.iter().all(String::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_in_effect_only_if_no_process_lacks_it() {
        let flag: Flag = "--authorization-mode=Node".parse().unwrap();
        let line = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (with, without) =
            (line(&["a", "--authorization-mode=Node"]), line(&["a", "--authorization-mode=Node,RBAC"]));
        let effect = |lines: &[Vec<String>]| has_flag(Component::KubeApiserver, &flag, lines).1;
        assert_eq!(effect(std::slice::from_ref(&without)), Some(false));
        assert_eq!(effect(&[with.clone(), without]), Some(false));
        assert_eq!(effect(&[with]), Some(true));
        // A process that is just ending shows nothing.
        assert_eq!(effect(&[line(&[""])]), Some(true));
        assert_eq!(effect(&[]), Some(true));
    }
}
