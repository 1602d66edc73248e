//! The journal and its foundations (run directory, lock), without a cluster.

#[path = "fixture/plan.rs"]
mod plan;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kchaos::census::{Census, Difference};
use kchaos::clock::{Mono, Wall};
use kchaos::error::Exit;
use kchaos::event::{Cause, End, Event, EventKind, Interruption, Phase};
use kchaos::fence::{Fenced, Lease};
use kchaos::journal::{self, AppendError, Journal, Recorded, Standing};
use kchaos::lock::Lock;
use kchaos::rollback::{self, Selection};
use kchaos::run_dir::{RunDir, StateDir};
use kchaos::sample::{Outcome, Sample, Value};
use kchaos::undo::Undo;
use proptest::prelude::*;
use tempfile::TempDir;

const ENGINE: &str = "ENGI:NE00";
const CLUSTER: &str = "test";

struct Place {
    dir: TempDir,
    state: StateDir,
}

fn place() -> Place {
    // Not in the system's temporary directory: that may be in memory, where kchaos refuses to keep journals.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = StateDir::at(dir.path().join("kchaos"));
    Place { dir, state }
}

impl Place {
    fn lock(&self) -> Lock {
        Lock::take(&self.state, ENGINE, CLUSTER).unwrap()
    }

    fn run(&self) -> RunDir {
        self.lock().begin("node-shutdown/pause").unwrap()
    }
}

/// A lease, and the guardian's end of it.
fn lease() -> (Arc<Lease>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Arc::new(Lease::over(ours).unwrap()), theirs)
}

fn started(faults: usize) -> EventKind {
    let nodes: Vec<_> = ('a'..).take(faults).map(|c| plan::node(&format!("{CLUSTER}-{c}"), c)).collect();
    let plan = plan::plan(ENGINE, CLUSTER, &nodes);
    EventKind::Started { wall: Wall(0), boot_id: "boot".into(), version: "0".into(), plan: Box::new(plan) }
}

fn surveyed() -> EventKind {
    EventKind::Surveyed { census: Census(BTreeMap::from([("container/test-a/state".into(), "running".into())])) }
}

fn prepared(fault: usize) -> EventKind {
    let name = (b'a' + u8::try_from(fault).unwrap()) as char;
    EventKind::Prepared { fault, undo: vec![Undo::Unpause { node: plan::node(&format!("{CLUSTER}-{name}"), name) }] }
}

fn sampled(slot: u64) -> EventKind {
    let (due, start, end) = (Mono(slot), Mono(slot), Mono(slot));
    let outcome = Outcome::Saw(Value::Count(slot));
    EventKind::Sampled(Sample { probe: 0, series: String::new(), slot, due, start, end, outcome })
}

fn audited(residue: Vec<Difference>) -> EventKind {
    EventKind::Audited { residue }
}

fn difference() -> Difference {
    Difference { item: "container/test-a/state".into(), before: Some("running".into()), now: None }
}

/// A run of one fault from beginning to end.
fn whole_run() -> Vec<EventKind> {
    use EventKind as E;
    vec![
        started(1),
        E::Phase(Phase::Setup),
        surveyed(),
        E::Phase(Phase::Baseline),
        sampled(0),
        E::Phase(Phase::Fault),
        prepared(0),
        sampled(1),
        E::Injecting { fault: 0 },
        E::Injected { fault: 0, error: None },
        sampled(2),
        sampled(3),
        E::Phase(Phase::Undo),
        E::Undoing { fault: 0, step: 0 },
        E::Undone { fault: 0, step: 0 },
        E::Phase(Phase::Recovery),
        sampled(4),
        E::Phase(Phase::Cleanup),
        audited(vec![]),
        E::Finished(End::Clean),
    ]
}

/// Writes these events of a run, and returns them as they were recorded.
fn write(run: &RunDir, kinds: &[EventKind]) -> Vec<Event> {
    let mut journal = Journal::create(run).unwrap();
    let (lease, _guardian) = lease();
    journal.guarded_by(lease);
    kinds.iter().map(|kind| journal.append(kind.clone()).unwrap()).collect()
}

fn kinds(events: &[Event]) -> Vec<EventKind> {
    events.iter().map(|e| e.kind.clone()).collect()
}

fn files(run: &RunDir) -> [PathBuf; 2] {
    ["undo.jsonl", "events.jsonl"].map(|name| run.path().join(name))
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().split_inclusive('\n').map(str::to_owned).collect()
}

// ---- what is written is read back

fn put_back(why: &str) -> Interruption {
    Interruption { cause: Cause::PutBack, why: why.into() }
}

