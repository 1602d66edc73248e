//! Clusters that plain kind made, as users have them: addresses that nobody holds, topologies and stores of their own, and
//! a Service that kchaos knows only by its name.
//!
//! All of it takes long, so it is run only by `make soak` (`KCHAOS_SOAK=1`), one trial after another. Without an engine
//! the trials are skipped, with the reason; `KCHAOS_REQUIRE=1` turns a skip into a failure.

#[allow(dead_code, reason = "each program of tests uses a part of it")]
mod lab;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lab::{docker, succeeds, wait_for};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tempfile::TempDir;

const SINGLE: &str = include_str!("../kind-configs/single.yaml");
const HA: &str = include_str!("../kind-configs/ha.yaml");
const DEFAULT_CLOCKS: &str = include_str!("../kind-configs/single-default-clocks.yaml");

/// A Service with a pod on each node.
const EVERYWHERE: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: mine}
spec:
  selector: {matchLabels: {app: mine}}
  template:
    metadata: {labels: {app: mine}}
    spec: {containers: [{name: app, image: IMAGE, args: [netexec, --http-port=8080]}]}
---
apiVersion: v1
kind: Service
metadata: {name: mine}
spec: {selector: {app: mine}, ports: [{port: 80, targetPort: 8080}]}
";

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let mut trials = Vec::new();
    if std::env::var_os("KCHAOS_SOAK").is_some() {
        trials = vec![
            trial("windows_of_default_clocks_hold", default_clocks),
            trial("an_ha_set_up_of_three_workers_is_validated", validated),
            trial("an_etcd_on_a_bind_mount_outlives_its_node_and_is_recovered", bind_mounted),
            trial("an_etcd_in_memory_is_not_taken_down_with_its_node", in_memory),
            trial("a_node_that_is_removed_in_mid_run_is_given_up", removed),
        ];
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn trial(name: &str, test: fn() -> Result<(), String>) -> Trial {
    let required = std::env::var_os("KCHAOS_REQUIRE").is_some();
    Trial::ignorable_test(name, move || {
        if let (Err(why), false) = (lab::engine(), required) {
            return Ok(Completion::ignored_with(why));
        }
        test().map(|()| Completion::Completed).map_err(Failed::from)
    })
}

/// A run that takes as long as Kubernetes takes by itself.
fn default_clocks() -> Result<(), String> {
    let own = Own::made("kchaos-test-own", DEFAULT_CLOCKS)?;
    own.serves()?;
    own.run(&["node-shutdown/power-off", "--keep-alive", "service/default/mine:80=66s"]).upheld()
}

/// What a team runs before it relies on its set-up: losses that it must survive, and one that it can't. Its API servers
/// log nothing, so of one loss a claim can't be tested.
fn validated() -> Result<(), String> {
    let own = Own::made("kchaos-test-own-ha", &with(HA, "- role: worker\n", "- role: worker\n- role: worker\n"))?;
    own.serves()?;
    let page = own.state.path().join("ha.md");
    let summary = page.to_str().ok_or("the path of the page is no text")?;
    let losses = ["ha/node-off", "ha/member-lost", "ha/scheduler-down", "ha/quorum-lost"];
    let args = ["--allow-unsupported", "--keep-alive", "service/default/mine:80", "--summary", summary];
    own.run(&[&losses[..], &args].concat()).upheld()?;
    let page = std::fs::read_to_string(page).map_err(|e| e.to_string())?;
    let tells = losses.iter().chain(&[
        "Of 4 runs: 1 unsupported, 3 upheld",
        "the audit logs of its API servers don't tell",
        "more than the set-up is meant to survive",
    ]);
    match tells.copied().find(|told| !page.contains(told)) {
        None => Ok(()),
        Some(missing) => Err(format!("the page does not say {missing:?}:\n{page}")),
    }
}

fn bind_mounted() -> Result<(), String> {
    // On a disk, and not in memory as /tmp may be.
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|e| e.to_string())?;
    let mount = format!(
        "- role: control-plane\n  extraMounts:\n  - {{hostPath: {}, containerPath: /var/lib/etcd}}\n",
        data.path().display()
    );
    let own = Own::made("kchaos-test-own", &with(SINGLE, "- role: control-plane\n", &mount))?;
    if !data.path().join("member").is_dir() {
        return Err("etcd keeps its data elsewhere".into());
    }
    own.run(&["storage-lost/restarted", "storage-lost/wiped"]).upheld()
}

fn in_memory() -> Result<(), String> {
    let configured = "kind: ClusterConfiguration\n";
    let in_memory = format!("{configured}  etcd: {{local: {{dataDir: /run/etcd}}}}\n");
    let own = Own::made("kchaos-test-own", &with(SINGLE, configured, &in_memory))?;
    let Ran { code, said } = own.run(&["storage-lost/restarted"]);
    if code != Some(3) || !said.contains("its etcd keeps its data in memory (/run/etcd)") {
        return Err(format!("exit code {code:?}: {said}"));
    }
    // Its loss while the node is up can be undone.
    own.run(&["storage-lost/wiped"]).upheld()?;
    // The restart that is refused would have lost the store, as `storage-lost/restarted-on-ephemeral` makes happen by other
    // means.
    let node = format!("{}-control-plane", own.name);
    let kubectl = |args: &[&str]| {
        let whole = ["exec", &node, "kubectl", "--kubeconfig=/etc/kubernetes/super-admin.conf"];
        docker(&[&whole, args].concat())
    };
    kubectl(&["create", "configmap", "sentinel"])?;
    docker(&["restart", &node])?;
    wait_for("its API server to be back", Duration::from_secs(120), || kubectl(&["get", "--raw=/readyz"]).ok())?;
    match kubectl(&["get", "configmap", "sentinel"]) {
        Err(why) if why.contains("NotFound") => Ok(()),
        other => Err(format!("with its etcd's data in memory, after a restart: {other:?}")),
    }
}

