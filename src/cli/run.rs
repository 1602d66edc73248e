//! `run`, `rollback` and `judge`: everything that deals with runs.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::path::Path;

use super::{Output, RunArgs, Talk, print, runtime, say};
use crate::cluster::Cluster;
use crate::cluster::docker::Engine;
use crate::cluster::facts::{self, Facts};
use crate::error::{Error, Exit, Result};
use crate::event::End;
use crate::experiment::{self, Recorder};
use crate::fault;
use crate::guardian;
use crate::journal::{self, Journal};
use crate::lock::Lock;
use crate::plan::{self, Kept, Plan};
use crate::provision;
use crate::report::live::Live;
use crate::report::{self, Report, json, junit, markdown, several_runs, terminal};
use crate::rollback::{self as undoing, Selection};
use crate::run_dir::StateDir;
use crate::scenario::{self, Scenario};
use crate::signal::Signals;
use crate::user_manifests::Manifests;
use crate::workload::{self, Theirs};

/// Seeds are chosen below this number: programs that read reports may keep numbers as floating point, which is exact up
/// to here.
const SEEDS_BELOW: u64 = 1 << 53;

/// A scenario and the variant of it to run.
struct Selected {
    source: String,
    scenario: Scenario,
    variant: String,
}

/// A cluster for runs, one after another.
struct Ground {
    cluster: Cluster,
    /// The topology for which it was requested.
    topology: String,
    /// Whether this command made it.
    made: bool,
    /// What was read of it since the last run on it. Many plans may be printed without a run between them.
    facts: Option<Facts>,
}

impl Ground {
    /// The cluster's facts. The leaders are read only for a variant that breaks one, and each time.
    async fn facts(&mut self, selected: &Selected) -> Result<Facts> {
        let read = match self.facts.take() {
            Some(facts) => facts,
            None => facts::read(&self.cluster.engine, &self.cluster.name).await?,
        };
        let mut facts = self.facts.insert(read).clone();
        if selected.scenario.breaks_a_leader(&selected.variant) {
            facts.leaders = facts::read_leaders(&self.cluster.client().await?).await?;
        }
        Ok(facts)
    }
}

/// What came of everything selected.
#[derive(Default)]
struct Done {
    /// Of the runs, in their order.
    reports: Vec<Report>,
    /// How many plans a dry run printed.
    planned: usize,
    /// What can't be run on its cluster, and why.
    left_out: Vec<String>,
}

pub(super) fn run(args: RunArgs, talk: &Talk) -> Result<Exit> {
    let selected = select(&args)?;
    let manifests = bring(&args)?;
    for file in [&args.junit, &args.summary].into_iter().flatten() {
        can_be_written(file)?;
    }
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let engine = signals.abandon(Engine::connect()).await?;
        let mut done = Done::default();
        let ran = run_all(&engine, &selected, manifests.as_ref(), &args, &mut signals, talk, &mut done).await;
        if args.dry_run {
            let nothing = done.planned == 0;
            return ran.map(|()| if nothing { Exit::NothingSelected } else { Exit::Upheld });
        }
        let Done { reports, left_out, .. } = done;
        let mut not_made = left_out.clone();
        not_made.extend(ran.as_ref().err().map(Error::in_one_line));
        let are_more = selected.len() > 1 || args.every_node;
        if ran.is_ok() && signals.seen() && are_more {
            not_made.push("interrupted".into());
        }
        // Also publish the runs before one that could not be made.
        let published = publish_all(&reports, &not_made, &args);
        let exits = reports.iter().map(|report| report.exit(args.allow_unsupported));
        match ran {
            Ok(()) => {}
            // What the runs before that have found may be graver still.
            Err(error) if gravest(exits.clone()).is_some_and(|exit| weight(exit) > weight(error.exit())) => {
                super::complain(&error.to_string());
            }
            // It is graver than a report that could not be written.
            Err(error) => {
                published.unwrap_or_else(|lesser| super::complain(&lesser.to_string()));
                return Err(error);
            }
        }
        if !reports.is_empty()
            && !signals.seen()
            && let Some(hint) = of_more(&selected, &args)
        {
            say(talk, &hint);
        }
        let unpublished = published.err().map(|error| {
            super::complain(&error.to_string());
            error.exit()
        });
        // What could not be tested here counts as what is unsupported.
        let untested = !left_out.is_empty() && !reports.is_empty() && !args.allow_unsupported;
        let exits = exits.chain(untested.then_some(Exit::Inconclusive)).chain(unpublished);
        Ok(match gravest(exits).unwrap_or(Exit::NothingSelected) {
            Exit::Dirty => Exit::Dirty,
            // A signal that came too late to cut an experiment short counts too, so that its sender sees that it was
            // noticed.
            _ if signals.seen() => Exit::Interrupted,
            exit => exit,
        })
    })
}