#[test]
fn a_run_is_read_back_in_the_order_in_which_it_happened() {
    let place = place();
    let run = place.run();
    let written = write(&run, &whole_run());
    let read = journal::read(&run).unwrap();
    assert_eq!(read.events, written);
    assert!(read.torn.is_empty());
    assert_eq!(journal::standing(&run).unwrap(), Standing::Ended(End::Clean));
    assert!(!run.path().join("ballast").exists(), "the ballast outlived the run");
}

#[test]
fn samples_are_kept_apart_from_what_an_undo_depends_on() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run());
    let [undo, events] = files(&run).map(|f| fs::read_to_string(f).unwrap());
    assert!(undo.contains("prepared") && !undo.contains("sampled"));
    assert!(events.contains("sampled") && !events.contains("prepared"));
}

#[test]
fn the_files_belong_to_the_user_alone() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..3]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(run.path()), 0o700);
    assert_eq!(mode(run.path().parent().unwrap()), 0o700);
    for entry in fs::read_dir(run.path()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

// ---- what is not as it was written

/// Checks what is read from a journal whose file was changed: nothing or less than was written, never something else.
fn assert_honest(run: &RunDir, written: &[Event], what: &str) -> Option<Recorded> {
    let read = journal::read(run).ok();
    if let Some(read) = &read {
        assert!(written.starts_with(&read.events), "{what}: read something that was not written");
    }
    read
}

/// Checks what is salvaged from such a journal: only what was written, and every readable undo.
fn assert_salvaged(run: &RunDir, written: &[Event], intact_undo: bool, what: &str) {
    let salvaged = journal::salvage(run).unwrap();
    assert!(salvaged.events.iter().all(|e| written.contains(e)), "{what}: salvaged something that was not written");
    let has_undo = salvaged.events.iter().any(|e| matches!(e.kind, EventKind::Prepared { .. }));
    assert!(has_undo || !intact_undo, "{what}: a readable undo was not salvaged");
}

#[test]
fn every_flipped_bit_is_found_and_costs_no_other_undo() {
    let place = place();
    let run = place.run();
    let written = write(&run, &whole_run());
    for file in files(&run) {
        let good = fs::read(&file).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let prepared =
            text.find("prepared").map(|at| (text[..at].rfind('\n').unwrap(), at + text[at..].find('\n').unwrap()));
        for bit in 0..good.len() * 8 {
            let byte = bit / 8;
            let mut bad = good.clone();
            bad[byte] ^= 1 << (bit % 8);
            fs::write(&file, &bad).unwrap();
            // An undo is readable only with its own line feed and that of the line before it.
            let intact = prepared.is_none_or(|(from, to)| byte < from || byte > to);
            let what = format!("bit {bit} of {}", file.display());
            if let Some(read) = assert_honest(&run, &written, &what) {
                // The last line feed is gone: such a line was never acknowledged.
                assert!(byte == good.len() - 1 && read.torn.len() == 1, "{what} was not found");
            }
            if bit % 8 == 0 {
                assert_salvaged(&run, &written, intact, &what);
            }
        }
        fs::write(&file, good).unwrap();
    }
    assert_eq!(journal::read(&run).unwrap().events, written);
}

#[test]
fn every_prefix_is_read_as_less_and_never_as_something_else() {
    let place = place();
    let run = place.run();
    let written = write(&run, &whole_run());
    for file in files(&run) {
        let good = fs::read(&file).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let undo_is_within =
            |len: usize| text.find("prepared").is_none_or(|at| text[at..].find('\n').unwrap() + at < len);
        for len in 0..good.len() {
            fs::write(&file, &good[..len]).unwrap();
            let what = format!("{} cut to {len}", file.display());
            assert_honest(&run, &written, &what);
            assert_salvaged(&run, &written, undo_is_within(len), &what);
        }
        fs::write(&file, good).unwrap();
    }
}

#[test]
fn a_run_killed_after_any_byte_is_taken_over_and_brought_to_its_end() {
    let place = place();
    // Both files as they are after each record of a run, plus every part of the next line: everything that a SIGKILL
    // can leave.
    let reference = place.run();
    let all = whole_run();
    let mut journal = Journal::create(&reference).unwrap();
    let (lease, _guardian) = lease();
    journal.guarded_by(lease);
    let snapshot = || files(&reference).map(|f| fs::read(f).unwrap());
    let mut before = snapshot();
    let mut cases = 0;
    for (index, kind) in all[..all.len() - 1].iter().enumerate() {
        journal.append(kind.clone()).unwrap();
        let after = snapshot();
        let grown = usize::from(after[1].len() > before[1].len());
        for len in (before[grown].len()..=after[grown].len()).step_by(17) {
            let dead = RunDir::at(&copy_of(&reference, &place, cases)).unwrap();
            let mut left = before.clone();
            left[grown] = after[grown][..len].to_vec();
            for (file, bytes) in files(&dead).iter().zip(&left) {
                fs::write(file, bytes).unwrap();
            }
            cases += 1;
            let done = if len == after[grown].len() { index + 1 } else { index };
            assert_eq!(
                kinds(&journal::read(&dead).unwrap().events),
                all[..done],
                "after {len} bytes of record {index}"
            );
            // Taking over costs several syncs, so only some of the cases do it.
            if done > 0 && (cases % 3 == 0 || len == after[grown].len()) {
                bring_to_its_end(&dead, &all[..done]);
            }
        }
        before = after;
    }
    assert!(cases > 100, "{cases}");
}

fn copy_of(run: &RunDir, place: &Place, number: usize) -> PathBuf {
    let path = place.dir.path().join(format!("dead-{number}"));
    fs::DirBuilder::new().create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    for file in files(run) {
        fs::copy(&file, path.join(file.file_name().unwrap())).unwrap();
    }
    path
}

fn bring_to_its_end(run: &RunDir, done: &[EventKind]) {
    let (mut journal, found) = Journal::take_over(run).unwrap();
    assert_eq!(kinds(&found.events), done);
    let mut expected = done.to_vec();
    let prepared = done.iter().any(|k| matches!(k, EventKind::Prepared { .. }));
    let mut rest = vec![EventKind::Interrupted(put_back("killed"))];
    if prepared {
        rest.extend([EventKind::Undoing { fault: 0, step: 0 }, EventKind::Undone { fault: 0, step: 0 }]);
    }
    rest.extend([audited(vec![]), EventKind::Finished(End::Clean)]);
    for kind in rest {
        journal.append(kind.clone()).unwrap();
        expected.push(kind);
    }
    assert_eq!(kinds(&journal::read(run).unwrap().events), expected);
    assert_eq!(journal::standing(run).unwrap(), Standing::Ended(End::Clean));
}

#[test]
fn a_lost_doubled_or_moved_line_is_damage() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run());
    for file in files(&run) {
        let good = lines(&file);
        for line in 0..good.len() - 1 {
            let (mut lost, mut doubled, mut moved) = (good.clone(), good.clone(), good.clone());
            lost.remove(line);
            doubled.insert(line, good[line].clone());
            moved.swap(line, line + 1);
            for (what, bad) in [("lost", lost), ("doubled", doubled), ("moved", moved)] {
                fs::write(&file, bad.concat()).unwrap();
                assert!(journal::read(&run).is_err(), "{} line {line} {what}", file.display());
            }
        }
        fs::write(&file, good.concat()).unwrap();
    }
}

