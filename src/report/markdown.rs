//! The report as Markdown, for GitHub's job summaries and for pull requests, and annotations of the scenario file.
//!
//! GitHub drops the whole of a summary above 1 MiB, so long lists are cut here, with the number of items left out. A
//! line never begins with foreign text.

use std::fmt::Write;

use super::{Claim, Outcome, Report, escape::markdown as md, escape::workflow, junit, words};
use crate::event::Phase;
use crate::verdict::Verdict;

/// GitHub's limit is 1 MiB for each step. This leaves room for what other tools append to the summary.
const LIMIT: usize = 900 * 1024;
/// Number of annotations of one kind that GitHub shows for a step.
const ANNOTATIONS: usize = 10;

/// The summary of a run.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    head(&mut out, report);
    let (upheld, others): (Vec<&Claim>, Vec<&Claim>) = report.claims.iter().partition(|c| c.verdict == Verdict::Upheld);
    if !others.is_empty() {
        let mut others = others;
        others.sort_by_key(|c| std::cmp::Reverse(c.verdict));
        line(&mut out, "\n### Not upheld\n");
        capped(&mut out, others.iter().map(|c| open_claim(c)), LIMIT / 2);
    }
    if !upheld.is_empty() {
        line(
            &mut out,
            &format!(
                "\n<details{}><summary>{} upheld</summary>\n",
                if others_empty(report) { " open" } else { "" },
                upheld.len()
            ),
        );
        line(&mut out, "| | claim | expected | observed |\n|---|---|---|---|");
        capped(&mut out, upheld.iter().map(|c| row(c)), LIMIT / 4);
        line(&mut out, "\n</details>");
    }
    gantt(&mut out, report);
    facts(&mut out, report);
    out
}

fn others_empty(report: &Report) -> bool {
    report.claims.iter().all(|c| c.verdict == Verdict::Upheld)
}

fn head(out: &mut String, report: &Report) {
    let outcome = report.outcome();
    line(
        out,
        &format!(
            "## {} {}: {}/{}\n\n{}. Cluster {}, Kubernetes {}.\n",
            words::outcome_glyph(outcome),
            words::outcome(outcome),
            md(&report.run.scenario),
            md(&report.run.variant),
            words::counts(report.counts()),
            md(&report.cluster.name),
            md(&report.cluster.kubernetes),
        ),
    );
    if outcome == Outcome::Dirty {
        line(out, "**The cluster is not as it was before the run:** `kchaos rollback` puts it back.\n");
    }
    if let Some(claim) = words::deciding(&report.claims).filter(|c| c.verdict != Verdict::Upheld) {
        line(out, &format!("**Why:** {}\n", md(&junit::sentence(claim))));
    }
    if let Some(cut) = &report.interrupted {
        line(out, &format!("**Cut short:** {}\n", md(&cut.why)));
    }
}

/// One row of the table of upheld claims.
fn row(claim: &Claim) -> String {
    format!(
        "| {} | **{}**{} {} | {}, {} | {} |\n",
        words::glyph(claim.verdict),
        md(&claim.sentence),
        claim.arm.map(|a| format!(" ({})", words::arm(a))).unwrap_or_default(),
        md(&claim.says),
        md(&claim.expected),
        md(&words::window(&claim.window)),
        md(&claim.observed),
    )
}

/// A claim that was not upheld, with everything that explains why.
fn open_claim(claim: &Claim) -> String {
    let mut out = format!(
        "- {} **{}** `{}`{}: {}\n  - because: {}\n  - expected: {}, {}\n  - observed: {}\n",
        words::glyph(claim.verdict),
        words::verdict(claim.verdict),
        code(&claim.claim),
        claim.arm.map(|a| format!(" ({})", words::arm(a))).unwrap_or_default(),
        md(&claim.says),
        md(&claim.because),
        md(&claim.expected),
        md(&words::window(&claim.window)),
        md(&claim.observed),
    );
    for setting in &claim.window.bounded_by {
        line(&mut out, &format!("  - setting: {}", md(setting)));
    }
    for evidence in &claim.evidence {
        line(&mut out, &format!("  - evidence: {}", md(&words::evidence(evidence))));
    }
    line(&mut out, &format!("  - stated in: `{}`", code(&words::place(claim))));
    out
}

/// The phases on a time axis. Mermaid knows no offsets from zero, so the axis counts from its epoch.
fn gantt(out: &mut String, report: &Report) {
    let phases: Vec<_> = report.phases.iter().filter(|p| p.span.to > p.span.from).collect();
    if phases.is_empty() {
        return;
    }
    line(out, "\n```mermaid\ngantt\n    dateFormat x\n    axisFormat %M:%S\n    section phases");
    for phase in &phases {
        let mark = if phase.phase == Phase::Fault { "crit, " } else { "" };
        let (from, to) = (phase.span.from.0.as_millis(), phase.span.to.0.as_millis());
        line(out, &format!("    {} : {mark}{from}, {to}", words::phase(phase.phase)));
    }
    let broken: Vec<_> = report.outages.iter().filter_map(|o| Some((o, o.failing.as_ref()?))).take(20).collect();
    if !broken.is_empty() {
        line(out, "    section requests unanswered");
    }
    let end = report.time.total.0.as_millis();
    for (outage, down) in broken {
        let (from, to) = (down.from.earliest.0.as_millis(), down.to.map_or(end, |to| to.latest.0.as_millis()));
        // Mermaid has no escapes, so everything but plain letters and digits becomes a space.
        let name: String = format!("{} {}", outage.probe, outage.series)
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' })
            .collect();
        line(out, &format!("    {} : {from}, {to}", name.trim()));
    }
    line(out, "```");
}

