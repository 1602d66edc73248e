//! Every format of the report, and the live display, on recordings.

mod synthetic;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use kchaos::error::Exit;
use kchaos::event::{Cause, End, Event, EventKind, Interruption, ProcessorUse};
use kchaos::node::Role;
use kchaos::plan::{Plan, PlannedProbe, PlannedRemedy};
use kchaos::progress::Told;
use kchaos::report::live::Live;
use kchaos::report::{self, AtLeast, Outcome, Report, Seconds, escape, json, junit, markdown, several_runs, terminal};
use kchaos::sample::Outcome as Seen;
use kchaos::sample::{Failure, Sample, Value};
use kchaos::scenario::{ApiServerOfStore, ApiVerb, Arm, FaultSpec, ProbeSpec, Remedy, Scenario, StoreLeft, WriteState};
use kchaos::steady_state::Unsteady;
use kchaos::user_manifests::Manifests;
use kchaos::verdict::{Reason, Verdict};
use proptest::prelude::*;
use quick_junit::{NonSuccessKind, TestCaseStatus};
use snapbox::assert_data_eq;
use synthetic::{Story, findings, plan, record};

const STORIES: [Story; 4] = [Story::Upheld, Story::Refuted, Story::NoEffect, Story::Dirty];

fn report(story: Story) -> Report {
    Report::with_findings(&record(story), &findings(story)).unwrap()
}