#[test]
fn files_of_two_runs_are_not_one_journal() {
    let place = place();
    let (one, other) = (place.run(), place.run());
    write(&one, &whole_run());
    write(&other, &whole_run());
    let [undo, _] = files(&one);
    fs::copy(&files(&other)[0], undo).unwrap();
    let error = journal::read(&one).unwrap_err().to_string();
    assert!(error.contains("another journal"), "{error}");
}

#[test]
fn damage_to_samples_does_not_make_undo_records_doubtful_but_damage_to_those_does() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run());
    let [undo, events] = files(&run);
    let spoil = |file: &Path| {
        let mut text = lines(file);
        text[2].replace_range(0..1, "x");
        fs::write(file, text.concat()).unwrap();
    };
    spoil(&events);
    assert!(journal::read(&run).is_err());
    assert_eq!(journal::salvage(&run).unwrap().damage, Vec::<String>::new());
    spoil(&undo);
    assert!(!journal::salvage(&run).unwrap().damage.is_empty());
}

#[test]
fn a_damaged_journal_is_undone_and_ends_dirty() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..10]);
    let [undo, _] = files(&run);
    let mut text = lines(&undo);
    text[4].replace_range(0..1, "x");
    fs::write(&undo, text.concat()).unwrap();
    let (mut journal, found) = Journal::take_over(&run).unwrap();
    assert!(!found.damage.is_empty());
    journal.append(EventKind::Undoing { fault: 0, step: 0 }).unwrap();
    journal.append(EventKind::Undone { fault: 0, step: 0 }).unwrap();
    journal.append(audited(vec![])).unwrap();
    assert!(matches!(journal.append(EventKind::Finished(End::Clean)), Err(AppendError::Illegal(_))));
    journal.append(EventKind::Finished(End::Dirty)).unwrap();
    assert_eq!(journal::standing(&run).unwrap(), Standing::Ended(End::Dirty));
    assert!(journal::read(&run).is_err(), "a damaged journal was taken for evidence");
}