fn facts(out: &mut String, report: &Report) {
    line(out, "\n<details><summary>run, fault, cleanup</summary>\n");
    line(out, &format!("- again: `{}`", code(&report.run.command)));
    line(out, &format!("- started: {}, by kchaos {}", md(&report.run.started), md(&report.run.version)));
    for fault in &report.faults {
        let proven =
            fault.proven_for.map_or("not proven to the end".into(), |t| format!("proven for {}", words::seconds(t)));
        line(out, &format!("- fault: {}, {proven}", md(&fault.what)));
        for proof in &fault.proofs {
            for witness in &proof.witnesses {
                let seen = format!("{}: {}: {}", words::checkpoint(proof.checkpoint), witness.what, witness.seen);
                line(out, &format!("  - {} {}", if proof.as_needed { '✓' } else { '✗' }, md(&seen)));
            }
        }
    }
    for told in report.faults.iter().filter_map(|f| words::kubelets(&f.kubelets, &f.node)) {
        line(out, &format!("- kubelets: {}", md(&told)));
    }
    if let Some(lost) = &report.exceeded {
        line(out, &format!("- exceeds: {}", md(&words::more_than_carried(lost))));
    }
    for remedy in report.faults.iter().filter_map(|f| f.remedy.as_ref()) {
        line(out, &format!("- remedy: {}", md(&words::remedied(remedy))));
    }
    for told in report.recovery.iter().flat_map(words::recovery) {
        line(out, &format!("- {}", md(&told)));
    }
    if let Some(writes) = report.writes {
        line(out, &format!("- writes: {}", words::writes(writes)));
    }
    for outage in report.outages.iter().take(100) {
        line(out, &format!("- outage: {}", md(&words::outage(outage))));
    }
    for disturbance in report.disturbances.iter().take(100) {
        line(out, &format!("- disturbed: {}", md(disturbance)));
    }
    match report.cleanup.residue.as_deref() {
        None => line(out, "- cleanup: not audited"),
        Some([]) => line(out, &format!("- cleanup: {}", md(&words::as_before(&report.cleanup.removed)))),
        Some(residue) => {
            line(out, &format!("- cleanup: {} items differ from before", residue.len()));
            for difference in residue.iter().take(100) {
                line(out, &format!("  - {}", md(&difference.to_string())));
            }
        }
    }
    let time = report.time;
    if let Some(told) = words::contended(&time) {
        line(out, &format!("- machine: {}", md(&told)));
    }
    line(
        out,
        &format!(
            "- time: {}, of which {} waiting for Kubernetes and {} kchaos' own\n\n</details>",
            words::seconds(time.total),
            words::seconds(time.waiting),
            words::seconds(time.harness)
        ),
    );
}

/// GitHub workflow commands that mark the line of each refuted claim in the scenario file as an error, and that of each
/// inconclusive claim as a warning.
pub fn annotations(report: &Report) -> String {
    let mut out = String::new();
    for (verdict, kind) in [(Verdict::Refuted, "error"), (Verdict::Inconclusive, "warning")] {
        let claims: Vec<&Claim> = report.claims.iter().filter(|c| c.verdict == verdict).collect();
        let shown = if claims.len() > ANNOTATIONS { ANNOTATIONS - 1 } else { claims.len() };
        for claim in &claims[..shown] {
            let title = format!("{} {} {}", claim.sentence, claim.claim, words::verdict(verdict));
            let place = if words::has_line(claim) {
                format!("file={},line={},", workflow(&claim.file, true), claim.line)
            } else {
                String::new()
            };
            let (title, message) = (workflow(&title, true), workflow(&junit::sentence(claim), false));
            line(&mut out, &format!("::{kind} {place}title={title}::{message}"));
        }
        if claims.len() > shown {
            line(
                &mut out,
                &format!("::{kind} title=kchaos::and {} more {}", claims.len() - shown, words::verdict(verdict)),
            );
        }
    }
    out
}

/// Foreign text inside of a code span.
pub(super) fn code(foreign: &str) -> String {
    super::escape::safe(foreign).replace('`', "'")
}

fn line(out: &mut String, text: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(out, "{text}");
}

/// Appends items as long as there is room, then says how many were left out.
fn capped(out: &mut String, items: impl ExactSizeIterator<Item = String>, limit: usize) {
    let (all, start) = (items.len(), out.len());
    for (n, item) in items.enumerate() {
        if out.len() - start + item.len() > limit {
            line(out, &format!("\n… and {} more: see report.json", all - n));
            return;
        }
        out.push_str(&item);
    }
}
