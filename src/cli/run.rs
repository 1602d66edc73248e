//! `run`, `rollback` and `judge`: everything that deals with runs.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use super::{Output, RunArgs, Talk};
use crate::cluster::docker::Engine;
use crate::cluster::facts::{self, Facts};
use crate::cluster::{Cluster, provision};
use crate::error::{Error, Exit, Result};
use crate::experiment::{self, Recorder};
use crate::guardian;
use crate::journal::{self, Journal};
use crate::lock::Lock;
use crate::plan::{self, Plan};
use crate::report::{self, Report, live::Live};
use crate::rollback as undoing;
use crate::run_dir::RunDir;
use crate::scenario::{self, Scenario};
use crate::signal::Signals;

/// A scenario file and the variant of it that is to be run.
struct Selected {
    source: String,
    scenario: Scenario,
    variant: String,
}

pub(super) fn run(args: RunArgs, talk: &Talk) -> Result<Exit> {
    let selected = select(&args)?;
    super::runtime()?.block_on(async {
        let engine = Engine::connect().await?;
        let mut worst = None;
        for selected in &selected {
            let exit = run_one(&engine, selected, &args, talk).await?;
            worst = Some(worst.map_or(exit, |so_far| exit.worse(so_far)));
            if exit == Exit::Interrupted {
                break;
            }
        }
        Ok(worst.unwrap_or(Exit::NothingSelected))
    })
}

/// The scenarios and variants that the arguments name.
fn select(args: &RunArgs) -> Result<Vec<Selected>> {
    let names: Vec<String> = if args.all {
        scenario::builtin().iter().map(|(name, _)| (*name).to_owned()).collect()
    } else {
        args.scenarios.clone()
    };
    let mut selected = Vec::new();
    for name in &names {
        let (name, variant) = split_variant(name);
        let (source, scenario) = scenario::open(name)?;
        let variants: Vec<String> = match variant {
            Some(variant) => vec![variant.to_owned()],
            None if args.all || args.every_variant => scenario.variants.iter().map(|v| v.name.to_string()).collect(),
            None => scenario.variants.first().map(|v| v.name.to_string()).into_iter().collect(),
        };
        selected.extend(variants.into_iter().map(|variant| Selected { source: source.clone(), scenario: scenario.clone(), variant }));
    }
    Ok(selected)
}

/// `NAME/VARIANT`, unless that is a file.
fn split_variant(name: &str) -> (&str, Option<&str>) {
    if PathBuf::from(name).is_file() {
        return (name, None);
    }
    match name.rsplit_once('/') {
        Some((scenario, variant)) => (scenario, Some(variant)),
        None => (name, None),
    }
}

async fn run_one(engine: &Engine, selected: &Selected, args: &RunArgs, talk: &Talk) -> Result<Exit> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let resolve = |facts: &Facts| plan::resolve(&selected.scenario, Some(&selected.variant), &selected.source, facts, seed);
    let topology = selected.scenario.topology.to_string();

    if args.dry_run {
        let cluster = match &args.cluster {
            Some(name) => Cluster::open(engine, name).await?,
            None => Cluster::for_topology(engine, &topology).await?.ok_or_else(|| {
                Error::could_not_run(format!("there is no cluster of topology `{topology}` to plan against, and a dry run makes none"))
                    .next(format!("`kchaos up {topology}` makes one; or name one with --cluster"))
            })?,
        };
        let plan = resolve(&facts::read(engine, &cluster.name).await?)?;
        print(&report::terminal::dry_run(&plan));
        return Ok(Exit::Upheld);
    }

    let (cluster, made) = match &args.cluster {
        Some(name) => (Cluster::open(engine, name).await?, false),
        None => {
            let existed = Cluster::for_topology(engine, &topology).await?.is_some();
            (provision::up(engine, &topology, None, &mut |line| say(talk, line)).await?, !existed)
        }
    };
    let exit = experiment(&cluster, resolve(&facts::read(engine, &cluster.name).await?)?, args, talk).await;
    // A cluster that could not be put back is left for whoever wants to look, as its message says.
    if made && !args.keep && !matches!(exit, Ok(Exit::Dirty)) {
        provision::down(engine, &cluster.name).await?;
    }
    exit
}

/// Runs a plan on a cluster, and reports.
async fn experiment(cluster: &Cluster, plan: Plan, args: &RunArgs, talk: &Talk) -> Result<Exit> {
    let lock = Lock::take(cluster)?;
    undoing::refuse_unfinished(cluster)?;
    let dir = RunDir::create(cluster, &plan.scenario)?;
    let journal = Journal::create(&dir)?;
    let guardian = guardian::spawn(&dir, &lock)?;
    let signals = Signals::listen(format!("kchaos rollback {}", dir.id()))?;

    let mut live = Live::new(std::io::stderr().is_terminal(), talk.quiet);
    let mut recorder = Recorder::new(journal, |event| live.event(event));
    experiment::run(plan, cluster, &mut recorder, guardian, signals).await?;
    let events = recorder.into_events();
    live.finish();

    let report = Report::of(&events)?;
    report::write_all(&report, &dir)?;
    if let Some(file) = &args.junit {
        let text = report::junit::render(&report)?;
        std::fs::write(file, text).map_err(|e| Error::could_not_run(format!("cannot write {}: {e}", file.display())))?;
    }
    show(&report, args.output)?;
    say(talk, &format!("report: {}", dir.path().display()));
    Ok(report.exit(args.allow_unsupported))
}

pub(super) fn rollback(run: Option<&str>) -> Result<Exit> {
    super::runtime()?.block_on(async {
        let engine = Engine::connect().await?;
        undoing::rollback(&engine, run).await
    })
}

pub(super) fn judge(run: &str, output: Output, allow_unsupported: bool) -> Result<Exit> {
    let dir = RunDir::find(run)?;
    let recorded = journal::read(&dir)?;
    let report = Report::of(&recorded.events)?;
    show(&report, output)?;
    Ok(report.exit(allow_unsupported))
}

fn show(report: &Report, output: Output) -> Result<()> {
    print(&match output {
        Output::Table => report::terminal::render(report),
        Output::Json => report::json::render(report)?,
        Output::Markdown => report::markdown::render(report),
        Output::Junit => report::junit::render(report)?,
    });
    Ok(())
}

/// To standard output. A reader that has gone away is no reason to stop: the verdict is in the exit code and in the files.
fn print(text: &str) {
    let _ = writeln!(anstream::stdout(), "{}", text.trim_end());
}

fn say(talk: &Talk, line: &str) {
    if !talk.quiet {
        let _ = writeln!(anstream::stderr(), "{line}");
    }
}