/// Somebody removes the container of the node that is down. What was on it can't be waited for.
fn removed() -> Result<(), String> {
    const WITHIN: Duration = Duration::from_secs(90);
    let own = Own::made("kchaos-test-own", SINGLE)?;
    let mut running = own.command(&["node-shutdown/power-off"]);
    let file = own.state.path().join("said");
    let said =
        std::fs::File::create(&file).and_then(|file| Ok((file.try_clone()?, file))).map_err(|e| e.to_string())?;
    let mut running = running.stdout(said.0).stderr(said.1).spawn().map_err(|e| e.to_string())?;
    let ended = (|| {
        let label = format!("label=io.x-k8s.kind.cluster={}", own.name);
        let ps = ["ps", "-aq", "--filter", &label, "--filter", "status=exited"];
        let proven = || std::fs::read_to_string(&file).is_ok_and(|said| said.contains("the fault is in effect"));
        wait_for("the fault to be proven", Duration::from_secs(120), || proven().then_some(()))?;
        let down =
            wait_for("a node that is down", Duration::from_secs(120), || docker(&ps).ok().filter(|id| !id.is_empty()))?;
        docker(&["rm", "--force", "--volumes", &down])?;
        let gone = Instant::now();
        let ended = wait_for("the run to end", WITHIN, || running.try_wait().ok().flatten())?;
        println!("it ended {:?} after the node was removed", gone.elapsed());
        Ok::<_, String>(ended)
    })();
    // Of a run that did not end, the guardian goes on.
    let _ = running.kill();
    let _ = running.wait();
    let said = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
    match ended {
        Ok(status) if status.code() == Some(6) && said.contains("was removed [disturbed]") => Ok(()),
        other => Err(format!("{other:?}: {said}")),
    }
}

/// A kind config in which something, which is there, is replaced once.
fn with(config: &str, from: &str, to: &str) -> String {
    assert!(config.contains(from), "{from:?} is not in {config}");
    config.replacen(from, to, 1)
}

/// A cluster made by plain kind, removed when it is dropped.
struct Own {
    kind: String,
    name: &'static str,
    state: TempDir,
}

impl Own {
    fn made(name: &'static str, config: &str) -> Result<Self, String> {
        let state = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = state.path().join("kind.yaml");
        std::fs::write(&file, config).map_err(|e| e.to_string())?;
        let own = Self { kind: of_setup("KCHAOS_KIND")?, name, state };
        let mut create = Command::new(&own.kind);
        create.args(["create", "cluster", "--name", name, "--image", &of_setup("KCHAOS_NODE_IMAGE")?, "--wait=3m"]);
        succeeds(create.arg("--config").arg(file).env("KUBECONFIG", own.state.path().join("kubeconfig")))?;
        Ok(own)
    }

    /// Puts a Service on it.
    fn serves(&self) -> Result<(), String> {
        let service = EVERYWHERE.replace("IMAGE", &of_setup("KCHAOS_AGNHOST")?);
        let kubectl = "export KUBECONFIG=/etc/kubernetes/admin.conf; printf '%s' \"$1\" | kubectl apply -f - && kubectl rollout status ds/mine --timeout=2m";
        let node = format!("{}-control-plane", self.name);
        docker(&["exec", &node, "sh", "-c", kubectl, "sh", &service]).map(drop)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut kchaos = Command::new(env!("CARGO_BIN_EXE_kchaos"));
        kchaos.arg("run").args(args).args(["--cluster", self.name]);
        kchaos.env("XDG_STATE_HOME", self.state.path());
        kchaos
    }

    fn run(&self, args: &[&str]) -> Ran {
        match self.command(args).output() {
            Ok(output) => Ran {
                code: output.status.code(),
                said: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            },
            Err(e) => Ran { code: None, said: e.to_string() },
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut delete = Command::new(&self.kind);
        delete.args(["delete", "cluster", "--name", self.name]).env("KUBECONFIG", self.state.path().join("kubeconfig"));
        if let Err(error) = succeeds(&mut delete) {
            println!("{error}");
        }
    }
}

/// What became of a command of kchaos.
struct Ran {
    code: Option<i32>,
    said: String,
}

impl Ran {
    fn upheld(self) -> Result<(), String> {
        match self.code {
            Some(0) => Ok(()),
            code => Err(format!("exit code {code:?}: {}", self.said)),
        }
    }
}

/// A value that the set-up has left in the environment.
fn of_setup(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|e| format!("{name}: {e}"))
}