/// What to tell somebody who has named a scenario of many variants, and got the first.
fn of_more(selected: &[Selected], args: &RunArgs) -> Option<String> {
    let [only] = selected else { return None };
    let variants = only.scenario.variants.len();
    let chosen = args.scenarios.iter().any(|name| scenario::split_variant(name).1.is_some());
    (variants > 1 && !chosen && !args.every_variant).then(|| {
        let (variant, of) = (&only.variant, &only.scenario.scenario);
        format!("This was `{variant}`, the first of {variants} variants of {of}: --every-variant runs all of them.")
    })
}

/// Checks that a report has a place to go to, before anything is broken for it.
fn can_be_written(file: &Path) -> Result<()> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let why = match (file.is_dir(), dir.is_dir()) {
        (true, _) => "it is a directory".to_owned(),
        (false, false) => format!("there is no directory {}", dir.display()),
        (false, true) => return Ok(()),
    };
    Err(Error::usage(format!("cannot write {}: {why}", file.display())))
}

/// Reads the user's own workload, and checks that it contains every Service of it that is to be kept alive.
fn bring(args: &RunArgs) -> Result<Option<Manifests>> {
    let manifests = args.manifests.as_deref().map(Manifests::read).transpose()?;
    for kept in &args.keep_alive {
        if let Kept::OfManifests(request) = &kept.address {
            manifests.as_ref().ok_or_else(|| kept.address.without_manifests())?.serve(request)?;
        }
    }
    Ok(manifests)
}

/// Runs everything selected until something prevents more.
async fn run_all(
    engine: &Engine,
    selected: &[Selected],
    manifests: Option<&Manifests>,
    args: &RunArgs,
    signals: &mut Signals,
    talk: &Talk,
    done: &mut Done,
) -> Result<()> {
    let mut ground: Option<Ground> = None;
    // Topologies that a dry run has no cluster of, and whether it has one of another.
    let (mut absent, mut entered) = (BTreeSet::new(), false);
    for selected in selected {
        let topology = selected.scenario.topology_from(&selected.source);
        if absent.contains(&topology) {
            continue;
        }
        // Clusters made here never exist side by side, unless they are kept.
        if let Some(other) = ground.take_if(|ground| ground.topology != topology) {
            leave(engine, other, args, signals, talk).await?;
        }
        if signals.seen() {
            break;
        }
        let mut there = match ground.take() {
            Some(there) => there,
            None => match enter(engine, &topology, args, signals, talk).await? {
                Some(there) => there,
                None if args.all => {
                    say(talk, &format!("{}: left out", no_cluster_of(&topology).in_one_line()));
                    absent.insert(topology);
                    continue;
                }
                None => return Err(no_cluster_of(&topology)),
            },
        };
        entered = true;
        let ran = run_variant(&mut there, selected, manifests, args, signals, talk, done).await;
        let goes_on = match ran {
            Ok(ran) => matches!(ran, Ran::All),
            Err(error) => {
                // If it is not known how the cluster was left, keep it for inspection.
                if error.exit() != Exit::Dirty {
                    let left = leave(engine, there, args, signals, talk).await;
                    left.unwrap_or_else(|also| say(talk, &also.to_string()));
                }
                return Err(error);
            }
        };
        ground = Some(there);
        if !goes_on {
            break;
        }
    }
    if let Some(topology) = absent.first().filter(|_| !entered && !signals.seen()) {
        return Err(no_cluster_of(topology));
    }
    match ground {
        Some(ground) if !done.reports.iter().any(is_dirty) => leave(engine, ground, args, signals, talk).await,
        _ => Ok(()),
    }
}