#[test]
fn the_record_that_a_fenced_process_still_wrote_is_left_out() {
    let place = place();
    let run = place.run();
    let mut tool = Journal::create(&run).unwrap();
    for kind in whole_run().into_iter().take(6) {
        tool.append(kind).unwrap();
    }
    // The tool is stopped between its last check of the lease and its write, and writes where the guardian has begun to
    // write.
    let (mut guardian, _) = Journal::take_over(&run).unwrap();
    guardian.append(EventKind::Interrupted(put_back("silence"))).unwrap();
    tool.append(sampled(7)).unwrap();
    guardian.append(EventKind::Finished(End::Clean)).unwrap();

    let read = journal::read(&run).unwrap();
    assert_eq!(read.late, 1);
    let mut expected = whole_run()[..6].to_vec();
    expected.extend([EventKind::Interrupted(put_back("silence")), EventKind::Finished(End::Clean)]);
    assert_eq!(kinds(&read.events), expected);
}

#[test]
fn a_journal_of_a_newer_kchaos_is_neither_judged_nor_undone() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..9]);
    let [undo, _] = files(&run);
    let rest =
        r#"99 {"event":{"at":1,"kind":{"prepared":{"fault":0,"undo":[{"restore-file":{"path":"/etc/shadow"}}]}}}}"#;
    let mut text = fs::read_to_string(&undo).unwrap();
    text.push_str(&format!("{:08x} {rest}\n", crc32c::crc32c(rest.as_bytes())));
    fs::write(&undo, text).unwrap();
    for error in [journal::read(&run).unwrap_err(), journal::salvage(&run).unwrap_err()] {
        assert!(error.to_string().contains("another version"), "{error}");
    }
}

#[test]
fn a_journal_of_another_kchaos_stands_in_nobodys_way_once_its_run_ended_clean() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run());
    let [undo, _] = files(&run);
    let text = fs::read_to_string(&undo).unwrap();
    let foreign = |text: &str| {
        let rest = r#"2 {"event":{"at":1,"kind":{"started":{"plan":"of another shape"}}}}"#;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1] = format!("{:08x} {rest}", crc32c::crc32c(rest.as_bytes()));
        lines.join("\n") + "\n"
    };
    fs::write(&undo, foreign(&text)).unwrap();
    assert_eq!(journal::standing(&run).unwrap(), Standing::Ended(End::Clean));
    // With one line less, the run may have left something behind.
    let unfinished = &text[..text.trim_end().rfind('\n').unwrap() + 1];
    fs::write(&undo, foreign(unfinished)).unwrap();
    assert!(journal::standing(&run).unwrap_err().to_string().contains("another version"));
}

#[test]
fn an_undo_of_a_container_that_is_none_of_the_plans_nodes_is_not_acted_upon() {
    let hostile = [
        Undo::Unpause { node: plan::node("test-a", 'f') },
        Undo::Unpause { node: plan::node("other", 'a') },
        Undo::Start {
            node: plan::node("test-a", 'a'),
            addresses: vec![("kind".into(), "10.0.0.1 --privileged".into())],
        },
        Undo::Start { node: plan::node("test-a", 'a'), addresses: vec![("--rm".into(), "10.0.0.1".into())] },
    ];
    for undo in hostile {
        let place = place();
        let run = place.run();
        let what = format!("{undo:?}");
        let mut kinds = whole_run()[..6].to_vec();
        kinds.push(EventKind::Prepared { fault: 0, undo: vec![undo] });
        write(&run, &kinds);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let selected = Selection::Run(run.id().to_owned());
        let refused = runtime.block_on(rollback::rollback(&place.state, &selected, &|_: &str| {}));
        assert!(refused.unwrap_err().to_string().contains("refusing to act upon its journal"), "{what}");
        assert_eq!(kinds.len(), journal::read(&run).unwrap().events.len(), "{what}");
    }
}

// ---- what may follow what

