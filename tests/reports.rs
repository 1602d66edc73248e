//! Every format of the report, on recordings.

mod recording;

use kchaos::report::{self, Report};
use recording::{Story, findings, record};

fn report(story: Story) -> Report {
    Report::with_findings(&record(story), &findings(story)).unwrap()
}

#[test]
fn look() {
    for story in [Story::Upheld, Story::Refuted, Story::NoEffect, Story::Dirty] {
        let r = report(story);
        for width in [80, 120] {
            let text = report::terminal::render(&r, Some(std::path::Path::new("~/.local/state/kchaos/runs/x")), width);
            std::fs::write(format!("/tmp/look-{story:?}-{width}.txt"), text).unwrap();
        }
        std::fs::write(format!("/tmp/look-{story:?}.md"), report::markdown::render(&r)).unwrap();
        std::fs::write(format!("/tmp/look-{story:?}.json"), report::json::render(&r).unwrap()).unwrap();
        std::fs::write(format!("/tmp/look-{story:?}.xml"), report::junit::render(&[r]).unwrap()).unwrap();
    }
    std::fs::write("/tmp/look-dry.txt", report::terminal::dry_run(&recording::plan(), 100)).unwrap();
    let s: kchaos::scenario::Scenario =
        serde_saphyr::from_str(include_str!("../scenarios/node-shutdown.yaml")).unwrap();
    std::fs::write("/tmp/look-show.txt", report::terminal::show(&s, 100)).unwrap();
    std::fs::write("/tmp/look-list.txt", report::terminal::list(&[s.clone(), s], 100)).unwrap();
}