/// How far the runs of a variant got.
enum Ran {
    /// All that can be made on this cluster.
    All,
    /// Until a signal came, or a run could not put the cluster back, so that no more runs can follow on it.
    UntilStopped,
}

fn is_dirty(report: &Report) -> bool {
    report.exit(true) == Exit::Dirty
}

fn no_cluster_of(topology: &str) -> Error {
    Error::could_not_run(format!(
        "there is no cluster of topology `{topology}` to plan against, and a dry run makes none"
    ))
    .next(format!("`kchaos up {topology}` makes one; or name one with --cluster"))
}

/// Provides the cluster: the one named with `--cluster`, else one of this topology, existing or new. `None` if there is
/// none and this is a dry run, which makes none.
async fn enter(
    engine: &Engine,
    topology: &str,
    args: &RunArgs,
    signals: &mut Signals,
    talk: &Talk,
) -> Result<Option<Ground>> {
    let (cluster, made) = match &args.cluster {
        Some(name) => (signals.abandon(Cluster::open(engine, name)).await?, false),
        None if args.dry_run => match signals.abandon(provision::existing(engine, topology)).await? {
            Some(there) => (there, false),
            None => return Ok(None),
        },
        None => {
            let existed = signals.abandon(provision::existing(engine, topology)).await?.is_some();
            (super::bring_up(engine, topology, None, signals, talk).await?, !existed)
        }
    };
    Ok(Some(Ground { cluster, topology: topology.to_owned(), made, facts: None }))
}

/// Removes a cluster that this command made, unless it is to be kept.
async fn leave(engine: &Engine, ground: Ground, args: &RunArgs, signals: &mut Signals, talk: &Talk) -> Result<()> {
    if !ground.made || args.keep {
        return Ok(());
    }
    let name = &ground.cluster.name;
    signals.on_leaving(format!("Cluster {name} may be half removed: kchaos down {name}"));
    let removing = |signal: &str| say(talk, &format!("{signal}: removing cluster {name}, then that is all."));
    signals.see_through(removing, provision::down(engine, name)).await
}

/// Publishes what concerns all runs, once they are over or one could not be made.
fn publish_all(reports: &[Report], not_made: &[String], args: &RunArgs) -> Result<()> {
    if reports.is_empty() {
        return Ok(());
    }
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).map_err(|e| Error::could_not_run(format!("cannot write {}: {e}", file.display())))
    };
    if let Some(file) = &args.junit {
        write(file, junit::render(reports, not_made)?)?;
    }
    if let Some(file) = &args.summary {
        write(file, several_runs::markdown(reports, not_made))?;
    }
    if args.output != Output::Table {
        return show(reports, not_made, args.output);
    }
    if reports.len() + not_made.len() > 1 {
        print(&terminal::several_runs(reports, not_made, terminal::width(std::io::stdout())));
    }
    Ok(())
}

/// The gravest of several exit codes.
fn gravest(exits: impl Iterator<Item = Exit>) -> Option<Exit> {
    exits.max_by_key(|exit| weight(*exit))
}

