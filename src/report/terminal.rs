//! The report on a terminal: the verdict and its reason first, then claim by claim, then everything needed to look into
//! it.
//!
//! This module takes a [`Report`] and returns text with ANSI styles. The stream that it is written to keeps or strips
//! them (`anstream`). A verdict is always told by a glyph and a word, never by colour alone. Lines fit the requested
//! width, between 60 and 160 columns, except for what is to be copied.

mod layout;
mod scenario;
mod several_runs;

use std::path::Path;

use anstyle::{AnsiColor, Style};

use self::layout::{Cell, PLAIN, Page, Text, cell, styled};
use super::{Claim, Fault, Outage, Outcome, Report, fold, words};
use crate::event::Checkpoint;
use crate::node::Role;
use crate::scenario::Arm;
use crate::verdict::Verdict;

pub use scenario::{dry_run, list, show};
pub use several_runs::several_runs;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DOUBT: Style = AnsiColor::Yellow.on_default().bold();

/// Columns of a page that is not shown on a terminal.
const DEFAULT_WIDTH: u16 = 100;

/// The width of the terminal at `stream`, in columns; 100 if it is no terminal.
pub fn width(stream: impl std::os::fd::AsFd) -> u16 {
    rustix::termios::tcgetwinsize(stream)
        .map(|size| size.ws_col)
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_WIDTH)
}

/// The report of one run. `files` is the directory that holds its journal and reports.
pub fn render(report: &Report, files: Option<&Path>, width: u16) -> String {
    let mut page = Page::new(width);
    verdict(&mut page, report);
    page.blank();
    page.text(DIM, "What Kubernetes' page “Troubleshooting Clusters” says, and what was seen of it:");
    for sentence in fold::sentences(&report.claims) {
        claims(&mut page, report, sentence);
    }
    for grave in [Verdict::Refuted, Verdict::Inconclusive, Verdict::Unsupported] {
        for alike in fold::by_reason(report.claims.iter().filter(|c| c.verdict == grave)) {
            details(&mut page, &alike);
        }
    }
    windows(&mut page, report);
    ending(&mut page, report, files);
    page.finish()
}

/// The first lines: the verdict, the reason, and the subject of the run.
fn verdict(page: &mut Page, report: &Report) {
    headline(page, report);
    page.text(PLAIN, &why(report));
    page.blank();
    let mut facts = vec![("about", report.run.summary.clone())];
    facts.extend(report.faults.iter().map(|f| ("fault", effect(f, report.interrupted.is_some()))));
    facts.extend(report.faults.iter().filter_map(|f| Some(("kubelets", words::kubelets(&f.kubelets, &f.node)?))));
    facts.extend(report.exceeded.iter().map(|lost| ("exceeds", words::more_than_carried(lost))));
    facts.extend(report.faults.iter().filter_map(|f| Some(("remedy", words::remedied(f.remedy.as_ref()?)))));
    facts.extend(report.recovery.iter().flat_map(words::recovery).map(|told| ("recovery", told)));
    facts.extend(report.writes.map(|writes| ("writes", words::writes(writes))));
    facts.push(("claims", words::counts(report.counts())));
    let roles = |role| report.cluster.nodes.iter().filter(|n| n.role == role).count();
    facts.push((
        "cluster",
        format!(
            "{}: Kubernetes {}, {} control-plane + {}",
            report.cluster.name,
            report.cluster.kubernetes,
            roles(Role::ControlPlane),
            plural(roles(Role::Worker), "worker node"),
        ),
    ));
    facts.extend(report.interrupted.iter().map(|cut| ("cut short", cut.why.clone())));
    facts.extend(report.disturbances.iter().map(|d| ("disturbed", d.clone())));
    labelled(page, &facts);
}

/// The verdict, and what was run. It is also the last line, since long reports scroll.
fn headline(page: &mut Page, report: &Report) {
    let (outcome, run) = (report.outcome(), &report.run);
    page.line(&[
        (
            outcome_style(outcome),
            &format!("{} {}", words::outcome_glyph(outcome), words::outcome(outcome).to_uppercase()),
        ),
        (BOLD, &format!("{}/{} on cluster {}", run.scenario, run.variant, report.cluster.name)),
    ]);
}

