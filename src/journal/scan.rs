//! Reads both files of a journal, line by line, and merges them into the order in which they were written.
//!
//! Two flaws are tolerated and reported: a torn last line (the process died in the middle of a write, and nothing
//! relied on that write), and a late line (its writer had lost the journal to another process without knowing it yet).
//! Anything else is damage.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use super::line::{self, BadLine, File, MAX_LINE, Opened, Record};
use super::state::State;
use crate::error::{Error, Result};
use crate::event::{End, Event, EventKind};
use crate::run_dir::RunDir;

/// Everything that could be read of a journal.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Id of the run, as written in the files.
    pub run: Option<String>,
    /// In the order in which they were written.
    pub events: Vec<Event>,
    /// The state after those of these events that are legal.
    pub state: State,
    /// The next sequence number.
    pub next_seq: u64,
    /// Incomplete lines at the ends of files.
    pub torn: Vec<Torn>,
    /// Number of late lines that were left out.
    pub late: usize,
    /// What is wrong with the file of undo records, in words.
    pub undo_damage: Vec<String>,
    /// What is wrong with the file of the other events.
    pub events_damage: Vec<String>,
}

/// An incomplete line at the end of a file: a write that did not finish. Nothing relied on it, so it is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Name of the file.
    pub file: &'static str,
    /// Number of bytes.
    pub bytes: usize,
}

struct Line {
    number: usize,
    seq: u64,
    record: Record,
}

impl Line {
    fn takes_over(&self) -> bool {
        matches!(&self.record, Record::Opened(Opened { takes_over: Some(_), .. }))
    }
}

struct Lines {
    file: File,
    good: Vec<Line>,
    torn: Option<Torn>,
    damage: Vec<String>,
}

/// Reads the whole journal of a run.
///
/// # Errors
/// If a file can't be read, is too large, or was written by a version of kchaos that knows other records. Damage is not
/// an error here.
pub(super) fn scan(run: &RunDir) -> Result<Scan> {
    let (undo, events) = (lines(run, File::Undo)?, lines(run, File::Events)?);
    Ok(merge(undo, events))
}

/// Reads only the undo records. They are enough to know where the run stands, without reading a million samples.
pub(super) fn scan_undo(run: &RunDir) -> Result<Scan> {
    let undo = lines(run, File::Undo)?;
    let events = Lines { file: File::Events, good: Vec::new(), torn: None, damage: Vec::new() };
    Ok(merge(undo, events))
}

/// Is there any record of an event beside the undo records?
pub(super) fn has_events(run: &RunDir) -> bool {
    let Ok(file) = run.open_file(File::Events.name()) else { return false };
    let mut lines = BufReader::new(file.take(File::Events.cap())).split(b'\n').map_while(io::Result::ok);
    lines.any(|text| matches!(line::decode(&text), Ok((_, Record::Event(_)))))
}

/// Does the last undo record say that the run ended clean? For journals in which not every line can be read.
pub(super) fn ended_clean(run: &RunDir) -> bool {
    let Ok(file) = run.open_file(File::Undo.name()) else { return false };
    let last = BufReader::new(file.take(File::Undo.cap())).split(b'\n').map_while(io::Result::ok).last();
    let record = last.and_then(|text| line::decode(&text).ok());
    matches!(record, Some((_, Record::Event(Event { kind: EventKind::Finished(End::Clean), .. }))))
}

