//! The judge: laws that hold for every history, and mutations of recorded ones.

mod properties;
mod world;

#[path = "../recording/mod.rs"]
#[expect(dead_code, reason = "what other tests expect of the judge is not asked here")]
mod recording;

use kchaos::history::History;
use kchaos::verdict::judge;
use recording::{Story, record};

#[test]
fn look() {
    for story in [Story::Upheld, Story::Refuted, Story::NoEffect, Story::Dirty] {
        let events = record(story);
        for f in judge(&History::replay(&events).unwrap()) {
            println!("{story:?} {} {:?} {:?}\n   expected {}; window {:?} {}\n   because {}\n   observed {} {:?}\n  {:?}", f.claim, f.verdict, f.reason, f.expected, f.window, f.window_because, f.because, f.observed, f.observed_at, f.evidence);
        }
    }
}