/// One sentence: the reason for the outcome of the run.
fn why(report: &Report) -> String {
    let counts = report.counts();
    let gravest = report.claims.iter().map(|c| c.verdict).max();
    let same =
        |one: &Claim| report.claims.iter().filter(|c| Some(c.verdict) == gravest).all(|c| c.because == one.because);
    let about = |claim: &Claim, n: usize, what: &str| match n {
        n if n > 1 && same(claim) => format!("{n} of {} claims {what}: {}", counts.all(), claim.because),
        1 => format!("One claim {what}: “{}”: {}", claim.says, claim.because),
        n => format!("{n} of {} claims {what}; first of all “{}”: {}", counts.all(), claim.says, claim.because),
    };
    match (report.outcome(), words::deciding(&report.claims)) {
        (Outcome::Upheld, _) => "Every claim was seen to hold, with the fault proven to be in effect.".into(),
        (Outcome::Refuted, Some(claim)) => about(claim, counts.refuted, "failed"),
        (Outcome::Inconclusive, Some(claim)) if claim.verdict == Verdict::Unsupported => {
            about(claim, counts.unsupported, "could not be tested here")
        }
        (Outcome::Inconclusive, Some(claim)) => {
            let told = about(claim, counts.inconclusive, "could be neither proven nor refuted");
            let Some(busy) = words::contended(&report.time) else { return told };
            // What cut or disturbed a run keeps its observers from looking, too, so it is named instead.
            let cut = report.interrupted.as_ref().map(|cut| format!("The run was cut short ({}).", cut.why));
            let disturbed = report.disturbances.first().map(|what| format!("The run was disturbed ({what})."));
            let busy = format!("The machine was too busy ({busy}): run it again once it has less to do.");
            format!("{} {told}", cut.or(disturbed).unwrap_or(busy))
        }
        (Outcome::Unsupported, Some(claim)) => {
            format!(
                "Everything that could be tested holds. {}",
                about(claim, counts.unsupported, "could not be tested here")
            )
        }
        (Outcome::Interrupted, _) => format!(
            "The run was cut short ({}), and everything was undone.",
            report.interrupted.as_ref().map_or("", |cut| cut.why.as_str())
        ),
        (Outcome::Dirty, _) => "The cluster is not as it was before the run: see “cleanup” below.".into(),
        _ => "No claim was selected, so nothing was tested.".into(),
    }
}

/// The fault, and how well its effect is proven.
fn effect(fault: &Fault, cut_short: bool) -> String {
    let witnesses = fault.proofs.iter().map(|p| p.witnesses.len()).max().unwrap_or_default();
    let said = |checkpoint| fault.proofs.iter().rfind(|p| p.checkpoint == checkpoint).map(|p| p.as_needed);
    let proof = if fault.injected.is_none() {
        "not injected".to_owned()
    } else if let Some(error) = &fault.error {
        format!("the injection failed: {error}")
    } else if said(Checkpoint::Injected) != Some(true) {
        "its effect was NOT seen by the witnesses".to_owned()
    } else {
        let by = format!("by {witnesses} witness{}", if witnesses == 1 { "" } else { "es" });
        let held = match (said(Checkpoint::WindowEnd), fault.proven_for) {
            // If another fault shuts this one in, `None` is fine: the other fault's witnesses give the proof.
            (Some(true) | None, Some(time)) => format!("proven for {} {by}", words::seconds(time)),
            (None, None) if cut_short => {
                format!("proven at first {by}, and not asked for again, since the run was cut short")
            }
            _ => format!("proven at first {by}, but NOT to the end"),
        };
        let gone = match said(Checkpoint::Undone) {
            Some(true) => "gone after the undo",
            Some(false) => "NOT gone after the undo",
            None if cut_short => "nor after the undo",
            None => "not looked for after the undo",
        };
        format!("{held}, {gone}")
    };
    format!("{}: {proof}", fault.what)
}

/// The table of the claims about one page sentence, and the difference that its mitigation made.
fn claims(page: &mut Page, report: &Report, sentence: &str) {
    let mut claims: Vec<&Claim> = report.claims.iter().filter(|c| c.sentence == sentence).collect();
    // Treatment and control next to each other, each in the order of the file.
    claims.sort_by_key(|c| c.arm);
    let arms = claims.iter().any(|c| c.arm.is_some());
    heading(page, sentence, claims.iter().find_map(|c| c.page.as_deref()).unwrap_or_default());
    let mut rows = vec![header(&["", if arms { "arm" } else { "" }, "claim", "expected", "observed"])];
    for claim in claims {
        let mut expected = vec![Text::plain(&claim.expected), Text::plain(&words::window(&claim.window))];
        expected.extend(words::setting(&claim.window).map(|setting| Text::new(DIM, setting)));
        rows.push(vec![
            glyph(claim.verdict),
            styled(DIM, claim.arm.map_or("", words::arm)),
            cell(&claim.says),
            expected,
            cell(&claim.observed),
        ]);
    }
    page.rows(rows, &[0, 0, 38, 34, 28]);
    if arms {
        difference(page, report, sentence);
        other_arm(page, report, sentence);
    }
}

