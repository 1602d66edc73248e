//! What it costs to ask something that needs no cluster: people wait for it, and scripts do it in loops.
//!
//! The budgets are those of the release build. The debug build takes 3.6 times as long, and is held to three times as much (`perf stat -r 20 kchaos check`:
//! 92 and 25 ms, on the same busy machine).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The best of several runs, from start to exit: what the program costs, not what else the machine does meanwhile.
fn best(args: &[&str]) -> Duration {
    let once = || {
        let start = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_kchaos"))
            .args(args)
            // In the directory of a user: the built-in scenarios are meant, and no files of theirs.
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .status()
            .expect("kchaos runs");
        assert!(status.success(), "{args:?}: {status}");
        start.elapsed()
    };
    (0..20).map(|_| once()).min().expect("it was run")
}

fn within(budget: Duration) -> Duration {
    if cfg!(debug_assertions) { 3 * budget } else { budget }
}

#[test]
fn help_is_there_within_10_ms() {
    let best = best(&["--help"]);
    println!("--help: {best:?}");
    assert!(best <= within(Duration::from_millis(10)), "{best:?}");
}

#[test]
fn all_scenarios_are_checked_within_50_ms() {
    let best = best(&["check"]);
    println!("check: {best:?}");
    assert!(best <= within(Duration::from_millis(50)), "{best:?}");
}
