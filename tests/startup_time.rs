//! The cost of commands that need no cluster: people wait for them, and scripts run them in loops.
//!
//! The budgets are those of the release build. The debug build takes 3.6 times as long and gets three times the budget
//! (`perf stat -r 20 kchaos check`: 92 and 25 ms, on the same busy machine).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The best of several runs, from start to exit: the cost of the program, without what else the machine does.
fn best(args: &[&str]) -> Duration {
    let once = || {
        let start = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_kchaos"))
            .args(args)
            // In a directory without scenario files, so that the built-in scenarios are used.
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