/// Says how to run the other arm of a mitigation, if it is not part of this run.
fn other_arm(page: &mut Page, report: &Report, sentence: &str) {
    let arms = || report.claims.iter().filter(|c| c.sentence == sentence).filter_map(|c| c.arm);
    if let (Some(other), false) = (&report.run.other_arm, arms().any(|a| a != arms().next().unwrap_or(a))) {
        page.blank();
        page.text(DIM, "The other arm is a run of its own:");
        page.rows(vec![vec![vec![Text::to_copy(&format!("kchaos run {}/{other}", report.run.scenario))]]], &[100]);
    }
}

/// What was measured with and without the mitigation, side by side: the difference is the result.
fn difference(page: &mut Page, report: &Report, sentence: &str) {
    let measured = |arm| {
        let of_arm = report.claims.iter().filter(|c| c.sentence == sentence && c.arm == Some(arm));
        let probes: Vec<&str> = of_arm.map(|c| c.probe.as_str()).collect();
        let mut cell = Cell::new();
        for probe in words::unique(probes) {
            let series: Vec<&Outage> = report.outages.iter().filter(|o| o.probe == probe).collect();
            if !series.is_empty() {
                cell.push(Text::plain(probe));
                cell.extend(words::outages(&series).iter().map(|line| Text::plain(&format!("· {line}"))));
            }
        }
        cell
    };
    let (with, without) = (measured(Arm::Treatment), measured(Arm::Control));
    if with.is_empty() && without.is_empty() {
        return;
    }
    let or_nothing = |c: Cell| if c.is_empty() { styled(DIM, "no requests were made") } else { c };
    page.blank();
    page.rows(
        vec![
            header(&["measured", "with it (treatment)", "without it (control)"]),
            vec![styled(DIM, "outage"), or_nothing(with), or_nothing(without)],
        ],
        &[0, 50, 50],
    );
}

/// Claims that were not upheld, all for the same reason, with everything that explains why.
fn details(page: &mut Page, claims: &[&Claim]) {
    let Some(claim) = claims.first() else { return };
    page.blank();
    let word = format!("{} {}", words::glyph(claim.verdict), words::verdict(claim.verdict).to_uppercase());
    let because = ("because", format!("{} [{}]", claim.because, words::kebab(claim.reason)));
    if claims.len() > 1 {
        page.line(&[(verdict_style(claim.verdict), &word), (BOLD, &format!("{} claims", claims.len()))]);
        labelled(page, &[because]);
        page.rows(claims.iter().map(|c| vec![cell(&c.claim), styled(DIM, &words::place(c))]).collect(), &[40, 60]);
        return;
    }
    page.line(&[(verdict_style(claim.verdict), &word), (BOLD, &claim.claim)]);
    let mut facts = vec![
        ("claim", claim.says.clone()),
        because,
        ("expected", format!("{}, {}", claim.expected, words::window(&claim.window))),
        ("observed", claim.observed.clone()),
    ];
    for (n, evidence) in claim.evidence.iter().enumerate() {
        facts.push((if n == 0 { "evidence" } else { "" }, words::evidence(evidence)));
    }
    facts.push(("stated in", words::place(claim)));
    labelled(page, &facts);
}

/// How each window was computed, and the settings it was computed from, each once.
fn windows(page: &mut Page, report: &Report) {
    let mut seen: Vec<&str> = Vec::new();
    let mut rows = vec![header(&["window", "expected", "computed as"])];
    for window in report.claims.iter().map(|c| &c.window).filter(|w| !w.bounded_by.is_empty()) {
        if !seen.contains(&window.name.as_str()) {
            seen.push(&window.name);
            rows.push(vec![cell(&window.name), cell(&words::window(window)), cell(&window.formula)]);
        }
    }
    if rows.len() > 1 {
        heading(page, "windows", "when things were expected, and why then");
        page.rows(rows, &[26, 34, 40]);
        page.blank();
        let settings = words::unique(report.claims.iter().flat_map(|c| &c.window.bounded_by).map(String::as_str));
        page.rows(settings.into_iter().map(|s| vec![styled(DIM, s)]).collect(), &[100]);
    }
}