#[test]
fn illegal_events_are_refused_and_leave_no_trace() {
    use EventKind as E;
    let all = whole_run();
    let failed = E::UndoFailed { fault: 0, step: 0, error: "e".into(), by_hand: "b".into() };
    let before = |kind: &EventKind| all.iter().position(|k| k == kind).unwrap();
    let injecting = E::Injecting { fault: 0 };
    let cases: Vec<(&str, Vec<EventKind>, EventKind)> = vec![
        ("before the start", vec![], E::Phase(Phase::Setup)),
        ("a second start", all[..2].to_vec(), started(1)),
        ("the same phase again", all[..2].to_vec(), E::Phase(Phase::Setup)),
        ("a phase backwards", all[..6].to_vec(), E::Phase(Phase::Baseline)),
        ("an undo before the survey", all[..2].to_vec(), prepared(0)),
        ("an undo for a fault that is not planned", all[..6].to_vec(), prepared(1)),
        ("a fault without an undo", all[..6].to_vec(), E::Prepared { fault: 0, undo: vec![] }),
        ("a fault prepared twice", all[..7].to_vec(), prepared(0)),
        ("a fault that is not prepared", all[..6].to_vec(), injecting.clone()),
        ("a fault in the baseline", [&all[..4], &[prepared(0)]].concat(), injecting.clone()),
        ("a fault injected twice", all[..10].to_vec(), injecting.clone()),
        ("a fault once its undo began", [&all[..8], &[all[13].clone()]].concat(), injecting.clone()),
        ("a fault after an interruption", [&all[..8], &[E::Interrupted(put_back("w"))]].concat(), injecting),
        ("a preparation after an interruption", [&all[..6], &[E::Interrupted(put_back("w"))]].concat(), prepared(0)),
        ("an injection that came back without having begun", all[..7].to_vec(), E::Injected { fault: 0, error: None }),
        ("something saved once the fault is in", all[..10].to_vec(), E::Saved { fault: 0, what: "w".into() }),
        (
            "something saved for a fault that is not prepared",
            all[..6].to_vec(),
            E::Saved { fault: 0, what: "w".into() },
        ),
        ("a remedy in the fault phase", all[..12].to_vec(), E::Remedying { fault: 0 }),
        ("a remedy of what is not in", [&all[..8], &[E::Phase(Phase::Remedy)]].concat(), E::Remedying { fault: 0 }),
        (
            "a remedy once the undo began",
            [&all[..12], &[E::Phase(Phase::Remedy), all[13].clone()]].concat(),
            E::Remedying { fault: 0 },
        ),
        (
            "a remedy after an interruption",
            [&all[..12], &[E::Interrupted(put_back("w"))]].concat(),
            E::Phase(Phase::Remedy),
        ),
        ("a remedy after the undo", all[..14].to_vec(), E::Phase(Phase::Remedy)),
        ("a remedy that was done without a phase of it", all[..12].to_vec(), E::Remedied { fault: 0, error: None }),
        ("recovery with the fault in", all[..12].to_vec(), E::Phase(Phase::Recovery)),
        ("an undo that is not written down", all[..12].to_vec(), E::Undoing { fault: 0, step: 1 }),
        ("an undone step that was not being undone", all[..13].to_vec(), E::Undone { fault: 0, step: 0 }),
        ("a failed step that was not being undone", all[..13].to_vec(), failed.clone()),
        ("an audit with the fault in", all[..12].to_vec(), audited(vec![])),
        ("an end with the fault in", all[..12].to_vec(), E::Finished(End::Dirty)),
        ("a clean end without an audit", all[..18].to_vec(), E::Finished(End::Clean)),
        ("a clean end with residue", [&all[..18], &[audited(vec![difference()])]].concat(), E::Finished(End::Clean)),
        ("a clean end after a failed undo", [&all[..14], &[failed, audited(vec![])]].concat(), E::Finished(End::Clean)),
        ("a fault after the end", all.clone(), prepared(0)),
        ("a sample after the end", all.clone(), sampled(9)),
        ("an undo after a clean end", all.clone(), all[before(&all[13])].clone()),
        (
            "a sample of no probe",
            all[..4].to_vec(),
            match sampled(0) {
                E::Sampled(sample) => E::Sampled(Sample { probe: 1, ..sample }),
                other => other,
            },
        ),
        ("a second survey", all[..4].to_vec(), surveyed()),
    ];
    for (what, before, event) in cases {
        let place = place();
        let run = place.run();
        let mut journal = Journal::create(&run).unwrap();
        let (lease, _guardian) = lease();
        journal.guarded_by(lease);
        for kind in &before {
            journal.append(kind.clone()).unwrap_or_else(|e| panic!("{what}: {kind:?}: {e}"));
        }
        assert!(matches!(journal.append(event), Err(AppendError::Illegal(_))), "{what} was not refused");
        assert_eq!(kinds(&journal::read(&run).unwrap().events), before, "{what}");
    }
}