fn merge(mut undo: Lines, mut events: Lines) -> Scan {
    let mut scan = Scan::default();
    // A process that takes over writes under the number that its predecessor would have used next. If the predecessor
    // still wrote a line under that number, the number gives that line away.
    let taken: BTreeSet<u64> = undo.good.iter().filter(|l| l.takes_over()).map(|l| l.seq).collect();
    for lines in [&mut undo, &mut events] {
        let before = lines.good.len();
        lines.good.retain(|l| l.takes_over() || !taken.contains(&l.seq));
        scan.late += before - lines.good.len();
        ascending(lines);
        scan.torn.extend(lines.torn.take());
    }
    scan.run = one_run(&mut undo, &mut events);
    let mut rotten_events = events.damage.len() as u64;

    let mut all: Vec<(File, Line)> = undo.good.into_iter().map(|l| (File::Undo, l)).collect();
    all.extend(events.good.into_iter().map(|l| (File::Events, l)));
    all.sort_by_key(|(_, line)| line.seq);
    for (file, line) in all {
        let missing = line.seq.saturating_sub(scan.next_seq);
        if missing > 0 {
            // A lost line leaves only a gap in the numbers. It is taken for an undo record unless the other file is
            // known to have lost it.
            let lost = format!("{missing} line(s) before number {} are missing", line.seq);
            events.damage.push(lost.clone());
            if rotten_events >= missing {
                rotten_events -= missing;
            } else {
                undo.damage.push(lost);
            }
        }
        scan.next_seq = line.seq + 1;
        let Record::Event(event) = line.record else { continue };
        match scan.state.next(&event.kind) {
            Ok(next) => scan.state = next,
            Err(illegal) => {
                let what = format!("line {}: must not follow what is before it: {illegal}", line.number);
                if file == File::Undo { &mut undo.damage } else { &mut events.damage }.push(what);
            }
        }
        scan.events.push(event);
    }
    scan.undo_damage = undo.damage;
    scan.events_damage = events.damage;
    scan
}

/// Checks that the numbers in a file only rise.
fn ascending(lines: &mut Lines) {
    let mut last = None;
    for line in &lines.good {
        if last.is_some_and(|last| line.seq <= last) {
            lines.damage.push(format!("line {}: its number {} was there before", line.number, line.seq));
        }
        last = last.max(Some(line.seq));
    }
}

/// Checks that both files begin with an `Opened` record and belong to the same run. Returns the run's id.
fn one_run(undo: &mut Lines, events: &mut Lines) -> Option<String> {
    let mut run: Option<String> = None;
    for lines in [undo, events] {
        let file = lines.file;
        if let Some(first) = lines.good.first()
            && !matches!(first.record, Record::Opened(_))
        {
            lines.damage.push("the first line is not a journal's".into());
        }
        for line in &lines.good {
            let Record::Opened(opened) = &line.record else { continue };
            if opened.file != file || run.get_or_insert_with(|| opened.run.clone()) != &opened.run {
                lines.damage.push(format!("line {}: it belongs to another journal ({})", line.number, opened.run));
            }
        }
    }
    run
}

fn lines(run: &RunDir, file: File) -> Result<Lines> {
    let mut lines = Lines { file, good: Vec::new(), torn: None, damage: Vec::new() };
    let path = run.path().join(file.name());
    let unreadable = |e: io::Error| Error::could_not_run(format!("cannot read {}: {e}", path.display()));
    let opened = match run.open_file(file.name()) {
        Ok(opened) => opened,
        // A process that died before it made the file had done nothing yet. If it had, numbers are missing.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(lines),
        Err(e) => return Err(unreadable(e)),
    };
    if opened.metadata().map_err(unreadable)?.len() > file.cap() {
        return Err(Error::could_not_run(format!("{} is larger than any journal kchaos writes", path.display())));
    }
    let mut reader = BufReader::new(opened.take(file.cap()));
    let mut buffer = Vec::new();
    // A line that is no record, kept until the next line tells whether it was torn.
    let mut rotten: Option<String> = None;
    for number in 1.. {
        buffer.clear();
        reader.read_until(b'\n', &mut buffer).map_err(unreadable)?;
        let Some(text) = buffer.strip_suffix(b"\n") else { break };
        let decoded = if text.len() > MAX_LINE { Err(BadLine::Rotten("it is too long")) } else { line::decode(text) };
        if let Ok((_, Record::Opened(Opened { takes_over: Some(took), .. }))) = &decoded
            && took.torn
        {
            rotten = None;
        }
        lines.damage.extend(rotten.take());
        match decoded {
            Ok((seq, record)) => lines.good.push(Line { number, seq, record }),
            Err(BadLine::Rotten(why)) => rotten = Some(format!("line {number}: {why}")),
            Err(BadLine::Foreign(why)) => {
                let what =
                    format!("{}, line {number}, was written by another version of kchaos: {why}", path.display());
                return Err(Error::could_not_run(what).next("use the kchaos that made this run"));
            }
        }
    }
    lines.damage.extend(rotten);
    if !buffer.is_empty() {
        lines.torn = Some(Torn { file: file.name(), bytes: buffer.len() });
    }
    Ok(lines)
}