fn weight(exit: Exit) -> u8 {
    match exit {
        Exit::Dirty => 7,
        Exit::Interrupted => 6,
        Exit::Refuted => 5,
        Exit::CouldNotRun | Exit::Usage => 4,
        Exit::Inconclusive => 3,
        Exit::NothingSelected => 2,
        Exit::Upheld => 1,
    }
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
        let (name, variant) = scenario::split_variant(name);
        if let (Some(variant), true) = (variant, args.every_variant) {
            return Err(Error::usage(format!("`{name}/{variant}` is one variant, and --every-variant means all"))
                .next("leave one of the two out"));
        }
        let (source, scenario) = scenario::open(name)?;
        let every = variant.is_none() && (args.all || args.every_variant);
        let variants: Vec<String> = if every {
            scenario.variants.iter().map(|v| v.name.to_string()).collect()
        } else {
            vec![scenario.variant(variant)?.name.to_string()]
        };
        selected.extend(variants.into_iter().map(|variant| Selected {
            source: source.clone(),
            scenario: scenario.clone(),
            variant,
        }));
    }
    Ok(selected)
}

/// Runs one variant. With `--every-node`, it runs as often as it takes to break every node.
async fn run_variant(
    ground: &mut Ground,
    selected: &Selected,
    manifests: Option<&Manifests>,
    args: &RunArgs,
    signals: &mut Signals,
    talk: &Talk,
    done: &mut Done,
) -> Result<Ran> {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(0..SEEDS_BELOW));
    let variant = selected.scenario.variant(Some(&selected.variant))?;
    // Each run is planned on the cluster as it is at that time.
    let plan = |facts: &Facts, node: Option<&str>| {
        let resolve = |seed| plan::resolve(&selected.scenario, Some(&selected.variant), &selected.source, facts, seed);
        let mut plan = match node {
            Some(node) => plan::breaking(node, seed, resolve)?,
            None => resolve(seed)?,
        };
        if let Some(manifests) = manifests {
            plan.bring(manifests);
        }
        plan.keep_alive(&args.keep_alive, variant.ends_before.is_some())?;
        Ok::<_, Error>(plan)
    };
    signals.on_leaving("Nothing was broken.");
    // Held already while the plan is made: whatever another run has broken must not be taken for a fact.
    let mut lock = match args.dry_run {
        true => None,
        false => Some(take_lock(ground, signals).await?),
    };
    let facts = signals.abandon(ground.facts(selected)).await?;
    // Of many runs, those that can't be made here are left out.
    let mut leave_out = |node: Option<&str>, why: String| {
        let with = node.map(|node| format!(" with {node}")).unwrap_or_default();
        let why = format!("{}/{}{with}: {why}", selected.scenario.scenario, selected.variant);
        say(talk, &format!("{why}: left out"));
        done.left_out.push(why);
    };
    let mut many = args.all || args.every_variant;
    if many && let Err(error) = plan::fits(&selected.scenario, variant, &facts) {
        leave_out(None, error.in_one_line());
        return Ok(Ran::All);
    }
    let theirs = match manifests {
        Some(manifests) => Some(signals.abandon(known(manifests, &ground.cluster)).await?),
        None => None,
    };
    let mut nodes = vec![None];
    if args.every_node {
        let found = plan::breakable(&selected.scenario, variant, &facts);
        // An API-only fault breaks no node.
        if !found.is_empty() {
            nodes = found.into_iter().map(Some).collect();
            many |= nodes.len() > 1;
        }
    }
    let mut broken = BTreeSet::new();
    for node in nodes {
        if node.as_ref().is_some_and(|node| broken.contains(node)) {
            continue;
        }
        signals.on_leaving("Nothing was broken.");
        if lock.is_none() && !args.dry_run {
            lock = Some(take_lock(ground, signals).await?);
        }
        let mut facts = signals.abandon(ground.facts(selected)).await?;
        if selected.scenario.asks_who_reports_where(&selected.variant) {
            let reading = facts::read_reporting(&ground.cluster.engine, &facts);
            facts.reporting = signals.abandon(async { Ok(reading.await) }).await?;
        }
        let planned = plan(&facts, node.as_deref());
        let plan = match planned.and_then(|plan| plan::loses_nothing_for_good(&plan).map(|()| plan)) {
            // Not every cluster has a node for every target.
            Err(error) if many && error.exit() == Exit::CouldNotRun => {
                leave_out(node.as_deref(), error.in_one_line());
                continue;
            }
            checked => checked?,
        };
        if many
            && !args.dry_run
            && let Some(what) = signals.abandon(lacking(ground, &plan)).await?
        {
            leave_out(node.as_deref(), what);
            continue;
        }
        broken.extend(plan.faults.iter().map(|fault| fault.node.name.clone()));
        let Some(lock) = lock.take() else {
            signals.abandon(workload::check_theirs(&ground.cluster, &plan)).await?;
            print(&terminal::dry_run(&plan, manifests, terminal::width(std::io::stdout())));
            done.planned += 1;
            continue;
        };
        ground.facts = None;
        let report = experiment(&ground.cluster, lock, plan, theirs.as_ref(), args, signals, talk).await?;
        let dirty = is_dirty(&report);
        done.reports.push(report);
        if dirty || signals.seen() {
            return Ok(Ran::UntilStopped);
        }
    }
    Ok(Ran::All)
}