/// How the cluster was left, where the time went, and where to continue.
fn ending(page: &mut Page, report: &Report, files: Option<&Path>) {
    page.blank();
    cleanup(page, report);
    let time = report.time;
    let mut facts = vec![(
        "time",
        format!(
            "{}: {} waiting for Kubernetes, {} ({} %) kchaos' own",
            words::seconds(time.total),
            words::seconds(time.waiting),
            words::seconds(time.harness),
            words::percent(time.harness, time.total),
        ),
    )];
    facts.extend(words::contended(&time).map(|told| ("machine", told)));
    labelled(page, &facts);
    to_copy(page, "again", &report.run.command);
    if let Some(dir) = files {
        to_copy(page, "files", &dir.display().to_string());
        let run = dir.file_name().unwrap_or_default().display();
        labelled(page, &[("", "report.md, report.json, report.xml (JUnit); once more:".to_owned())]);
        to_copy(page, "", &format!("kchaos judge {run}"));
    }
    page.blank();
    headline(page, report);
}

fn cleanup(page: &mut Page, report: &Report) {
    let undo: Vec<_> = report.faults.iter().flat_map(|f| &f.undo).collect();
    let residue = report.cleanup.residue.as_deref();
    let clean = report.outcome() != Outcome::Dirty;
    let as_before = words::as_before(&report.cleanup.removed);
    let left = match (clean, residue) {
        (true, Some(_)) if undo.is_empty() => {
            format!("✓ nothing was injected; audit: {as_before}")
        }
        (true, Some(_)) => {
            format!("✓ undone; audit: {as_before} ({})", plural(undo.len(), "undo step"))
        }
        (true, None) => "– nothing to undo, not audited".to_owned(),
        (false, Some(d)) if !d.is_empty() => format!("✗ {} left that differ from before", plural(d.len(), "item")),
        (false, _) => "✗ the cluster may still be broken".to_owned(),
    };
    labelled(page, &[("cleanup", left)]);
    for step in undo.iter().filter(|u| u.error.is_some() || !u.done) {
        labelled(page, &[("", format!("undo failed: {}; by hand:", step.error.as_deref().unwrap_or("not applied")))]);
        to_copy(page, "", &step.by_hand);
    }
    for difference in residue.unwrap_or_default() {
        labelled(page, &[("", difference.to_string())]);
    }
    if !clean {
        labelled(page, &[("", "to put it back:".to_owned())]);
        to_copy(page, "", "kchaos rollback");
    }
}

fn plural(n: usize, word: &str) -> String {
    format!("{n} {word}{}", if n == 1 { "" } else { "s" })
}

fn verdict_style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Upheld => GOOD,
        Verdict::Refuted => BAD,
        Verdict::Inconclusive => DOUBT,
        Verdict::Unsupported => DIM,
    }
}

fn outcome_style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Upheld => GOOD,
        Outcome::Refuted | Outcome::Dirty => BAD,
        Outcome::Inconclusive | Outcome::Interrupted | Outcome::Unsupported | Outcome::NothingSelected => DOUBT,
    }
}

fn glyph(verdict: Verdict) -> Cell {
    styled(verdict_style(verdict), &words::glyph(verdict).to_string())
}

fn heading(page: &mut Page, title: &str, subtitle: &str) {
    page.blank();
    page.line(&[(BOLD.underline(), title), (DIM, subtitle)]);
}

fn header(titles: &[&str]) -> Vec<Cell> {
    titles.iter().map(|title| styled(DIM, title)).collect()
}

/// Rows of a label and a fact.
fn labelled(page: &mut Page, facts: &[(&str, String)]) {
    page.rows(
        facts.iter().map(|(label, fact)| vec![styled(DIM, &format!("{label:<9}")), cell(fact)]).collect(),
        &[0, 100],
    );
}

/// A row of a label and a command or path.
fn to_copy(page: &mut Page, label: &str, text: &str) {
    page.rows(vec![vec![styled(DIM, &format!("{label:<9}")), vec![Text::to_copy(text)]]], &[0, 100]);
}
