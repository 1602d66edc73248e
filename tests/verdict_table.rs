//! The README's table shows the last verdict on each sentence of the page, as the scenarios and `docs/verdicts/` say.
//!
//! `docs/verdicts/SCENARIO.VARIANT.json` is the last recorded run of a variant on a real cluster, reduced to its
//! verdicts. `make verdicts REPORTS=…` reduces the named reports, of runs that somebody has reviewed, and renders the
//! table again.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kchaos::page::{Page, Sentence};
use kchaos::report::json::SCHEMA;
use kchaos::scenario::{Claim, Scenario, builtin, load};
use kchaos::verdict::Verdict;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const BEGIN: &str = "<!-- verdicts: made by `make verdicts` -->\n";
const END: &str = "<!-- end of verdicts -->\n";

/// What is kept of a run's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    scenario: String,
    variant: String,
    /// RFC 3339, UTC.
    started: String,
    /// The version of Kubernetes.
    kubernetes: String,
    seed: u64,
    /// How long the run took, in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    /// Verdicts by claim.
    verdicts: BTreeMap<String, Verdict>,
}

impl Record {
    /// Reduces a report. Only a complete run of a built-in scenario counts, on a cluster that it left clean.
    fn of(report: &Value) -> Result<Self, String> {
        let text = |pointer: &str| {
            report.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {pointer}"))
        };
        if text("/schema")? != SCHEMA {
            return Err(format!("it is no {SCHEMA}"));
        }
        let (scenario, source) = (text("/run/scenario")?, text("/run/source")?);
        if source != scenario && source != format!("scenarios/{scenario}.yaml") {
            return Err(format!("{source} is no built-in scenario"));
        }
        if !report["interrupted"].is_null() || report["cleanup"]["end"] != "clean" {
            return Err("the run was cut short, or left its cluster dirty".into());
        }
        let claims = report["claims"].as_array().ok_or("no claims")?;
        let verdict = |claim: &Value| {
            let id = claim["claim"].as_str().ok_or("a claim without an id")?;
            let verdict = Verdict::deserialize(&claim["verdict"]).map_err(|e| format!("{id}: {e}"))?;
            Ok::<_, String>((id.to_owned(), verdict))
        };
        Ok(Self {
            scenario,
            variant: text("/run/variant")?,
            started: text("/run/started")?,
            kubernetes: text("/cluster/kubernetes")?,
            seed: report["run"]["seed"].as_u64().ok_or("no seed")?,
            seconds: report["time"]["total"].as_f64().map(|total| total.round() as u64),
            verdicts: claims.iter().map(verdict).collect::<Result<_, _>>()?,
        })
    }
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn scenarios() -> Vec<Scenario> {
    builtin().iter().map(|(name, text)| load(name, text.as_bytes()).unwrap_or_else(|d| panic!("{d}"))).collect()
}

fn records() -> Vec<Record> {
    let Ok(files) = fs::read_dir(path("docs/verdicts")) else { return Vec::new() };
    let read = |file: PathBuf| {
        let record: Record =
            serde_json::from_slice(&fs::read(&file).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = format!("{}.{}.json", record.scenario, record.variant);
        assert_eq!(file.file_name().unwrap().to_str(), Some(&*name), "a file is named after its run");
        record
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

/// The claims on a sentence that a variant has.
fn claims<'a>(scenario: &'a Scenario, variant: &str, sentence: &str) -> Vec<&'a Claim> {
    let made_for = |c: &Claim| c.variants.as_ref().is_none_or(|only| only.iter().any(|name| &name[..] == variant));
    scenario.claims.iter().filter(|c| c.sentence == sentence && made_for(c)).collect()
}

/// The last verdict on claims: the gravest one, and how many of them have it.
fn verdict(claims: &[&Claim], record: Option<&Record>) -> String {
    let Some(record) = record else { return "not run yet".into() };
    let verdicts: Option<Vec<Verdict>> = claims.iter().map(|c| record.verdicts.get(&c.claim[..]).copied()).collect();
    let Some(verdicts) = verdicts else { return "not run since a claim was added".into() };
    let gravest = verdicts.iter().max().copied().unwrap_or(Verdict::Upheld);
    let (of_it, all) = (verdicts.iter().filter(|v| **v == gravest).count(), verdicts.len());
    match gravest {
        Verdict::Upheld => "✓ upheld".into(),
        Verdict::Unsupported => format!("– can't be tested there: {of_it} of {all}"),
        Verdict::Inconclusive => format!("? inconclusive: {of_it} of {all}"),
        Verdict::Refuted => format!("✗ refuted: {of_it} of {all}"),
    }
}

/// When a run took place, and on which version of Kubernetes.
fn run(record: &Record) -> String {
    let day = record.started.split('T').next().unwrap_or_default();
    format!("{day}, {}", record.kubernetes)
}

/// A variant with the number of its claims on a sentence, and the length of its run.
fn variant(name: &str, claims: usize, record: Option<&Record>) -> String {
    match record.and_then(|r| r.seconds) {
        Some(seconds) => format!("`{name}` ({claims}; {seconds} s)"),
        None => format!("`{name}` ({claims})"),
    }
}

fn says(sentence: &Sentence) -> String {
    let text = match &sentence.of {
        Some(failure) if sentence.is_mitigation() => format!("{} (against: {failure})", sentence.says),
        Some(failure) => format!("{failure}: {}", sentence.says),
        None => sentence.says.clone(),
    };
    text.replace('|', "\\|")
}

/// The table: every sentence that a scenario tests, the last verdict of each variant (equal ones in one row), and the
/// sentences that nothing tests yet.
fn table(scenarios: &[Scenario], records: &[Record]) -> String {
    let mut out = String::from(
        "| sentence of the page | put to the test by: variants (claims; time) | last verdict | runs |\n|---|---|---|---|\n",
    );
    let mut open = Vec::new();
    for sentence in Page::get().sentences() {
        let mut label = format!("**{}** {}", sentence.id, says(sentence));
        for scenario in scenarios {
            let mut rows: Vec<(String, String, Vec<String>)> = Vec::new();
            for v in &scenario.variants {
                let claims = claims(scenario, &v.name, &sentence.id);
                if claims.is_empty() {
                    continue;
                }
                let record = records.iter().find(|r| r.scenario == scenario.scenario[..] && r.variant == v.name[..]);
                let (verdict, when) = (verdict(&claims, record), record.map(run).unwrap_or_default());
                let alike = rows.iter().position(|(v, w, _)| *v == verdict && *w == when).unwrap_or_else(|| {
                    rows.push((verdict, when, Vec::new()));
                    rows.len() - 1
                });
                rows[alike].2.push(variant(&v.name, claims.len(), record));
            }
            for (verdict, when, variants) in rows {
                let (label, by, variants) = (std::mem::take(&mut label), &scenario.scenario[..], variants.join(", "));
                writeln!(out, "| {label} | **{by}**: {variants} | {verdict} | {when} |").unwrap();
            }
        }
        if !label.is_empty() {
            open.push(format!("`{}`", sentence.id));
        }
    }
    let all = Page::get().sentences().len();
    writeln!(
        out,
        "\nNo scenario puts these to the test yet, {} of the page's {all} sentences: {}.",
        open.len(),
        open.join(", ")
    )
    .unwrap();
    out
}

#[test]
fn the_table_in_the_readme_is_fresh() {
    for file in std::env::var("REPORTS").unwrap_or_default().split_whitespace() {
        let report = serde_json::from_slice(&fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"))).unwrap();
        let record = Record::of(&report).unwrap_or_else(|why| panic!("{file}: {why}"));
        let to = path("docs/verdicts").join(format!("{}.{}.json", record.scenario, record.variant));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, serde_json::to_string_pretty(&record).unwrap() + "\n").unwrap();
    }
    let readme = fs::read_to_string(path("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("README.md has the table");
    let (shown, after) = rest.split_once(END).expect("README.md has the table's end");
    let fresh = table(&scenarios(), &records());
    if std::env::var("SNAPSHOTS").as_deref() == Ok("overwrite") {
        fs::write(path("README.md"), format!("{before}{BEGIN}{fresh}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, fresh, "SNAPSHOTS=overwrite renders it anew");
    }
}

fn node_shutdown() -> Scenario {
    scenarios().into_iter().find(|s| s.scenario == "node-shutdown").unwrap()
}

/// A record of a run in which everything was upheld.
fn upheld() -> Record {
    let scenario = node_shutdown();
    Record {
        scenario: scenario.scenario.to_string(),
        variant: scenario.variants[0].name.to_string(),
        started: "2026-11-24T11:47:43Z".into(),
        kubernetes: "v1.34.4".into(),
        seed: 1,
        seconds: Some(64),
        verdicts: scenario.claims.iter().map(|c| (c.claim.to_string(), Verdict::Upheld)).collect(),
    }
}

#[test]
fn the_gravest_verdict_on_a_sentence_is_shown_and_nothing_is_made_up() {
    let scenario = node_shutdown();
    let on = |record: Option<&Record>| {
        let claims = claims(&scenario, &scenario.variants[0].name, "node.pods-stop");
        (verdict(&claims, record), claims.len())
    };
    let (none, all) = on(None);
    assert_eq!(none, "not run yet");
    let mut record = upheld();
    assert_eq!(on(Some(&record)).0, "✓ upheld");
    record.verdicts.insert("evicted".into(), Verdict::Inconclusive);
    assert_eq!(on(Some(&record)).0, format!("? inconclusive: 1 of {all}"));
    record.verdicts.insert("processes-gone".into(), Verdict::Refuted);
    assert_eq!(on(Some(&record)).0, format!("✗ refuted: 1 of {all}"));
    record.verdicts.remove("evicted");
    assert_eq!(on(Some(&record)).0, "not run since a claim was added");
}

#[test]
fn every_sentence_is_in_the_table_once_or_among_the_open_ones() {
    let table = table(&scenarios(), &[upheld()]);
    for sentence in Page::get().sentences() {
        let (tested, open) = (format!("**{}**", sentence.id), format!("`{}`", sentence.id));
        assert_eq!(table.matches(&*tested).count() + table.matches(&*open).count(), 1, "{}", sentence.id);
    }
}

#[test]
fn a_report_that_is_no_whole_run_of_a_built_in_scenario_is_refused() {
    let good: Value = serde_json::from_str(include_str!("reports/refuted.json")).unwrap();
    let record = Record::of(&good).unwrap();
    assert_eq!(record.verdicts["service-recovers"], Verdict::Refuted);
    for (pointer, bad) in [
        ("/schema", "kchaos.report/0"),
        ("/run/source", "tests/minimal/node-lost.yaml"),
        ("/interrupted", "SIGINT"),
        ("/cleanup/end", "dirty"),
        ("/claims/0/verdict", "fine"),
    ] {
        let mut report = good.clone();
        *report.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = bad.into();
        assert!(Record::of(&report).is_err(), "{pointer}");
    }
}

/// A claim that no real cluster has borne out says nothing about the page yet. `tests/page.rs` sees that every sentence
/// has claims.
#[test]
fn each_claim_was_upheld_on_a_real_cluster() {
    let records = records();
    for scenario in scenarios() {
        let of_it: Vec<_> = records.iter().filter(|record| record.scenario == scenario.scenario[..]).collect();
        let upheld = |claim: &&Claim| of_it.iter().any(|r| r.verdicts.get(&claim.claim[..]) == Some(&Verdict::Upheld));
        let never: Vec<_> = scenario.claims.iter().filter(|claim| !upheld(claim)).map(|c| &c.claim[..]).collect();
        assert!(never.is_empty(), "{}: {never:?}", &scenario.scenario[..]);
    }
}

#[test]
fn the_readme_counts_the_scenarios() {
    let variants = |(name, text): &(&str, &str)| {
        kchaos::scenario::load(name, text.as_bytes()).expect("built-in scenarios load").variants.len()
    };
    let built_in = kchaos::scenario::builtin();
    let counted = format!("{} scenarios in {} variants", built_in.len(), built_in.iter().map(variants).sum::<usize>());
    let readme = fs::read_to_string(path("README.md")).unwrap();
    assert!(readme.contains(&counted), "README.md does not say {counted:?}");
}
