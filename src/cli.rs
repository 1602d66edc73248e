//! The command line: the commands, and the modules that handle them. Results go to standard output, everything else to
//! standard error.

mod clusters;
mod inspect;
mod run;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::agent::AgentCommand;
use crate::cluster::Cluster;
use crate::cluster::docker::Engine;
use crate::error::{Error, Exit, Result};
use crate::plan::KeepAlive;
use crate::provision;
use crate::rollback;
use crate::run_dir::StateDir;
use crate::signal::Signals;
use crate::standard_error::{self, StandardError};

const AFTER_HELP: &str = "\
Exit codes:
    0  every claim is upheld
    1  a claim is refuted
    2  wrong usage, or errors in a scenario file
    3  it could not be run (engine, cluster, journal)
    4  the cluster was left differing from what it was before (wins over all others)
    5  nothing was run: no variant can run on this cluster
    6  a claim is neither upheld nor refuted, or a variant was left out that can't run on this cluster
  130  interrupted, everything undone (after a second signal: by the guardian)

Examples:
  kchaos run node-shutdown              make a cluster (or reuse one), break it, judge, put it back
  kchaos run node-shutdown/pause        another variant of the same failure
  kchaos run node-shutdown --dry-run    what would be done, to which node, and when what is expected
  kchaos rollback --all                 undo what killed runs have left

Environment:
  DOCKER_HOST, DOCKER_CONTEXT   the container engine, as for docker
  KCHAOS_KIND                   the program kind, if it is not the one on the PATH
  KCHAOS_NODE_IMAGE             node image of the clusters that are made, instead of kind's own
  KCHAOS_AGENT                  kchaos for Linux, of the nodes' architecture, where this one is for another system
  KCHAOS_ALLOW_REMOTE_ENGINE    an engine elsewhere is meant, not this machine's
  KCHAOS_CLUSTER                as --name of up; a run breaks only what --cluster names
  KCHAOS_SEED, KCHAOS_COLOR     as --seed and --color
  KCHAOS_LOG                    what is logged, by module: kchaos=debug
  XDG_STATE_HOME                journals and reports of runs are kept in kchaos below it (~/.local/state)
  NO_COLOR, CI                  no colour
  GITHUB_ACTIONS, GITHUB_STEP_SUMMARY   annotations and a job summary are written";

const UP_HELP: &str = "\
single has one control plane and two workers, ha has three control planes, two workers and a load balancer.
Both have short clocks, so that Kubernetes notices a dead node within seconds;
single-default-clocks and ha-default-clocks have Kubernetes' own.

If a cluster of this name is there, but was made from another config or node image, one that you have named is left
alone, and one whose name kchaos chose is made anew.";

/// Breaks a real kind cluster the way Kubernetes documents, and says with evidence whether what is documented holds.
#[derive(Debug, Parser)]
#[command(name = "kchaos", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    talk: Talk,
}