/// What a node lacks for a fault of the plan, if any does.
async fn lacking(ground: &Ground, plan: &Plan) -> Result<Option<String>> {
    for planned in &plan.faults {
        if let Some(what) = fault::lacks(&ground.cluster.engine, planned).await? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Locks a cluster for one run. An earlier run that did not end may be the reason why something can't be read or broken,
/// so that is what must be said first.
async fn take_lock(ground: &Ground, signals: &mut Signals) -> Result<Lock> {
    let Cluster { engine, name, .. } = &ground.cluster;
    let engine = signals.abandon(engine.id()).await?;
    let lock = Lock::take(&StateDir::from_env()?, &engine, name)?;
    lock.refuse_unfinished()?;
    Ok(lock)
}

/// The user's own workload, once the cluster has confirmed that it knows all its kinds of objects.
async fn known(manifests: &Manifests, cluster: &Cluster) -> Result<Theirs> {
    Theirs::of(manifests, &cluster.client().await?).await
}

/// Runs a plan on a cluster and reports.
async fn experiment(
    cluster: &Cluster,
    lock: Lock,
    plan: Plan,
    theirs: Option<&Theirs>,
    args: &RunArgs,
    signals: &mut Signals,
    talk: &Talk,
) -> Result<Report> {
    signals.abandon(workload::check_theirs(cluster, &plan)).await?;
    for planned in &plan.faults {
        // If a target can't be broken, say so before anything is added to the cluster.
        signals.abandon(fault::prepare(&cluster.engine, planned)).await?;
        if let Some(remedy) = plan.does() {
            signals.abandon(fault::prepare_remedy(&cluster.engine, planned, remedy)).await?;
        }
    }
    let dir = lock.begin(&plan.scenario)?;
    let mut journal = Journal::create(&dir)?;
    let guardian = guardian::spawn(&dir, &lock)?;
    journal.guarded_by(guardian.lease());
    signals
        .on_leaving(format!("The guardian goes on putting everything back; if it can't: kchaos rollback {}", dir.id()));

    let mut live = Live::new(std::io::stderr().is_terminal(), talk.quiet);
    let mut recorder = Recorder::new(journal, |told| live.told(told));
    let ran = experiment::run(plan, theirs, cluster, &mut recorder, &guardian, signals).await;
    let mut events = recorder.into_events();
    live.finish();
    if let Err(error) = &ran {
        tracing::error!("{error}");
    }
    // The guardian now puts back whatever is not put back yet. That blocks, and signals must still be heard meanwhile.
    let handed_over = tokio::task::spawn_blocking(|| guardian.hand_over());
    let waiting = |signal: &str| {
        say(
            talk,
            &format!("{signal}: waiting for the guardian, which puts everything back. Once more to leave at once."),
        );
    };
    let end = signals
        .see_through(waiting, handed_over)
        .await
        .map_err(|e| Error::with_exit(Exit::Dirty, format!("the guardian was not waited for: {e}")))?
        .map_err(|e| e.exiting(Exit::Dirty))?;
    let Some(end) = end else {
        return Err(Error::with_exit(Exit::Dirty, format!("run {} is not put back", dir.id()))
            .next(format!("kchaos rollback {}", dir.id())));
    };
    // Whatever else goes wrong now, that something is left broken wins over it.
    let or_dirty = |error: Error| if end == End::Clean { error } else { error.exiting(Exit::Dirty) };
    if ran.is_err() {
        events = journal::read(&dir).map_err(or_dirty)?.events;
    }

    let report = Report::of(&events).map_err(or_dirty)?;
    report::write_all(&report, dir.path()).map_err(or_dirty)?;
    if args.output == Output::Table {
        print(&terminal::render(&report, Some(dir.path()), terminal::width(std::io::stdout())));
    }
    publish(&report, talk, dir.path());
    Ok(report)
}

/// Publishes a report to CI servers that have a place for it.
fn publish(report: &Report, talk: &Talk, dir: &Path) {
    if std::env::var_os("GITHUB_ACTIONS").is_some() {
        say(talk, &markdown::annotations(report));
    }
    if let Some(summary) = std::env::var_os("GITHUB_STEP_SUMMARY") {
        let appended = std::fs::OpenOptions::new().create(true).append(true).open(&summary);
        if let Err(error) = appended.and_then(|mut file| file.write_all(markdown::render(report).as_bytes())) {
            tracing::warn!("cannot write the job summary: {error}; it is in {}", dir.display());
        }
    }
}

pub(super) fn rollback(run: Option<&str>) -> Result<Exit> {
    let selection = run.map_or(Selection::All, |run| Selection::Run(run.to_owned()));
    let tell = |line: &str| print(line);
    runtime()?.block_on(undoing::rollback(&StateDir::from_env()?, &selection, &tell))
}

pub(super) fn judge(run: &str, output: Output, allow_unsupported: bool) -> Result<Exit> {
    let dir = StateDir::from_env()?.find(run)?;
    let recorded = journal::read(&dir)?;
    let report = Report::of(&recorded.events)?;
    if report.cleanup.end.is_none()
        && let Some(at_work) = Lock::at_work(&dir)?
    {
        return Err(Error::could_not_run(format!("run {} is {at_work}", dir.id())).next("judge it when it has ended"));
    }
    show(std::slice::from_ref(&report), &[], output)?;
    Ok(report.exit(allow_unsupported))
}

/// Prints reports in the requested format.
fn show(reports: &[Report], not_made: &[String], output: Output) -> Result<()> {
    match output {
        Output::Table => {
            for report in reports {
                print(&terminal::render(report, None, terminal::width(std::io::stdout())));
            }
        }
        Output::Json => {
            for report in reports {
                print(&json::render(report)?);
            }
        }
        Output::Markdown => {
            for report in reports {
                print(&markdown::render(report));
            }
        }
        Output::Junit => print(&junit::render(reports, not_made)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_the_gravest_counts() {
        // As the README has it: 4, 130, 1, 3, 6, 5, 0.
        let order = [
            Exit::Dirty,
            Exit::Interrupted,
            Exit::Refuted,
            Exit::CouldNotRun,
            Exit::Inconclusive,
            Exit::NothingSelected,
            Exit::Upheld,
        ];
        for (n, worse) in order.iter().enumerate() {
            for less in &order[n..] {
                assert_eq!(gravest([*less, *worse].into_iter()), Some(*worse));
            }
        }
        assert_eq!(gravest(std::iter::empty()), None);
    }
}
