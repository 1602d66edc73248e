//! kind, the program: finds it, asks for its version, and runs it to make nodes.
//!
//! It runs against the engine that kchaos talks to, whatever the environment says. It writes only a kubeconfig of its
//! own, which is thrown away, so the user's current context stays what it is.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::workspace::Workspace;
use super::{Wanted, stopped};
use crate::cluster::docker::Engine;
use crate::error::{Error, Result};

/// Environment variable that names the program, if it is not the `kind` on the path.
const KIND: &str = "KCHAOS_KIND";
/// How long kind may take to make a cluster: it may have to pull the node image first.
const CREATE_WITHIN: Duration = Duration::from_secs(900);
/// How long kind may be silent before that is mentioned.
const SILENCE: Duration = Duration::from_secs(20);
/// kind's name for the step in which it makes the containers. The engine carries out a request that it has received
/// even if kind is gone.
const MAKES_CONTAINERS: &str = "Preparing nodes";
/// How long saving the nodes' logs may take.
const LOGS_WITHIN: Duration = Duration::from_secs(60);

/// The program.
#[derive(Debug, Clone)]
pub struct Kind(PathBuf);

impl Kind {
    /// Finds the program: `$KCHAOS_KIND`, else `kind` on the path.
    ///
    /// # Errors
    /// If there is none.
    pub fn find() -> Result<Self> {
        let missing = |what: String| {
            Err(Error::could_not_run(what).next(
                "install it (https://kind.sigs.k8s.io), or name the program by KCHAOS_KIND; `make setup` gets one, \
                 and `source ~/.cache/kchaos/testbed.env` names it",
            ))
        };
        if let Some(named) = std::env::var_os(KIND).filter(|n| !n.is_empty()) {
            let path = PathBuf::from(named);
            return if path.is_file() {
                Ok(Self(path))
            } else {
                missing(format!("{KIND} names {}, which is not there", path.display()))
            };
        }
        let paths = std::env::var_os("PATH").unwrap_or_default();
        match std::env::split_paths(&paths).map(|dir| dir.join("kind")).find(|file| file.is_file()) {
            Some(path) => Ok(Self(path)),
            None => missing("kind is not installed, and it is what makes clusters".into()),
        }
    }

    /// Path of the program.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Its version, such as `v0.30.0`.
    ///
    /// # Errors
    /// If it can't be run.
    pub async fn version(&self) -> Result<String> {
        let cannot = |why: String| Error::could_not_run(format!("{} can't be run: {why}", self.0.display()));
        let output = Command::new(&self.0).args(["version", "-q"]).stdin(Stdio::null()).kill_on_drop(true).output();
        match tokio::time::timeout(Duration::from_secs(10), output).await {
            Ok(Ok(output)) if output.status.success() => {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Ok(if version.starts_with('v') { version } else { format!("v{version}") })
            }
            Ok(Ok(output)) => Err(cannot(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            Ok(Err(e)) => Err(cannot(e.to_string())),
            Err(_) => Err(cannot("it does not come back".into())),
        }
    }

    /// Makes the nodes of a cluster, on the network that has the cluster's name.
    ///
    /// If it fails or is stopped, what was made stays. But once it returns nothing more is made: it waits for
    /// containers that the engine was asked for.
    ///
    /// # Errors
    /// If it is stopped, or kind fails or takes too long. The message has kind's last words, the workspace all of its
    /// output.
    pub(super) async fn create(
        &self,
        engine: &Engine,
        Wanted { name, topology, image }: Wanted<'_>,
        workspace: &Workspace,
        stop: &CancellationToken,
        say: &mut impl FnMut(fmt::Arguments<'_>),
    ) -> Result<()> {
        let (config, log) = (workspace.file("config.yaml"), workspace.file("kind.log"));
        let failed =
            |why: &dyn fmt::Display| Error::could_not_run(format!("kind could not make cluster {name}: {why}"));
        fs::write(&config, &topology.text).map_err(|e| failed(&e))?;
        let mut log = File::create(&log).map_err(|e| failed(&e))?;
        let mut command = self.command(engine, workspace);
        command.args(["create", "cluster", "--retain", "--name", name, "--config"]).arg(&config);
        command.args(image.iter().flat_map(|image| ["--image", image]));
        command.env("KIND_EXPERIMENTAL_DOCKER_NETWORK", name).stdout(Stdio::null()).stderr(Stdio::piped());
        // kind gets a process group of its own: kchaos handles a terminal's Ctrl-C, and what kind has started ends with
        // the group.
        let mut child = command.process_group(0).spawn().map_err(|e| failed(&e))?;
        let mut group = Group(child.id());
        let stderr = child.stderr.take().ok_or_else(|| failed(&"it has no output"))?;
        let mut lines = BufReader::new(stderr).lines();
        let give_up = Instant::now() + CREATE_WITHIN;
        let mut tail: Vec<String> = Vec::new();
        let mut doing = String::from("starting");
        loop {
            let next = tokio::select! {
                () = stop.cancelled(), if !doing.starts_with(MAKES_CONTAINERS) => return Err(stopped(name)),
                next = tokio::time::timeout(SILENCE, lines.next_line()) => next,
            };
            match next {
                Ok(Ok(Some(line))) => {
                    let _ = writeln!(log, "{line}");
                    let line = line.trim();
                    // kind announces a step with a dot, and marks it with a tick or cross when it is over.
                    if let Some(step) = line.strip_prefix('•') {
                        doing = step.trim().trim_end_matches('.').trim().to_owned();
                    } else if line.starts_with('✓') {
                        doing.clear();
                        say(format_args!("{line}"));
                    } else if !line.is_empty() {
                        tail.push(line.to_owned());
                    }
                }
                Ok(Ok(None)) => break,
                Ok(Err(e)) => return Err(failed(&e)),
                Err(_) if Instant::now() > give_up => {
                    return Err(failed(&format_args!("it was still at \"{doing}\" after {CREATE_WITHIN:?}")));
                }
                Err(_) => say(format_args!("still: {doing}")),
            }
        }
        let status = child.wait().await.map_err(|e| failed(&e))?;
        group.0 = None;
        // The file holds the key of the cluster's administrator, and nobody reads it.
        let _ = fs::remove_file(workspace.file("kubeconfig"));
        if status.success() {
            return Ok(());
        }
        let errors: Vec<&str> = tail.iter().map(String::as_str).filter(|l| l.starts_with("ERROR")).collect();
        Err(failed(&match errors.is_empty() {
            true => format!("{status}: {}", tail.last().map_or("", String::as_str)),
            false => errors.join(" "),
        }))
    }

    /// Saves the nodes' logs in the workspace, as far as they are available.
    pub(super) async fn export_logs(&self, engine: &Engine, name: &str, workspace: &Workspace) {
        let mut command = self.command(engine, workspace);
        command
            .args(["export", "logs", "--name", name])
            .arg(workspace.file("nodes"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = tokio::time::timeout(LOGS_WITHIN, command.status()).await;
    }

    fn command(&self, engine: &Engine, workspace: &Workspace) -> Command {
        let mut command = Command::new(&self.0);
        command
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .env("KIND_EXPERIMENTAL_PROVIDER", "docker")
            .env("DOCKER_HOST", &engine.endpoint().host)
            .env_remove("DOCKER_CONTEXT")
            .env("KUBECONFIG", workspace.file("kubeconfig"));
        command
    }
}

/// The process group of a program that has not been waited for, killed on drop. If only the program were killed, the
/// engine commands that it has started would go on.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| Pid::from_raw(id.cast_signed()));
        let _ = leader.map(|group| kill_process_group(group, Signal::KILL));
    }
}