/// How much is said, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Talk {
    /// Say more (repeat for still more; KCHAOS_LOG=kchaos=trace says it by module).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but results and errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, env = "KCHAOS_COLOR")]
    pub color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR or CI is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Format of a result on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs (docs/report.md).
    Json,
    /// For job summaries.
    Markdown,
    /// For CI servers.
    Junit,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Break a cluster and judge what is documented about it.
    Run(RunArgs),
    /// List the scenarios.
    List {
        /// Format on standard output.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Explain a scenario in plain words.
    Show {
        /// NAME, NAME/VARIANT, or a file (with or without /VARIANT). A NAME is looked for in ./scenarios/NAME.yaml first, then among the built-in scenarios.
        #[arg(value_name = "SCENARIO[/VARIANT]")]
        scenario: String,
        /// Print the file itself, to make one of your own from it.
        #[arg(long)]
        yaml: bool,
    },
    /// Check scenario files without running them.
    Check {
        /// Files, or names of built-in scenarios; all of these when none is given.
        files: Vec<PathBuf>,
    },
    /// Make a cluster, or bring one that exists back to Ready.
    #[command(after_help = UP_HELP)]
    Up {
        /// kind config: single, ha, single-default-clocks, ha-default-clocks, or a path.
        #[arg(default_value = "single")]
        topology: String,
        /// Name of the cluster; kchaos-TOPOLOGY when none is given.
        #[arg(long, env = "KCHAOS_CLUSTER")]
        name: Option<String>,
    },
    /// Remove clusters that kchaos made: one by name, or --all.
    Down {
        /// Name of the cluster. It must be one that kchaos made.
        #[arg(required_unless_present = "all")]
        name: Option<String>,
        /// Every cluster that kchaos made.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Check this machine: engine, kind, limits, leftovers.
    Doctor {
        /// Format on standard output.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Undo what a killed run has left.
    Rollback {
        /// Run: its id, its directory, or `latest`.
        #[arg(default_value = "latest")]
        run: String,
        /// Every run that did not end, and the latest of each cluster if it left something.
        #[arg(long, conflicts_with = "run")]
        all: bool,
    },
    /// Judge a recorded run again, without a cluster.
    Judge {
        /// Run: its id, its directory, or `latest`.
        #[arg(default_value = "latest")]
        run: String,
        /// Format of the report on standard output.
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// Count claims that can't be tested on this cluster as passed, if any other was upheld.
        #[arg(long)]
        allow_unsupported: bool,
    },
    /// Print the JSON Schema of scenario files, by which editors complete and check them.
    Schema,
    /// Print completions for a shell.
    #[command(alias = "completion", after_help = "Example: source <(kchaos completions bash)")]
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
    /// Watch over a run and put back what it leaves (started by `run`).
    #[command(hide = true)]
    Guard {
        /// Run directory.
        run: PathBuf,
    },
    /// Run inside a node or pod (started by `run`).
    #[command(hide = true, subcommand)]
    Agent(AgentCommand),
}

/// Format of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Scenarios: NAME, NAME/VARIANT, or a file (with or without /VARIANT). The first variant is run when none is named.
    #[arg(value_name = "SCENARIO[/VARIANT]", required_unless_present = "all")]
    pub scenarios: Vec<String>,
    /// Every built-in scenario in every variant.
    #[arg(long, conflicts_with = "scenarios")]
    pub all: bool,
    /// Every variant of the scenarios named.
    #[arg(long)]
    pub every_variant: bool,
    /// Until every node that could be broken was, instead of only what the seed chooses: `run ha --every-variant --every-node` loses every control plane, every
    /// component and member of etcd of each, the leaders and the load balancer, one after another.
    #[arg(long)]
    pub every_node: bool,
    /// Break this kind cluster of yours. Without it, kchaos uses its own, `kchaos-TOPOLOGY` by the scenario's topology, and makes it if it is not there.
    // No environment variable, on purpose: a user's cluster is broken only if it is named here.
    #[arg(long, alias = "name")]
    pub cluster: Option<String>,
    /// Your own workload: what is in the files *.yaml, *.yml and *.json of this directory is put into a namespace of each run, waited for until it is
    /// rolled out, and removed with it. Only what lives in a namespace, and names none.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Something of yours that is to stay up: `service/NAMESPACE/NAME:PORT[/PATH]`, asked from inside the cluster (without NAMESPACE, a Service of
    /// --manifests), or `http://HOST[:PORT][/PATH]`, asked from here. It is asked by HTTP, without TLS; any status below 500 is an answer. An outage may last as long as BUDGET (5s, 500ms); without one, as long as Kubernetes takes to withdraw a dead pod
    /// from its Service. May be given several times.
    #[arg(long, value_name = "ADDRESS[=BUDGET]")]
    pub keep_alive: Vec<KeepAlive>,
    /// Print targets, steps, undo and windows; touch nothing.
    #[arg(long, conflicts_with_all = ["output", "junit", "summary"])]
    pub dry_run: bool,
    /// Seed of every random choice. Printed and stored; give it to repeat a run.
    #[arg(long, env = "KCHAOS_SEED")]
    pub seed: Option<u64>,
    /// Format of the report on standard output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Write the report as JUnit to this file, too.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write what all runs came to on one page, as Markdown, to this file.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Keep a cluster that this run made, for the next one. Without it, it is removed.
    #[arg(long, conflicts_with = "cluster")]
    pub keep: bool,
    /// Count claims and variants that can't be tested on this cluster as passed, if any other was upheld.
    #[arg(long)]
    pub allow_unsupported: bool,
}

/// Parses the arguments of this process and runs the command.
pub fn main() -> Exit {
    let cli = Cli::parse();
    cli.talk.apply();
    match dispatch(cli.command, &cli.talk) {
        Ok(Exit::Upheld | Exit::Inconclusive | Exit::NothingSelected) if UNPRINTED.load(Ordering::Relaxed) => {
            Exit::CouldNotRun
        }
        Ok(exit) => exit,
        Err(error) => {
            complain(&error.to_string());
            error.exit()
        }
    }
}

fn dispatch(command: Command, talk: &Talk) -> Result<Exit> {
    match command {
        Command::Run(args) => run::run(args, talk),
        Command::List { output } => inspect::list(output),
        Command::Show { scenario, yaml } => inspect::show(&scenario, yaml),
        Command::Check { files } => inspect::check(&files),
        Command::Up { topology, name } => clusters::up(&topology, name.as_deref(), talk),
        Command::Down { name, all } => clusters::down(name.as_deref().filter(|_| !all), talk),
        Command::Doctor { output } => inspect::doctor(output),
        Command::Rollback { run, all } => run::rollback(if all { None } else { Some(&run) }),
        Command::Judge { run, output, allow_unsupported } => run::judge(&run, output, allow_unsupported),
        Command::Schema => inspect::schema(),
        Command::Completions { shell } => inspect::completions(shell),
        Command::Guard { run } => Ok(crate::guardian::main(&run)),
        Command::Agent(command) => crate::agent::main(command),
    }
}

/// A runtime of several threads: the request streams of a run must not wait for its file writes.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::could_not_run(format!("cannot start: {e}")))
}