#[test]
fn a_sequence_that_could_not_be_written_can_not_be_read() {
    // An injection without its undo, written by something other than the journal, with all checksums right.
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..9]);
    let [undo, events] = files(&run);
    let mut seq = 0;
    let mut rewritten = [String::new(), String::new()];
    let mut all: Vec<(usize, u64, String)> = Vec::new();
    for (file, path) in [&undo, &events].into_iter().enumerate() {
        for line in lines(path) {
            let mut parts = line.trim_end().splitn(3, ' ').skip(1);
            all.push((file, parts.next().unwrap().parse().unwrap(), parts.next().unwrap().to_owned()));
        }
    }
    all.sort_by_key(|(_, seq, _)| *seq);
    for (file, _, json) in all.into_iter().filter(|(_, _, json)| !json.contains("prepared")) {
        let rest = format!("{seq} {json}");
        rewritten[file] += &format!("{:08x} {rest}\n", crc32c::crc32c(rest.as_bytes()));
        seq += 1;
    }
    fs::write(undo, &rewritten[0]).unwrap();
    fs::write(events, &rewritten[1]).unwrap();
    let error = journal::read(&run).unwrap_err().to_string();
    assert!(error.contains("no undo of this fault is written down"), "{error}");
}

#[test]
fn a_run_left_dirty_can_be_put_back_later() {
    let place = place();
    let run = place.run();
    let mut kinds = whole_run();
    kinds.truncate(14);
    kinds.push(EventKind::UndoFailed { fault: 0, step: 0, error: "e".into(), by_hand: "b".into() });
    kinds.push(EventKind::Finished(End::Dirty));
    write(&run, &kinds);
    assert_eq!(journal::standing(&run).unwrap(), Standing::Ended(End::Dirty));
    bring_to_its_end(&run, &kinds);
}

// ---- fencing

#[test]
fn nothing_is_injected_without_a_guardian() {
    let place = place();
    let run = place.run();
    let mut journal = Journal::create(&run).unwrap();
    for kind in whole_run().into_iter().take(8) {
        journal.append(kind).unwrap();
    }
    assert!(matches!(journal.append(EventKind::Injecting { fault: 0 }), Err(AppendError::Unguarded)));
}

#[test]
fn a_tool_whose_run_was_taken_over_records_nothing_more() {
    use std::io::Write;
    let place = place();
    let run = place.run();
    let mut journal = Journal::create(&run).unwrap();
    let (lease, mut guardian) = lease();
    journal.guarded_by(Arc::clone(&lease));
    for kind in whole_run().into_iter().take(8) {
        journal.append(kind).unwrap();
    }
    guardian.write_all(b"t").unwrap();
    drop(guardian);
    for kind in [EventKind::Injecting { fault: 0 }, sampled(8), EventKind::Interrupted(put_back("w"))] {
        assert!(matches!(journal.append(kind), Err(AppendError::Fenced(Fenced::TakenOver))));
    }
    assert_eq!(lease.check(), Err(Fenced::TakenOver), "a fence must not open again");
    assert_eq!(journal::read(&run).unwrap().events.len(), 8);
}

#[test]
fn a_tool_whose_guardian_died_injects_nothing_more_but_still_records_its_undo() {
    let place = place();
    let run = place.run();
    let mut journal = Journal::create(&run).unwrap();
    let (lease, guardian) = lease();
    journal.guarded_by(lease);
    for kind in whole_run().into_iter().take(8) {
        journal.append(kind).unwrap();
    }
    drop(guardian);
    let injecting = journal.append(EventKind::Injecting { fault: 0 });
    assert!(matches!(injecting, Err(AppendError::Fenced(Fenced::GuardianDied))), "{injecting:?}");
    journal.append(EventKind::Interrupted(put_back("the guardian died"))).unwrap();
    journal.append(EventKind::Finished(End::Clean)).unwrap();
}

// ---- run directory and lock

#[test]
fn a_second_run_on_the_same_cluster_is_refused_and_told_who_is_there() {
    let place = place();
    let lock = place.lock();
    let run = lock.begin("node-shutdown").unwrap();
    let error = Lock::take(&place.state, ENGINE, CLUSTER).unwrap_err();
    assert_eq!(error.exit(), Exit::CouldNotRun);
    let text = error.to_string();
    assert!(text.contains(&std::process::id().to_string()) && text.contains(run.id()), "{text}");
    Lock::take(&place.state, ENGINE, "another").unwrap();
    drop(lock);
    place.lock();
}

#[test]
fn a_new_run_refuses_a_cluster_with_an_unfinished_one_and_names_the_command() {
    let place = place();
    let left = place.run();
    write(&left, &whole_run()[..9]);
    let error = place.lock().begin("node-shutdown").unwrap_err().to_string();
    assert!(error.contains(&format!("kchaos rollback {}", left.id())), "{error}");
    assert_eq!(journal::unfinished(place.state.list().unwrap()).unwrap(), vec![left]);
}