/// The report on a terminal without colour.
fn shown(report: &Report, width: u16) -> String {
    plain(&terminal::render(report, Some(Path::new("/state/kchaos/E7GX/demo/20261124-1")), width))
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

// ---- how it looks

#[test]
fn several_runs_come_to_one_page() {
    let reports = [report(Story::Upheld), report(Story::Refuted), report(Story::NoEffect)];
    let shown = plain(&terminal::several_runs(&reports, &[], 100));
    assert_data_eq!(shown, snapbox::file!["reports/several-runs-100.txt"].raw());
    assert_data_eq!(several_runs::markdown(&reports, &[]), snapbox::file!["reports/several-runs.md"].raw());
    let upheld = [report(Story::Upheld), report(Story::Upheld)];
    assert!(several_runs::markdown(&upheld, &[]).starts_with("# ✓ upheld\n"));
    assert!(!several_runs::markdown(&upheld, &[]).contains("Not upheld"));
    // Documented or not, a loss is told from one that was carried.
    let lost = |change: &dyn Fn(&mut Plan)| {
        let mut events = record(Story::Upheld);
        let EventKind::Started { plan, .. } = &mut events[0].kind else { panic!("no start") };
        change(plan);
        let lost = Report::of(&events).unwrap();
        (plain(&terminal::render(&lost, None, 100)), several_runs::markdown(&[lost], &[]))
    };
    let majority = |plan: &mut Plan| plan.majority_of = Some(Role::Worker);
    let balancer = |plan: &mut Plan| {
        let broken = plan.faults[0].node.name.clone();
        plan.facts.nodes.get_mut(&broken).unwrap().role = Role::LoadBalancer;
    };
    for (change, told) in
        [(&majority as &dyn Fn(&mut Plan), "1 of 2 workers: more than"), (&balancer, "the load balancer: more than")]
    {
        let (run, page) = lost(change);
        assert!(run.contains(&format!("exceeds    {told}")), "{run}");
        assert!(page.contains(told) && page.contains("One run broke more than"), "{page}");
    }
    // What was not run did not hold, however well the other runs went.
    let cut_short = several_runs::markdown(&upheld, &["the cluster is gone".into()]);
    assert!(cut_short.starts_with("# ? inconclusive\n"), "{cut_short}");
    assert!(cut_short.contains("## Not run\n\n- the cluster is gone\n"), "{cut_short}");
    // A probe of a control claim is not a user of the mitigation, even if another claim looks at it too.
    let [mut with_control, without] = upheld;
    let probe = with_control.outages.first().map(|outage| outage.probe.clone()).unwrap();
    for claim in with_control.claims.iter_mut().take(1) {
        (claim.probe, claim.arm) = (probe.clone(), Some(Arm::Control));
    }
    assert!(several_runs::markdown(&[without], &[]).contains(&probe));
    assert!(!several_runs::markdown(&[with_control], &[]).contains(&probe));
}

#[test]
fn terminal_when_all_is_upheld() {
    assert_data_eq!(shown(&report(Story::Upheld), 100), snapbox::file!["reports/upheld-100.txt"].raw());
}

#[test]
fn terminal_when_a_claim_is_refuted() {
    assert_data_eq!(shown(&report(Story::Refuted), 120), snapbox::file!["reports/refuted-120.txt"].raw());
    assert_data_eq!(shown(&report(Story::Refuted), 80), snapbox::file!["reports/refuted-80.txt"].raw());
}

#[test]
fn terminal_when_the_fault_had_no_effect() {
    assert_data_eq!(shown(&report(Story::NoEffect), 80), snapbox::file!["reports/no-effect-80.txt"].raw());
}

#[test]
fn terminal_when_the_cluster_is_left_dirty() {
    assert_data_eq!(shown(&report(Story::Dirty), 100), snapbox::file!["reports/dirty-100.txt"].raw());
}

#[test]
fn json_junit_and_markdown_of_a_refuted_run() {
    let report = report(Story::Refuted);
    assert_data_eq!(json::render(&report).unwrap(), snapbox::file!["reports/refuted.json"].raw());
    assert_data_eq!(
        junit::render(std::slice::from_ref(&report), &[]).unwrap(),
        snapbox::file!["reports/refuted.xml"].raw()
    );
    assert_data_eq!(markdown::render(&report), snapbox::file!["reports/refuted.md"].raw());
}

#[test]
fn a_dry_run_reads_as_a_list_of_steps() {
    let workloads = scenario().workloads.into_iter().map(|(name, workload)| (name.to_string(), workload)).collect();
    let mut plan = Plan { workloads, ..plan() };
    let manifests = Manifests::read(Path::new("docs/shop")).unwrap();
    plan.bring(&manifests);
    assert_data_eq!(
        plain(&terminal::dry_run(&plan, Some(&manifests), 100)),
        snapbox::file!["reports/dry-run.txt"].raw()
    );
}

#[test]
fn the_command_that_does_it_again_has_what_was_brought_along() {
    let mut events = record(Story::Upheld);
    let Some(EventKind::Started { plan, .. }) = events.first_mut().map(|event| &mut event.kind) else { panic!() };
    let mut manifests = Manifests::read(Path::new("docs/shop")).unwrap();
    manifests.path = "my shop's".into();
    plan.bring(&manifests);
    plan.keep_alive.push("service/web:80=5s".parse().unwrap());
    let report = Report::with_findings(&events, &findings(Story::Upheld)).unwrap();
    let with = " --manifests 'my shop'\\''s' --keep-alive service/web:80=5s";
    assert!(report.run.command.ends_with(with), "{}", report.run.command);
}

#[test]
fn a_scenario_reads_aloud() {
    let scenario = scenario();
    assert_data_eq!(plain(&terminal::show(&scenario, 100)), snapbox::file!["reports/show.txt"].raw());
    assert_data_eq!(plain(&terminal::list(&[scenario], 100)), snapbox::file!["reports/list.txt"].raw());
}

#[test]
fn off_a_terminal_the_live_display_is_one_line_for_each_thing_that_happens() {
    let lines: String = STORIES.iter().map(|story| live_lines(&record(*story)) + "\n").collect();
    assert_data_eq!(plain(&lines), snapbox::file!["reports/live.txt"].raw());
}

#[test]
fn on_a_terminal_the_live_display_shows_what_is_expected_next_and_a_band_for_each_probe() {
    let screen = indicatif::InMemoryTerm::new(30, 100);
    let mut live = Live::redrawn(indicatif::ProgressDrawTarget::term_like(Box::new(screen.clone())));
    // Up to an event that is reported. That is drawn at once, everything else at most five times a second.
    for event in record(Story::Upheld).iter().filter(|e| e.at <= synthetic::at(41_600)) {
        live.event(event);
    }
    let shown = screen.contents();
    assert!(shown.contains(" recovery "), "{shown}");
    assert!(shown.contains("next: the node is Ready again: expected now, "), "{shown}");
    assert!(shown.contains("··▁▁▁▁▁▁███████████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁ requests to web"), "{shown}");
    assert!(shown.contains("Ready condition of demo-worker2  Unknown"), "{shown}");
    live.note("SIGINT: putting everything back.");
    let noted = screen.contents();
    assert!(noted.contains("SIGINT: putting everything back.\n"), "{noted}");
    assert!(
        noted.matches(" recovery ").count() == shown.matches(" recovery ").count(),
        "a note leaves no torn lines: {noted}"
    );
    live.finish();
    assert!(!screen.contents().contains("requests to web  web-1"), "the redrawn lines go when the report comes");
}

#[test]
fn why_there_is_no_quiet_baseline_is_told_in_the_words_of_the_report_and_harmless_to_a_terminal() {
    let events = record(Story::Upheld);
    let EventKind::Started { plan, .. } = &events[0].kind else { panic!("it did not start") };
    let probe = plan.probes.iter().position(|probe| matches!(probe.spec, ProbeSpec::Requests { .. })).unwrap();
    let told = |unsteady: &Unsteady| {
        let out = Shared::default();
        let mut live = Live::plain(out.clone(), false);
        live.event(&events[0]);
        live.told(Told::Unsteady(unsteady));
        let said = String::from_utf8(out.0.take()).unwrap();
        let line = plain(said.lines().last().unwrap());
        line.split_once(" s  ").unwrap().1.to_owned()
    };
    let series = || "from demo-worker".to_owned();
    let refused = Unsteady::NotNormal { probe, series: series(), seen: Seen::Failed(Failure::Refused) };
    assert_eq!(told(&refused), "no quiet baseline yet: requests to web (from demo-worker): refused");
    assert_eq!(
        told(&Unsteady::Blind { probe, series: series() }),
        "no quiet baseline yet: requests to web (from demo-worker): nothing was seen"
    );
    let foreign = Seen::Failed(Failure::Other("\u{1b}[2J\n::error::x".into()));
    let foreign = told(&Unsteady::NotNormal { probe, series: String::new(), seen: foreign });
    assert!(!foreign.contains('\u{1b}') && foreign.starts_with("no quiet baseline yet"), "{foreign:?}");
}

/// A stream whose text can be read afterwards.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a live display writes when it is not on a terminal.
fn live_lines(events: &[Event]) -> String {
    let out = Shared::default();
    let mut live = Live::plain(out.clone(), false);
    events.iter().for_each(|event| live.event(event));
    live.finish();
    String::from_utf8(out.0.take()).unwrap()
}

fn scenario() -> Scenario {
    serde_saphyr::from_str(
        "
scenario: node-shutdown
summary: A worker node goes down. Replicas behind a Service carry on elsewhere.
topology: single
targets:
  victim: {role: worker}
workloads:
  web: {kind: deployment, replicas: 2, spread: true, service: true}
  durable: {kind: stateful-set, on: victim, app: keeper, state: claim, service: true}
  unforgiving: {kind: pod, on: victim, service: true, tolerate-node-loss: true, restart: Never}
  newcomer: {kind: pod, on: victim, late: true}
variants:
  - {name: power-off, fault: {power-off: {node: victim}}}
  - {name: short-outage, fault: {power-off: {node: victim}}, ends-before: node-unknown}
claims:
  - claim: node-marked-unknown
    sentence: node.pods-stop
    says: the node is marked Ready=Unknown
    variants: [power-off]
    probe: {node-ready: victim}
    eventually: {is: Unknown}
    during: node-unknown
  - claim: service-recovers
    sentence: m.replicas/node
    arm: treatment
    says: every request to the replicated Service is answered
    probe: {requests: {to: web}}
    always: {answers: true}
    after: endpoints-withdrawn
  - claim: never-restarted
    sentence: m.replicas/node
    arm: control
    says: a pod with restartPolicy Never does not come back
    probe: {requests: {to: unforgiving}}
    never: {answers: true}
    during: recovery
",
    )
    .unwrap()
}

// ---- what it comes to

#[test]
fn every_format_carries_the_same_verdicts() {
    for story in STORIES {
        let report = report(story);
        let counts = report.counts();
        let expected = [counts.upheld, counts.refuted, counts.inconclusive, counts.unsupported];
        assert_eq!(counts.all(), 5);

        let value: serde_json::Value = serde_json::from_str(&json::render(&report).unwrap()).unwrap();
        let claims = value["claims"].as_array().unwrap();
        let with = |verdict: &str| claims.iter().filter(|c| c["verdict"] == verdict).count();
        assert_eq!(["upheld", "refuted", "inconclusive", "unsupported"].map(with), expected, "{story:?}: JSON");

        let document = parse_junit(&report);
        let (failures, errors, skipped) = (document.failures, document.errors, document.skipped);
        assert_eq!(
            [document.tests - failures - errors - skipped, failures, errors, skipped],
            expected,
            "{story:?}: JUnit"
        );

        let md = markdown::render(&report);
        let lines = |prefix: &str| md.lines().filter(|l| l.starts_with(prefix)).count();
        let shown = [lines("| ✓ "), lines("- ✗ "), lines("- ? "), lines("- – ")];
        assert_eq!(shown, expected, "{story:?}: Markdown");

        let table = shown_verdicts(&report);
        assert_eq!(table, expected, "{story:?}: terminal");
    }
}

/// Number of each glyph at the start of the rows of the claims' tables.
fn shown_verdicts(report: &Report) -> [usize; 4] {
    let text = shown(report, 120);
    ["  ✓  ", "  ✗  ", "  ?  ", "  –  "].map(|glyph| text.lines().filter(|l| l.starts_with(glyph)).count())
}

fn parse_junit(report: &Report) -> quick_junit::Report {
    let xml = junit::render(std::slice::from_ref(report), &[]).unwrap();
    quick_junit::Report::deserialize_from_str(&xml).unwrap()
}

#[test]
fn the_same_journal_gives_the_same_bytes() {
    for story in STORIES {
        let journal: Vec<String> = record(story).iter().map(|e| serde_json::to_string(e).unwrap()).collect();
        let events: Vec<Event> = journal.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let again = Report::with_findings(&events, &findings(story)).unwrap();
        let once = report(story);
        assert_eq!(once, again);
        assert_eq!(json::render(&once).unwrap(), json::render(&again).unwrap());
        assert_eq!(junit::render(&[once], &[]).unwrap(), junit::render(&[again], &[]).unwrap());
    }
}

/// Writes the journal of a run with these events, one a line, and returns the run's directory.
fn journal(state: &Path, run: &str, events: &str) -> PathBuf {
    let opened = |file: &str| {
        let by = format!(r#""format":1,"run":"{run}","file":"{file}","pid":1,"boot-id":"","takes-over":null"#);
        format!(r#"{{"opened":{{{by}}}}}"#)
    };
    let of_event = |event: &str| (usize::from(event.contains(r#"{"sampled":"#)), format!(r#"{{"event":{event}}}"#));
    let records = [(0, opened("undo")), (1, opened("events"))].into_iter().chain(events.lines().map(of_event));
    let mut files: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    for (number, (file, record)) in records.enumerate() {
        let line = format!("{number} {record}");
        writeln!(files[file], "{:08x} {line}", crc32c::crc32c(line.as_bytes())).unwrap();
    }
    let dir = state.join("kchaos/engine/cluster").join(run);
    std::fs::create_dir_all(&dir).unwrap();
    for (name, lines) in ["undo.jsonl", "events.jsonl"].into_iter().zip(files) {
        std::fs::write(dir.join(name), lines).unwrap();
    }
    dir
}

#[test]
fn the_command_that_judges_a_run_again_gives_the_same_bytes_each_time() {
    for run in ["services-crash.controller-manager", "volume-lost.emptied"] {
        let recorded = std::fs::read_to_string(format!("tests/recordings/{run}.jsonl")).unwrap();
        // Without the record of its end, a run may have left its fault in.
        let end = recorded.trim_end().rfind('\n').unwrap();
        for (recorded, exit) in [(&recorded[..], Exit::Upheld), (&recorded[..end], Exit::Dirty)] {
            let events: Vec<Event> = recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let report = Report::of(&events).unwrap();
            assert_eq!(report.exit(false), exit, "{run}");
            let state = tempfile::tempdir().unwrap();
            let dir = journal(state.path(), run, recorded);
            for which in [run, dir.to_str().unwrap(), "latest"] {
                let mut judge = Command::new(env!("CARGO_BIN_EXE_kchaos"));
                judge.args(["judge", which, "-o", "json"]).env("XDG_STATE_HOME", state.path());
                let output = judge.output().unwrap();
                let same = output.stdout == json::render(&report).unwrap().into_bytes();
                assert!(same, "{which}: {}{}", shown(&report, 100), String::from_utf8_lossy(&output.stderr));
                assert_eq!(output.status.code(), Some(i32::from(exit as u8)), "{which}");
            }
        }
    }
}

#[test]
fn the_gravest_thing_decides_the_exit_code() {
    assert_eq!(report(Story::Upheld).exit(false), Exit::Upheld);
    assert_eq!(report(Story::Refuted).exit(false), Exit::Refuted);
    assert_eq!(report(Story::NoEffect).exit(false), Exit::Inconclusive);
    assert_eq!(report(Story::Dirty).exit(false), Exit::Dirty, "dirty wins over refuted");

    let mut mixed = report(Story::Refuted);
    mixed.claims[0].verdict = Verdict::Inconclusive;
    assert_eq!(mixed.exit(true), Exit::Refuted, "refuted wins over inconclusive");

    let mut none = report(Story::Upheld);
    none.claims.clear();
    assert_eq!(none.exit(true), Exit::NothingSelected);
}

#[test]
fn unsupported_is_a_pass_only_where_allowed_and_only_beside_something_upheld() {
    let mut report = report(Story::Upheld);
    report.claims[0].verdict = Verdict::Unsupported;
    assert_eq!(report.exit(false), Exit::Inconclusive);
    assert_eq!(report.exit(true), Exit::Upheld);
    for claim in &mut report.claims {
        claim.verdict = Verdict::Unsupported;
    }
    assert_eq!(report.exit(true), Exit::Inconclusive, "nothing at all was tested");
}

#[test]
fn a_signal_is_130_and_any_other_interruption_what_its_claims_come_to() {
    let mut signal = report(Story::Refuted);
    signal.interrupted = Some(Interruption { cause: Cause::Signal("SIGINT".into()), why: "the user".into() });
    assert_eq!(signal.exit(false), Exit::Interrupted);
    for cause in [Cause::LeaseLost, Cause::Journal, Cause::PutBack, Cause::Error] {
        let mut other = report(Story::NoEffect);
        // The cause counts, not its words.
        other.interrupted = Some(Interruption { cause, why: "SIGINT".into() });
        assert_eq!(other.exit(false), Exit::Inconclusive);
    }
}

/// A process that was stopped, or whose engine was, has not been kept busy by others.
#[test]
fn what_cut_or_disturbed_a_run_is_named_instead_of_a_busy_machine() {
    let mut busy = report(Story::NoEffect);
    busy.time.contended = Some(Seconds(Duration::from_secs(9)));
    let why = |report: &Report| shown(report, 400).lines().nth(1).unwrap().trim().to_owned();
    assert!(why(&busy).starts_with("The machine was too busy (the cluster may be 9.0 s behind"), "{}", why(&busy));
    busy.disturbances.push("demo-worker was removed".into());
    assert!(why(&busy).starts_with("The run was disturbed (demo-worker was removed). "), "{}", why(&busy));
    busy.interrupted = Some(Interruption { cause: Cause::PutBack, why: "no sign of life".into() });
    assert!(why(&busy).starts_with("The run was cut short (no sign of life). "), "{}", why(&busy));
}

#[test]
fn a_journal_without_an_end_is_dirty_once_something_was_injected() {
    let events = record(Story::Upheld);
    let cut_before = |stop: fn(&EventKind) -> bool| {
        let to = events.iter().position(|e| stop(&e.kind)).unwrap();
        Report::with_findings(&events[..to], &findings(Story::NoEffect)).unwrap().outcome()
    };
    assert_eq!(cut_before(|k| matches!(k, EventKind::Injecting { .. })), Outcome::Inconclusive);
    assert_eq!(cut_before(|k| matches!(k, EventKind::Injected { .. })), Outcome::Dirty);
    assert_eq!(cut_before(|k| matches!(k, EventKind::Finished(_))), Outcome::Dirty);
}

#[test]
fn a_clean_end_is_not_believed_against_residue_or_a_failed_undo() {
    let mut events = record(Story::Dirty);
    for event in &mut events {
        if let EventKind::Finished(end) = &mut event.kind {
            *end = End::Clean;
        }
    }
    let claims = findings(Story::Upheld);
    assert_eq!(Report::with_findings(&events, &claims).unwrap().outcome(), Outcome::Dirty);
    events.retain(|e| !matches!(e.kind, EventKind::Audited { .. }));
    assert_eq!(Report::with_findings(&events, &claims).unwrap().outcome(), Outcome::Dirty);
}

#[test]
fn what_is_no_run_is_refused() {
    assert!(Report::of(&[]).is_err());
    let mut foreign = findings(Story::Upheld);
    foreign[0].claim = "of-another-run".into();
    assert!(Report::with_findings(&record(Story::Upheld), &foreign).is_err());
}

// ---- what is measured

#[test]
fn outages_enclose_the_truth() {
    let report = report(Story::Upheld);
    let of = |probe: &str| report.outages.iter().find(|o| o.probe == probe).unwrap();
    // As scripted: from 10.050 s the dead pod swallows every other request for 13.9 s; the bare pod never answers
    // again.
    let web = of("requests to web").failing.as_ref().unwrap();
    let truth = std::time::Duration::from_millis(13_900);
    let at_most = web.took.at_most.unwrap();
    assert!(web.took.at_least.0 <= truth && truth <= at_most.0, "{web:?}");
    assert!(at_most.0 - web.took.at_least.0 <= std::time::Duration::from_millis(2 * (500 + 500)), "{web:?}");
    assert!(of("requests to web").longest.as_ref().unwrap().took.at_most.unwrap().0.as_millis() <= 510);

    let lone = of("requests to lone");
    assert_eq!(lone.failed, lone.samples);
    let down = lone.failing.as_ref().unwrap();
    assert!(down.to.is_none() && down.took.at_most.is_none(), "{down:?}");
}

#[test]
fn time_is_split_without_counting_anything_twice() {
    let time = report(Story::Upheld).time;
    assert_eq!(time.total.0, time.waiting.0 + time.harness.0);
    // 3.5 s for workloads, 5.09 s of baseline, the fault from 10.15 s to its last proof at 40.07 s, and recovery from
    // 41.31 s to 60.4 s.
    assert_eq!(time.waiting.0.as_millis(), 3_500 + 5_090 + 29_950 + 19_090);
}

/// The events of a run in which the store is lost and restored from a snapshot, with what users' writes came to, and
/// how many were lost.
fn restored(writes: &[(u64, Seen)], lost: &[(u64, u64)]) -> Vec<Event> {
    let mut events = record(Story::Upheld);
    let EventKind::Started { plan, .. } = &mut events[0].kind else { panic!("no start") };
    plan.remedy = Some(PlannedRemedy { does: Remedy::RestoreSnapshot, watched_for: plan.fault_for });
    let [write, ledger] = [ProbeSpec::Api(ApiVerb::Write), ProbeSpec::Writes(WriteState::Lost)].map(|spec| {
        plan.probes.push(PlannedProbe { spec, ..plan.probes[0].clone() });
        plan.probes.len() - 1
    });
    let event = |ms: u64, kind| Event { at: synthetic::at(ms), kind };
    events.push(event(9_805, EventKind::Saved { fault: 0, what: "a snapshot".into() }));
    events.push(event(30_000, EventKind::Remedying { fault: 0 }));
    events.push(event(34_000, EventKind::Remedied { fault: 0, error: None }));
    let sampled = |probe, slot: usize, ms: u64, outcome| {
        let (due, end) = (synthetic::at(ms), synthetic::at(ms + 40));
        EventKind::Sampled(Sample { probe, series: String::new(), slot: slot as u64, due, start: due, end, outcome })
    };
    for (slot, (ms, outcome)) in writes.iter().enumerate() {
        events.push(event(ms + 50, sampled(write, slot, *ms, outcome.clone())));
    }
    for (slot, (ms, count)) in lost.iter().enumerate() {
        events.push(event(ms + 50, sampled(ledger, slot, *ms, Seen::Saw(Value::Count(*count)))));
    }
    events
}

#[test]
fn a_recovery_is_timed_from_the_remedy_to_the_first_write_after_the_last_that_failed() {
    let (refused, ok) = (Seen::Failed(Failure::Refused), Seen::Saw(Value::Text("written".into())));
    let seconds = |a: AtLeast| (a.at_least.0.as_secs_f64(), a.at_most.unwrap().0.as_secs_f64());
    let recovery = |events: &[Event]| Report::of(events).unwrap().recovery.unwrap();
    let writes = [
        (9_000, ok.clone()),
        (29_900, refused.clone()),
        (35_000, ok.clone()),
        (35_500, refused.clone()),
        (36_000, ok.clone()),
    ];
    // The undo, which is at 40.3 s, makes others of lost writes.
    let whole = recovery(&restored(&writes, &[(8_000, 0), (36_000, 12), (36_500, 11), (45_000, 0)]));
    assert_eq!(whole.time.map(seconds), Some((5.5, 6.04)));
    assert_eq!(whole.writes_lost, Some(11));
    // Taken between 9.8 and 9.805 s. It goes into the store until that is replaced.
    assert_eq!(whole.point.map(seconds), Some((20.195, 20.2)));
    // What was not seen is not made up.
    let late = [(29_900, refused.clone()), (35_500, refused.clone()), (45_000, ok.clone())];
    let nothing = recovery(&restored(&late, &[(8_000, 3), (45_000, 4)]));
    assert_eq!((nothing.time, nothing.writes_lost), (None, None));
    let mut failed = restored(&writes, &[(36_000, 12)]);
    failed
        .push(Event { at: synthetic::at(34_500), kind: EventKind::Remedied { fault: 0, error: Some("full".into()) } });
    failed.retain(|event| !matches!(event.kind, EventKind::Remedied { error: None, .. }));
    assert_eq!((recovery(&failed).time, recovery(&failed).writes_lost), (None, None));
    let told = shown(&Report::of(&restored(&writes, &[(36_000, 0)])).unwrap(), 120);
    let point = "recovery point (RPO): the store had taken writes for 20.1–20.2 s since the snapshot";
    for line in ["writes are acknowledged 5.5–6.1 s after", point, "no acknowledged write is lost"] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    assert_eq!(report(Story::Upheld).recovery, None);
}

#[test]
fn what_the_undo_makes_of_writes_counts_only_if_it_puts_no_other_store_back() {
    let ok = Seen::Saw(Value::Text("written".into()));
    let writes = [(9_000, ok.clone()), (29_900, Seen::Failed(Failure::Refused)), (36_000, ok.clone()), (45_000, ok)];
    let mut events = restored(&writes, &[(8_000, 0), (36_500, 1), (46_000, 2)]);
    let counted = |events: &[Event]| Report::of(events).unwrap().writes.map(|of| (of.lost, of.acknowledged));
    assert_eq!(counted(&events), Some((1, 2)));
    let EventKind::Started { plan, .. } = &mut events[0].kind else { panic!("no start") };
    plan.remedy = None;
    assert_eq!(counted(&events), Some((2, 3)));
    assert!(shown(&Report::of(&events).unwrap(), 120).contains("2 of 3 acknowledged writes lost"));
    // Nobody looked for them.
    assert_eq!(counted(&restored(&writes, &[])), None);
    assert_eq!(report(Story::Upheld).writes, None);
}

#[test]
fn a_store_that_is_lost_takes_no_more_writes_unless_its_api_server_goes_on_without_noticing() {
    let point = |left, api_server| {
        let mut events = restored(&[], &[]);
        let EventKind::Started { plan, .. } = &mut events[0].kind else { panic!("no start") };
        let node = plan.targets.keys().next().cloned().unwrap();
        plan.faults[0].spec = FaultSpec::StoreLoss { node, left, api_server };
        let point = Report::of(&events).unwrap().recovery.unwrap().point.unwrap();
        (point.at_least.0.as_millis(), point.at_most.unwrap().0.as_millis())
    };
    // The fault went in at 9.9 s.
    assert_eq!(point(StoreLeft::Nothing, ApiServerOfStore::Restarted), (95, 100));
    assert_eq!(point(StoreLeft::Garbage, ApiServerOfStore::Kept), (95, 100));
    let until_the_remedy = Report::of(&restored(&[], &[])).unwrap().recovery.unwrap().point.unwrap();
    let kept = point(StoreLeft::Nothing, ApiServerOfStore::Kept);
    assert_eq!(kept, (until_the_remedy.at_least.0.as_millis(), until_the_remedy.at_most.unwrap().0.as_millis()));
    assert!(kept.0 > 100, "{kept:?}");
}

#[test]
fn what_a_run_has_left_may_be_put_back_later_and_its_claims_stay_as_they_were() {
    let mut events = record(Story::Dirty);
    let before = Report::of(&events).unwrap();
    assert_eq!(before.outcome(), Outcome::Dirty);
    let at = events.last().unwrap().at;
    for kind in [EventKind::Audited { residue: Vec::new() }, EventKind::Finished(End::Clean)] {
        events.push(Event { at, kind });
    }
    let after = Report::of(&events).unwrap();
    assert_eq!((after.cleanup.end, after.claims), (Some(End::Clean), before.claims));
}

#[test]
fn what_others_took_of_the_machine_is_told_from_a_second_on() {
    let beside = |ms: u64| {
        let mut events = record(Story::Upheld);
        let (all, idle) = (Duration::from_millis(2 * ms), Duration::ZERO);
        let (from, to) = (synthetic::at(20_000), synthetic::at(20_000 + ms));
        // Twice, since a record may come twice.
        for _ in 0..2 {
            let usage = ProcessorUse { from, to, all, idle, nodes: all / 2, may_lack_leader: Duration::ZERO };
            events.push(Event { at: to, kind: EventKind::Processors(usage) });
        }
        let report = Report::of(&events).unwrap();
        (report.time.contended.unwrap().0, shown(&report, 120).contains("its processors were busy elsewhere"))
    };
    assert_eq!(beside(1_900), (Duration::from_millis(950), false));
    assert_eq!(beside(2_000), (Duration::from_millis(1_000), true));
    assert_eq!(report(Story::Upheld).time.contended, None);
}

#[test]
fn a_fault_is_proven_from_its_first_proof_to_its_last() {
    let fault = &report(Story::Upheld).faults[0];
    assert_eq!(fault.proven_for.unwrap().0.as_millis(), 40_070 - 10_145);
    assert!(fault.proofs.iter().all(|p| p.as_needed) && fault.undo.iter().all(|u| u.done));
    assert_eq!(report(Story::NoEffect).faults[0].proven_for, None);
    let dirty = &report(Story::Dirty).faults[0];
    assert_eq!(dirty.undo.iter().map(|u| u.done).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn whose_kubelets_hang_with_a_broken_api_server_is_told() {
    let mut ran = report(Story::Upheld);
    assert!(ran.faults[0].kubelets.is_empty() && !shown(&ran, 120).contains("kubelets"));
    ran.faults[0].kubelets = vec!["node-a".into(), "node-b".into()];
    let told = format!("of node-a, node-b report to the API server of {}", ran.faults[0].node);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for page in [shown(&ran, 120), markdown::render(&ran)] {
        assert!(words(&page).contains(&told), "{page}");
    }
}

// ---- CI

#[test]
fn junit_skips_runs_that_were_not_made() {
    let xml = junit::render(&[report(Story::Upheld)], &["partition/lossy: no xt_statistic".into()]).unwrap();
    let document = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    let cases = &document.test_suites[1].test_cases;
    assert_eq!((document.test_suites[1].name.as_str(), cases.len()), ("not run", 1));
    let TestCaseStatus::Skipped { message, .. } = &cases[0].status else { panic!("{xml}") };
    assert_eq!(message.as_ref().unwrap().as_str(), "partition/lossy: no xt_statistic");
}

#[test]
fn junit_names_are_unique_and_do_not_change_from_run_to_run() {
    let one = report(Story::Upheld);
    let mut other = report(Story::Refuted);
    other.run.variant = "pause".into();
    (other.run.seed, other.run.started) = (8, "2027-01-01T00:00:00Z".into());
    let twice = one.clone();
    let xml = junit::render(&[one.clone(), other, twice], &[]).unwrap();
    let document = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert_eq!(document.test_suites.len(), 1, "one suite for a scenario");
    assert_eq!(document.test_suites[0].name.as_str(), "node-shutdown");
    let cases = &document.test_suites[0].test_cases;
    let keys: BTreeSet<_> = cases.iter().map(|c| (c.classname.clone(), c.name.clone())).collect();
    assert_eq!(keys.len(), 15);
    for case in cases {
        let class = case.classname.as_ref().unwrap().as_str();
        assert_eq!(class.matches('.').count(), 2, "{class}");
        assert!(!case.name.as_str().contains("2027"));
    }
    assert_eq!(cases[2].name.as_str(), "m.replicas/node service-recovers [power-off]");
    assert_eq!(cases[2].classname.as_ref().unwrap().as_str(), "kchaos.node-shutdown.treatment");
}

#[test]
fn junit_text_begins_with_the_message_and_goes_on_with_expected_observed_evidence_and_place() {
    let document = parse_junit(&report(Story::Refuted));
    let case = &document.test_suites[0].test_cases[2];
    let TestCaseStatus::NonSuccess { kind, message, description, ty, .. } = &case.status else { panic!("{case:?}") };
    assert_eq!(*kind, NonSuccessKind::Failure);
    assert_eq!(ty.as_ref().unwrap().as_str(), "counterexample");
    let text: Vec<&str> = description.as_ref().unwrap().as_str().lines().collect();
    assert_eq!(text[0], message.as_ref().unwrap().as_str());
    let begins: Vec<&str> = text[1..].iter().map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(begins, ["expected", "observed", "setting", "setting", "setting", "evidence", "evidence", "stated in"]);
    assert_eq!(text.last().unwrap(), &"stated in: scenarios/node-shutdown.yaml:110");
}

#[test]
fn annotations_point_at_the_claim_and_stop_at_githubs_limit() {
    assert_eq!(markdown::annotations(&report(Story::Upheld)), "");
    assert_data_eq!(markdown::annotations(&report(Story::Refuted)), snapbox::file!["reports/annotations.txt"].raw());
    let mut many = report(Story::Refuted);
    many.claims = vec![many.claims[2].clone(); 30];
    let text = markdown::annotations(&many);
    assert_eq!(text.lines().count(), 10);
    assert!(text.ends_with("::error title=kchaos::and 21 more refuted\n"), "{text}");
}

#[test]
fn a_summary_never_grows_beyond_githubs_limit() {
    let mut report = report(Story::Refuted);
    report.claims[2].because = "a long story ".repeat(100);
    report.claims = report.claims.iter().cycle().take(10_000).cloned().collect();
    report.outages = report.outages.iter().cycle().take(10_000).cloned().collect();
    let md = markdown::render(&report);
    assert!(md.len() < 1 << 20, "{}", md.len());
    assert!(md.contains("more: see report.json"));
    assert!(md.contains("10000 claims: 8000 upheld, 2000 refuted"));
}

#[test]
fn reports_are_written_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    report::write_all(&report(Story::Refuted), dir.path()).unwrap();
    let names: BTreeSet<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(
        names.iter().map(|n| n.to_str().unwrap()).collect::<Vec<_>>(),
        ["report.json", "report.md", "report.xml"]
    );

    let blocked = tempfile::tempdir().unwrap();
    std::fs::create_dir(blocked.path().join("report.json")).unwrap();
    let error = report::write_all(&report(Story::Refuted), blocked.path()).unwrap_err();
    assert!(error.to_string().contains("report.json"), "{error}");
    assert!(!blocked.path().join("report.json.partial").exists());
}

// ---- foreign text

/// A report with `evil` wherever foreign text can be.
fn poisoned(evil: &str) -> Report {
    let mut report = report(Story::Dirty);
    let e = || evil.to_owned();
    report.run.summary = e();
    report.run.source = e();
    report.run.scenario = e();
    report.run.variant = e();
    report.run.command = e();
    report.run.version = e();
    report.cluster.name = e();
    report.cluster.kubernetes = e();
    report.disturbances = vec![e()];
    report.interrupted = Some(Interruption { cause: Cause::Signal(e()), why: e() });
    for (n, claim) in report.claims.iter_mut().enumerate() {
        for field in [
            &mut claim.claim,
            &mut claim.sentence,
            &mut claim.says,
            &mut claim.because,
            &mut claim.expected,
            &mut claim.observed,
            &mut claim.probe,
            claim.page.get_or_insert_default(),
            &mut claim.file,
            &mut claim.window.name,
            &mut claim.window.formula,
        ] {
            *field = e();
        }
        claim.window.bounded_by = vec![e(), e()];
        claim.evidence = vec![synthetic::evidence(evil)];
        claim.verdict = [Verdict::Upheld, Verdict::Refuted, Verdict::Inconclusive, Verdict::Unsupported][n % 4];
        claim.reason = Reason::Counterexample;
    }
    for fault in &mut report.faults {
        (fault.what, fault.node, fault.error) = (e(), e(), Some(e()));
        for witness in fault.proofs.iter_mut().flat_map(|p| &mut p.witnesses) {
            (witness.what, witness.seen) = (e(), e());
        }
        for step in &mut fault.undo {
            (step.by_hand, step.error) = (e(), Some(e()));
        }
    }
    for outage in &mut report.outages {
        (outage.probe, outage.series) = (e(), e());
    }
    for difference in report.cleanup.residue.iter_mut().flatten() {
        (difference.item, difference.before, difference.now) = (e(), Some(e()), Some(e()));
    }
    report
}

/// Pieces of known attacks on terminals, CI servers, XML and Markdown, and arbitrary text.
fn evil() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\u{1b}]52;c;aGk=\u{7}".to_owned()),
        Just("\u{1b}[2J\u{1b}[A".to_owned()),
        Just("\u{9b}31m".to_owned()),
        Just("\r\n::error file=x::boo".to_owned()),
        Just("\n::set-output name=a::b".to_owned()),
        Just(" ##[group]x".to_owned()),
        Just("\u{202e}\u{2066}\u{feff}\u{ffff}".to_owned()),
        Just("]]>".to_owned()),
        Just("</failure><script>".to_owned()),
        Just("<img src=x onerror=y>".to_owned()),
        Just("|a|`b`|\\|".to_owned()),
        Just("[x](javascript:y)![z](http://w)".to_owned()),
        Just("```\n# heading\n- item".to_owned()),
        Just("&amp;&#124;\0\u{8}".to_owned()),
        "[ -~]{1,20}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

/// Terminal output without its styles. Fails on anything else that begins with ESC.
fn without_styles(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        let style = &rest[at + 2..];
        let end = style.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(style.len());
        rest = if style[end..].starts_with('m') {
            &style[end + 1..]
        } else {
            panic!("an escape that is no style: {style:?}")
        };
    }
    out + rest
}

fn check_lines(text: &str) -> Result<(), TestCaseError> {
    let text = without_styles(text);
    for line in text.lines() {
        let obeyed = line.chars().find(|c| escape::safe(c.encode_utf8(&mut [0; 4])) != c.to_string());
        prop_assert!(obeyed.is_none(), "{obeyed:?} in {line:?}");
        let command = line
            .trim_start()
            .strip_prefix("::")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
        prop_assert!(!command && !line.contains("##["), "a command of a CI runner: {line:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_foreign_is_obeyed_by_a_terminal_or_a_ci_log(evil in evil(), width in 60u16..130) {
        check_lines(&terminal::render(&poisoned(&evil), Some(Path::new(&evil)), width))?;
        let mut plan = plan();
        (plan.scenario, plan.summary, plan.facts.cluster) = (evil.clone(), evil.clone(), evil.clone());
        for claim in &mut plan.claims {
            (claim.says, claim.window.name, claim.unsupported) = (evil.clone(), evil.clone(), Some(evil.clone()));
        }
        check_lines(&terminal::dry_run(&plan, None, width))?;
    }

    #[test]
    fn nothing_foreign_is_obeyed_in_the_live_display(evil in evil()) {
        let mut events = record(Story::Dirty);
        for event in &mut events {
            match &mut event.kind {
                EventKind::Started { plan, .. } => (plan.scenario, plan.facts.cluster) = (evil.clone(), evil.clone()),
                EventKind::Injected { error, .. } => *error = Some(evil.clone()),
                EventKind::Witnessed(proof) => proof.witnesses.iter_mut().for_each(|w| (w.what, w.seen, w.effect) = (evil.clone(), evil.clone(), None)),
                EventKind::UndoFailed { error, by_hand, .. } => (*error, *by_hand) = (evil.clone(), evil.clone()),
                EventKind::Audited { residue } => residue.iter_mut().for_each(|d| (d.item, d.now) = (evil.clone(), Some(evil.clone()))),
                EventKind::Sampled(sample) if sample.probe == 1 && sample.slot > 40 => {
                    sample.outcome = kchaos::sample::Outcome::Saw(kchaos::sample::Value::Text(evil.clone()));
                }
                _ => {}
            }
        }
        let lines = live_lines(&events);
        prop_assert!(without_styles(&lines).contains(escape::safe(&evil).chars().take(20).collect::<String>().as_str()));
        check_lines(&lines)?;
    }

    #[test]
    fn xml_parses_back_to_the_same_text(evil in evil()) {
        let report = poisoned(&evil);
        let xml = junit::render(std::slice::from_ref(&report), &[]).unwrap();
        prop_assert!(!xml.contains(|c: char| c.is_control() && c != '\n'));
        let document = quick_junit::Report::deserialize_from_str(&xml).unwrap();
        let cases = &document.test_suites[0].test_cases;
        prop_assert_eq!(cases.len(), 5);
        let TestCaseStatus::NonSuccess { description, .. } = &cases[1].status else { panic!("{:?}", cases[1]) };
        let text = description.as_ref().unwrap().as_str();
        prop_assert!(text.contains(&*escape::safe(&evil)), "{text:?}");
    }

    #[test]
    fn json_parses_back_to_the_very_text(evil in evil()) {
        let json = json::render(&poisoned(&evil)).unwrap();
        for line in json.lines() {
            prop_assert!(!line.contains(|c: char| c.is_control()) && !line.contains('\u{202e}'), "{line:?}");
        }
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(value["claims"][0]["says"].as_str(), Some(evil.as_str()));
    }

    #[test]
    fn markdown_is_read_as_text_with_its_table_whole(evil in evil()) {
        use pulldown_cmark::{Event as Md, Options, Parser, Tag, TagEnd};
        let md = markdown::render(&poisoned(&evil));
        let (mut cells, mut in_table, mut read) = (0, false, String::new());
        for event in Parser::new_ext(&md, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH) {
            match event {
                Md::Html(html) | Md::InlineHtml(html) => {
                    let html = html.trim();
                    let ours = html.is_empty() || html.starts_with("<details") || html.starts_with("</details");
                    prop_assert!(ours, "foreign HTML: {html:?}");
                }
                Md::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::Strikethrough) => prop_assert!(false, "foreign markup in {md}"),
                Md::Start(Tag::TableCell) => cells += 1,
                Md::Start(Tag::Table(_)) => in_table = true,
                Md::End(TagEnd::Table) => in_table = false,
                Md::Text(text) if in_table => read.push_str(&text),
                _ => {}
            }
        }
        // Four headings, and four cells for each of the two upheld claims.
        prop_assert_eq!(cells, 4 + 2 * 4);
        // In each of the two rows it appears as page id, claim, expected and observed.
        let shown = escape::safe(&evil);
        prop_assert!(shown.trim().is_empty() || read.matches(shown.trim()).count() >= 8, "{read}");
    }

    /// The author of a node's name or of a claim can't shape the page: foreign text adds no line and no cell to it.
    #[test]
    fn the_page_has_the_lines_that_it_has(evil in evil()) {
        let shape = |report: &Report| {
            let page = several_runs::markdown(std::slice::from_ref(report), std::slice::from_ref(&report.run.summary));
            let plain = page.replace("\\|", "");
            page.lines().zip(plain.lines()).map(|(_, l)| if l.starts_with('|') { l.matches('|').count() } else { 0 }).collect::<Vec<_>>()
        };
        prop_assert_eq!(shape(&poisoned(&evil)), shape(&poisoned("mild")));
    }

    #[test]
    fn annotations_are_one_command_a_line(evil in evil()) {
        let text = markdown::annotations(&poisoned(&evil));
        prop_assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let command = line.strip_prefix("::error ").or(line.strip_prefix("::warning "));
            // Read as the runner does: properties up to the next `::`, then the message.
            let (properties, _) = command.and_then(|c| c.split_once("::")).unwrap();
            for property in properties.split(',') {
                let (name, _) = property.split_once('=').unwrap();
                prop_assert!(["file", "line", "title"].contains(&name), "{}", line);
            }
            prop_assert!(properties.contains("title="), "{}", line);
        }
    }
}

#[test]
fn every_field_of_the_json_is_documented() {
    fn names(value: &serde_json::Value, into: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, field) in fields {
                    // The names of settings are data.
                    if name == "settings" {
                        fields[name].as_object().unwrap().values().for_each(|v| names(v, into));
                    } else {
                        names(field, into);
                    }
                    into.insert(name.clone());
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| names(item, into)),
            _ => {}
        }
    }
    let documentation = std::fs::read_to_string("docs/report.md").unwrap();
    let mut fields = BTreeSet::new();
    for story in STORIES {
        names(&serde_json::from_str(&json::render(&report(story)).unwrap()).unwrap(), &mut fields);
    }
    assert!(fields.len() > 60, "{fields:?}");
    for field in fields {
        let documented =
            [format!("`{field}`"), format!("`{field}[]`")].iter().any(|f| documentation.contains(f.as_str()));
        assert!(documented, "`{field}` is not in docs/report.md");
    }
}