/// Brings up a cluster. The first signal stops that in an orderly way.
async fn bring_up(
    engine: &Engine,
    topology: &str,
    name: Option<&str>,
    signals: &mut Signals,
    talk: &Talk,
) -> Result<Cluster> {
    signals.on_leaving("If a cluster is left half-made, the next `kchaos up` makes it anew.");
    let stop = CancellationToken::new();
    let stopping = |signal: &str| {
        say(talk, &format!("{signal}: stopping, nothing half-made is left. Once more to leave at once."));
        stop.cancel();
    };
    let mut progress = |line: &str| say(talk, line);
    let cluster = signals.see_through(stopping, provision::up(engine, topology, name, &stop, &mut progress)).await?;
    close_removed(engine, &cluster.name, talk).await;
    Ok(cluster)
}

/// Closes the unfinished runs of a removed cluster of this name. If that fails, the next run there reports what
/// prevents it.
async fn close_removed(engine: &Engine, cluster: &str, talk: &Talk) {
    let tell = |line: &str| say(talk, line);
    let closed = async { rollback::close_removed(&StateDir::from_env()?, engine, cluster, &tell).await };
    if let Err(error) = closed.await {
        tell(&error.to_string());
    }
}

/// Whether something could not be printed, though somebody was there to read it.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Prints to standard output. If the reader has gone away, that is no reason to stop: the verdict is in the exit code
/// and in the files. If there is no room for it, the command goes on, and fails in the end.
fn print(text: &str) {
    standard_error::settle();
    if let Err(e) = writeln!(anstream::stdout(), "{}", text.trim_end())
        && e.kind() != io::ErrorKind::BrokenPipe
        && !UNPRINTED.swap(true, Ordering::Relaxed)
    {
        complain(&format!("cannot write to standard output: {e}"));
    }
}

/// Prints an error to standard error.
fn complain(what: &str) {
    // Diagnostics of a file already start with the word.
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let red = anstyle::AnsiColor::Red.on_default().bold();
    standard_error::line(&format!("{red}error:{} {what}", anstyle::Reset));
}

/// Prints a line to standard error, unless `--quiet` is given.
fn say(talk: &Talk, line: &str) {
    if !talk.quiet {
        standard_error::line(line);
    }
}

impl Talk {
    /// Sets up colour and logging for the process.
    fn apply(&self) {
        let choice = match self.color {
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
            // A CI server's log is no terminal, even if it pretends to be one.
            Color::Auto if std::env::var_os("CI").is_some() => anstream::ColorChoice::Never,
            Color::Auto => anstream::ColorChoice::Auto,
        };
        choice.write_global();
        let level = match (self.quiet, self.verbose) {
            (true, _) => "kchaos=error,error,kube_client=off",
            // An API that does not answer is an observation here, not an error.
            (_, 0) => "warn,kube_client=off",
            (_, 1) => "kchaos=info,warn,kube_client=off",
            (_, 2) => "kchaos=debug,info",
            _ => "trace",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("KCHAOS_LOG").unwrap_or_else(|_| level.into());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(StandardError::raw);
        log.with_ansi(standard_error::is_coloured()).without_time().init();
    }
}