#[test]
fn a_run_that_ended_or_never_began_is_no_obstacle() {
    let place = place();
    write(&place.run(), &whole_run());
    write(&place.run(), &[]);
    place.lock().begin("node-shutdown").unwrap();
}

#[test]
fn a_run_whose_undo_records_are_lost_is_one_that_began() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run());
    let [undo, events] = files(&run);
    fs::write(&undo, "").unwrap();
    assert_eq!(journal::standing(&run).unwrap(), Standing::Unfinished);
    let damage = journal::salvage(&run).unwrap().damage;
    assert!(!damage.is_empty());
    assert!(place.lock().begin("node-shutdown").unwrap_err().to_string().contains(run.id()));
    // However much is wrong, it can be read.
    let many = lines(&events).into_iter().map(|line| line.replace('{', "[")).collect::<String>().repeat(100);
    fs::write(&events, many).unwrap();
    let told = journal::read(&run).unwrap_err().to_string();
    assert!(told.len() < 1_000 && told.contains(" more"), "{told}");
}

#[test]
fn runs_are_found_by_id_by_path_and_as_the_latest() {
    let place = place();
    let (one, other) = (place.run(), place.run());
    write(&one, &whole_run());
    write(&other, &whole_run());
    assert_eq!(place.state.find(one.id()).unwrap(), one);
    assert_eq!(place.state.find(one.path().to_str().unwrap()).unwrap(), one);
    let all = place.state.list().unwrap();
    assert_eq!(all, [one.clone(), other.clone()]);
    assert_eq!(place.state.find("latest").unwrap(), other);
    let error = place.state.find("nonsense").unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
    assert!(error.to_string().contains(one.id()), "{error}");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..9]);
    let cluster = run.path().parent().unwrap();
    for dir in [run.path(), cluster, cluster.parent().unwrap()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o722)).unwrap();
        let refused = if dir == run.path() {
            Journal::take_over(&run).map(drop)
        } else {
            Lock::take(&place.state, ENGINE, CLUSTER).map(drop)
        };
        assert!(refused.unwrap_err().to_string().contains("others may write"), "{}", dir.display());
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_journal_that_somebody_else_could_have_written_is_not_acted_upon() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..9]);
    let [undo, _] = files(&run);
    let elsewhere = place.dir.path().join("elsewhere");

    fs::set_permissions(&undo, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(journal::salvage(&run).unwrap_err().to_string().contains("others may write"));
    fs::set_permissions(&undo, fs::Permissions::from_mode(0o600)).unwrap();

    fs::hard_link(&undo, &elsewhere).unwrap();
    assert!(journal::salvage(&run).unwrap_err().to_string().contains("one name"));
    fs::remove_file(&undo).unwrap();

    symlink(&elsewhere, &undo).unwrap();
    assert!(journal::salvage(&run).unwrap_err().to_string().contains("plain file"));
    assert!(journal::read(&run).is_err(), "a symbolic link was followed");
    fs::remove_file(&undo).unwrap();

    rustix::fs::mkfifoat(rustix::fs::CWD, &undo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    assert!(journal::salvage(&run).is_err());
    assert!(journal::read(&run).is_err(), "a pipe was read");
}

#[test]
fn a_state_directory_that_is_a_symbolic_link_is_refused() {
    let place = place();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, place.dir.path().join("kchaos")).unwrap();
    let error = Lock::take(&place.state, ENGINE, CLUSTER).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_state_directory_in_memory_is_refused() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let error = Lock::take(&StateDir::at(dir.path().join("kchaos")), ENGINE, CLUSTER).unwrap_err().to_string();
    assert!(error.contains("kept in memory"), "{error}");
}

