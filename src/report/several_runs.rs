//! The summary of several runs on one page: what was broken, what clients noticed of it, and whether everything went as
//! documented.
//!
//! This module takes reports and judges nothing: each line is one run's own verdict. The page is for people who are
//! responsible for a cluster and want to show what was seen. One way to get it is
//! `kchaos run ha --every-variant --every-node --summary FILE`.

use std::fmt::Write;

use super::escape::markdown as md;
use super::markdown::code;
use super::{Counts, Outage, Outcome, Report, Writes, fold, words};
use crate::scenario::Arm;
use crate::verdict::Verdict;

/// One run in a line.
pub(super) struct Line {
    /// The outcome of the run.
    pub outcome: Outcome,
    /// Its scenario and variant.
    pub run: String,
    /// The faults and their nodes.
    pub lost: String,
    /// For each target of requests, how long they failed and how many, in words; or that all answered, or that nothing
    /// was asked.
    pub unanswered: Vec<String>,
    /// The number of claims by verdict.
    pub claims: Counts,
}

impl Line {
    pub(super) fn of(report: &Report) -> Self {
        let done = words::unique(report.faults.iter().map(|fault| fault.what.as_str()));
        // If no fault was injected, nothing was done.
        let lost = match report.faults.iter().any(|fault| fault.injected.is_some()) {
            true => done.join("; "),
            false => format!("nothing ({} was not done)", done.join("; ")),
        };
        let exceeded = report.exceeded.as_ref().map(|lost| format!(" ({})", words::more_than_carried(lost)));
        let lost = lost + &exceeded.unwrap_or_default();
        let run = format!("{}/{}", report.run.scenario, report.run.variant);
        Self { outcome: report.outcome(), run, lost, unanswered: unanswered(report), claims: report.counts() }
    }
}

/// What each request probe saw of the fault, in words. Probes of a control arm are left out: their targets lack the
/// mitigation on purpose.
fn unanswered(report: &Report) -> Vec<String> {
    let control = |probe: &str| report.claims.iter().any(|c| c.arm == Some(Arm::Control) && c.probe == probe);
    let counts = |outage: &&Outage| !control(&outage.probe);
    let asked: Vec<&Outage> = report.outages.iter().filter(counts).collect();
    let told = words::unique(asked.iter().map(|outage| outage.probe.as_str())).into_iter().filter_map(|probe| {
        let of: Vec<&Outage> = asked.iter().copied().filter(|outage| outage.probe == probe).collect();
        if of.iter().any(|outage| outage.failing.is_some()) {
            Some(format!("{probe}: {}", words::outages(&of).join(", ")))
        } else if of.iter().all(|outage| outage.samples == 0) {
            Some(format!("{probe}: nobody could tell"))
        } else {
            None
        }
    });
    let told: Vec<String> = told.collect();
    match (told.is_empty(), asked.is_empty()) {
        (false, _) => told,
        (true, false) => vec!["always answered".into()],
        (true, true) => vec!["nothing was asked".into()],
    }
}

/// The overall outcome of several runs. It is upheld only if no run is missing.
pub(super) fn outcome(reports: &[Report], not_made: &[String]) -> Outcome {
    // The gravest outcome is the least in the order.
    let made = reports.iter().map(Report::outcome).min().unwrap_or(Outcome::NothingSelected);
    if not_made.is_empty() { made } else { made.min(Outcome::Inconclusive) }
}

/// The overall outcome, in a sentence.
pub(super) fn sentence(reports: &[Report], not_made: &[String]) -> String {
    let claims: usize = reports.iter().map(|r| r.counts().all()).sum();
    if outcome(reports, not_made) == Outcome::Upheld {
        let exceeded = match reports.iter().filter(|report| report.exceeded.is_some()).count() {
            0 => String::new(),
            1 => " One run broke more than the set-up is meant to survive.".into(),
            n => format!(" {n} runs broke more than the set-up is meant to survive."),
        };
        return match reports.len() {
            1 => format!("The one run went as documented: {claims} claims, every one upheld.{exceeded}"),
            all => format!("All {all} runs went as documented: {claims} claims, every one upheld.{exceeded}"),
        };
    }
    let mut outcomes: Vec<Outcome> = reports.iter().map(Report::outcome).collect();
    outcomes.sort_unstable();
    let parts = outcomes
        .chunk_by(PartialEq::eq)
        .filter_map(|alike| Some(format!("{} {}", alike.len(), words::outcome(*alike.first()?))));
    let parts: Vec<String> = parts.collect();
    let missing = if not_made.is_empty() { "" } else { "; not all that was asked for was run" };
    let plural = if reports.len() == 1 { "" } else { "s" };
    format!("Of {} run{plural}: {}{missing}.", reports.len(), parts.join(", "))
}

