//! Connections that are opened from a node, and what becomes of them. Kernels shake hands without any process of the
//! other side, so it takes a connection no time to stand, however busy the machine is.

use std::collections::BTreeSet;

use super::LOOK;
use crate::cluster::docker::Engine;
use crate::node::NodeId;

/// What became of connections: the numbers of those that were answered at once, and of those that could not be tried.
pub(super) struct Opened {
    pub quick: BTreeSet<usize>,
    pub failed: BTreeSet<usize>,
}

/// Opens the connections that are given as arguments, `ADDRESS/PORT`, all at the same time. Prints the number of each
/// that the other kernel accepts or refuses before this one would send a lost packet again, which is after a second.
const OPEN: &str = r#"LC_ALL=C
open() {
	began=${EPOCHREALTIME/./} word=quick
	{ exec 3<>"/dev/tcp/$2"; } 2>"$said/$1" || case $(<"$said/$1") in *refused*) ;; *) word=failed ;; esac
	[ $((${EPOCHREALTIME/./} - began)) -ge 900000 ] || echo "$word $1"
}
[ -n "$EPOCHREALTIME" ] || exit 1
said=$(mktemp -d)
trap 'rm -rf "$said"' EXIT
number=0
for to; do
	open "$number" "$to" &
	((number += 1))
done
for ((tenths = 0; tenths < 20; tenths++)); do
	[ -n "$(jobs -rp)" ] || break
	sleep 0.1
done
kill $(jobs -rp) 2>/dev/null
exit 0
"#;

/// Opens connections from a node to these addresses, `ADDRESS/PORT`.
///
/// # Errors
/// If the node can't do it, in words.
pub(super) async fn open(engine: &Engine, from: &NodeId, to: &[String]) -> Result<Opened, String> {
    let mut argv = vec!["bash", "-c", OPEN, "bash"];
    argv.extend(to.iter().map(String::as_str));
    let output = engine.exec(from, &argv, None, LOOK).await.map_err(|e| e.to_string())?;
    match output.code {
        0 => Ok(read(&String::from_utf8_lossy(&output.stdout))),
        _ => Err(format!("there is no bash that can do it {}", output.stderr.trim())),
    }
}

fn read(printed: &str) -> Opened {
    let of = |word: &str| {
        let numbers = printed.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.parse().ok());
        numbers.collect()
    };
    Opened { quick: of("quick"), failed: of("failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_was_not_answered() {
        let Opened { quick, failed } = read("quick 0\nfailed 2\nquick 3\nnoise\n");
        assert_eq!((quick, failed), ([0, 3].into(), [2].into()));
    }
}