#[test]
fn names_that_are_paths_do_not_leave_the_state_directory() {
    let place = place();
    for cluster in ["", ".", "..", "../x", "a/b", "/etc", "a\nb", "a\0b"] {
        assert!(Lock::take(&place.state, ENGINE, cluster).is_err(), "{cluster:?}");
    }
    let run = place.lock().begin("../../etc/\u{202e}x").unwrap();
    assert!(run.path().starts_with(place.dir.path()));
    assert!(run.id().bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{}", run.id());
}

#[test]
fn a_file_too_large_to_be_a_journal_is_not_read() {
    let place = place();
    let run = place.run();
    write(&run, &whole_run()[..9]);
    let [undo, _] = files(&run);
    fs::OpenOptions::new().write(true).open(&undo).unwrap().set_len(1 << 40).unwrap();
    let error = journal::read(&run).unwrap_err().to_string();
    assert!(error.contains("larger than any journal"), "{error}");
}

// ---- any sequence

fn any_event() -> impl Strategy<Value = EventKind> {
    use EventKind as E;
    let fault = 0..3usize;
    let failed = |fault| E::UndoFailed { fault, step: 0, error: "e".into(), by_hand: "b".into() };
    prop_oneof![
        1 => Just(started(2)),
        6 => prop::sample::select(vec![Phase::Setup, Phase::Baseline, Phase::Fault, Phase::Remedy, Phase::Undo, Phase::Recovery, Phase::Cleanup]).prop_map(E::Phase),
        2 => Just(surveyed()),
        4 => fault.clone().prop_map(prepared),
        6 => fault.clone().prop_map(|fault| E::Injecting { fault }),
        3 => fault.clone().prop_map(|fault| E::Injected { fault, error: None }),
        2 => fault.clone().prop_map(|fault| E::Remedying { fault }),
        1 => fault.clone().prop_map(|fault| E::Remedied { fault, error: None }),
        6 => fault.clone().prop_map(|fault| E::Undoing { fault, step: 0 }),
        5 => fault.clone().prop_map(|fault| E::Undone { fault, step: 0 }),
        2 => fault.prop_map(failed),
        3 => any::<bool>().prop_map(|clean| audited(if clean { vec![] } else { vec![difference()] })),
        1 => Just(E::Interrupted(put_back("w"))),
        2 => any::<bool>().prop_map(|clean| E::Finished(if clean { End::Clean } else { End::Dirty })),
        2 => (0..9u64).prop_map(sampled),
    ]
}

/// A simple model of which faults are in, by what was *done*, not by what was written.
fn faults_in(events: &[EventKind]) -> Vec<usize> {
    let mut active: Vec<usize> = Vec::new();
    for event in events {
        match event {
            EventKind::Injecting { fault } => active.push(*fault),
            EventKind::Undone { fault, .. } => active.retain(|f| f != fault),
            _ => {}
        }
    }
    active
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_tried_and_wherever_it_dies_no_fault_is_forgotten(
        tried in prop::collection::vec(any_event(), 0..80),
        cut in 0..400usize,
    ) {
        let place = place();
        let run = place.run();
        let mut journal = Journal::create(&run).unwrap();
        let (lease, _guardian) = lease();
        journal.guarded_by(lease);
        journal.append(started(2)).unwrap();
        let mut written = vec![started(2)];
        for kind in tried {
            let size = |run: &RunDir| files(run).map(|f| fs::metadata(f).unwrap().len());
            let before = size(&run);
            match journal.append(kind.clone()) {
                Ok(event) => written.push(event.kind),
                Err(AppendError::Illegal(_)) => prop_assert_eq!(size(&run), before, "a refused event left a trace"),
                Err(e) => panic!("{e}"),
            }
            if written.last() == Some(&EventKind::Finished(End::Clean)) {
                prop_assert_eq!(faults_in(&written), Vec::<usize>::new(), "called clean with a fault in");
            }
        }
        for (index, event) in written.iter().enumerate() {
            let EventKind::Injecting { fault } = event else { continue };
            let prepared = |e: &EventKind| matches!(e, EventKind::Prepared { fault: f, .. } if f == fault);
            prop_assert!(written[..index].iter().any(prepared), "injected without an undo");
        }
        prop_assert_eq!(&kinds(&journal::read(&run).unwrap().events), &written);

        // A power failure: the end of the unsynced file is gone. Only samples may be missing.
        drop(journal);
        let events = &files(&run)[1];
        let synced = fs::read(events).unwrap();
        let undo_after = written.iter().rposition(|k| !matches!(k, EventKind::Sampled(_))).unwrap();
        let unsynced: usize = written[undo_after..].iter().filter(|k| matches!(k, EventKind::Sampled(_))).count();
        let keep = lines(events);
        let safe: usize = keep[..keep.len() - unsynced].iter().map(String::len).sum();
        fs::write(events, &synced[..synced.len().saturating_sub(cut).max(safe)]).unwrap();
        let (mut journal, found) = Journal::take_over(&run).unwrap();
        prop_assert!(found.damage.is_empty());
        let found = kinds(&found.events);
        prop_assert_eq!(faults_in(&found), faults_in(&written));
        if journal.state().end() != Some(End::Clean) {
            for fault in faults_in(&found) {
                journal.append(EventKind::Undoing { fault, step: 0 }).unwrap();
                journal.append(EventKind::Undone { fault, step: 0 }).unwrap();
            }
            prop_assert_eq!(faults_in(&kinds(&journal::read(&run).unwrap().events)), Vec::<usize>::new());
        }
    }
}