/// The writes of all runs together; `None` if none made any.
fn all_writes(reports: &[Report]) -> Option<Writes> {
    let of = reports.iter().filter_map(|report| report.writes);
    of.reduce(|a, b| Writes { acknowledged: a.acknowledged + b.acknowledged, lost: a.lost + b.lost })
}

/// The summary page, as Markdown.
pub fn markdown(reports: &[Report], not_made: &[String]) -> String {
    let mut out = String::new();
    let overall = outcome(reports, not_made);
    line(&mut out, &format!("# {} {}\n", words::outcome_glyph(overall), words::outcome(overall)));
    line(&mut out, &format!("{}\n", md(&sentence(reports, not_made))));
    let clusters = reports.iter().map(|r| format!("{}, Kubernetes {}", r.cluster.name, r.cluster.kubernetes));
    let clusters: Vec<String> = clusters.collect();
    for cluster in words::unique(clusters.iter().map(String::as_str)) {
        line(&mut out, &format!("- cluster: {}", md(cluster)));
    }
    if let (Some(first), Some(last)) = (reports.first(), reports.last()) {
        line(
            &mut out,
            &format!(
                "- runs: {}, the first begun {}, the last {}",
                reports.len(),
                md(&first.run.started),
                md(&last.run.started)
            ),
        );
        line(&mut out, &format!("- by: kchaos {}", md(&first.run.version)));
        if let Some(writes) = all_writes(reports) {
            line(&mut out, &format!("- writes to the API: {}", words::writes(writes)));
        }
    }
    line(
        &mut out,
        "\n| | run | what was done | what its clients noticed | acknowledged writes lost | claims upheld |\n|---|---|---|---|---|---|",
    );
    for report in reports {
        let Line { outcome, run, lost, unanswered, claims } = Line::of(report);
        let unanswered = unanswered.iter().map(|told| md(told)).collect::<Vec<_>>().join("<br>");
        let writes = report.writes.map_or_else(|| "–".to_owned(), |of| format!("{} of {}", of.lost, of.acknowledged));
        let row = format!(
            "| {} {} | {} | {} | {unanswered} | {writes} | {} of {} |",
            words::outcome_glyph(outcome),
            words::outcome(outcome),
            md(&run),
            md(&lost),
            claims.upheld,
            claims.all()
        );
        line(&mut out, &row);
    }
    if !not_made.is_empty() {
        line(&mut out, "\n## Not run\n");
        for why in not_made {
            line(&mut out, &format!("- {}", md(why)));
        }
    }
    let open = |report: &Report| report.outcome() != Outcome::Upheld;
    if reports.iter().any(open) {
        line(&mut out, "\n## Not upheld\n");
    }
    for report in reports.iter().filter(|report| open(report)) {
        line(&mut out, &format!("- {}: `{}`", md(&Line::of(report).lost), code(&report.run.command)));
        if report.outcome() == Outcome::Dirty {
            line(&mut out, "  - **The cluster is not as it was before:** `kchaos rollback --all`");
        }
        if let Some(cut) = &report.interrupted {
            line(&mut out, &format!("  - cut short: {}", md(&cut.why)));
        }
        for alike in fold::by_reason(report.claims.iter().filter(|claim| claim.verdict != Verdict::Upheld)) {
            let first = alike[0];
            let verdict = words::verdict(first.verdict);
            let told = match alike.len() {
                1 => format!("{verdict}: {}: {}", first.says, first.because),
                n => format!("{verdict}: {n} claims, first of all {}: {}", first.says, first.because),
            };
            line(&mut out, &format!("  - {}", md(&told)));
        }
    }
    line(&mut out, "\nSeen and accepted by: ______________________  on: ______________");
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}
