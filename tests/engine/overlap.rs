//! Several faults at once. Any set that kchaos accepts goes in, is in effect as a whole, and leaves nothing behind when
//! it is undone, by the run or by a rollback after the run was killed anywhere. Any other set is refused with the
//! scenario file, before anything is touched.
//!
//! Sets and their order are drawn at random for pseudo-nodes, and go the way of a scenario: file, check, plan, faults.
//! The same assertions hold for a few fixed sets on a worker of a real cluster, and both give the same story.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use kchaos::cluster::docker::Engine;
use kchaos::cluster::facts::Facts;
use kchaos::component::Component;
use kchaos::event::{Checkpoint, End, Event, EventKind, Witness};
use kchaos::fault::{self, Witnesses};
use kchaos::plan::{self, Plan, PlannedFault};
use kchaos::residue;
use kchaos::scenario::{self, BadConfig, FaultSpec};
use kchaos::undo::Undo;
use kchaos::unwind;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::machines::Machines;
use crate::{BRIEF, LEASE, lab, real};

/// Pseudo-clusters side by side.
const SIDE_BY_SIDE: usize = 3;
/// How many sets go in and out: sets in which a fault is shut in with its node; sets in which a broken component needs
/// a kubelet that was broken before; and others.
const SOME: [usize; 3] = [2, 1, 3];
/// The same for `make soak`.
const MANY: [usize; 3] = [6, 2, 16];
/// Longest time that a witness may need to see a kubelet at work again.
const GONE_WITHIN: Duration = Duration::from_secs(60);

/// A scenario file with these faults, each written as in a scenario file, and nothing else of interest.
fn file(faults: &[String]) -> String {
    let (first, others) = faults.split_first().expect("a set has faults");
    let others: Vec<String> = others.iter().map(|fault| format!("{{{fault}}}")).collect();
    format!(
        "scenario: overlap
summary: several faults at once
topology: single
targets:
  victim: {{role: worker}}
  plane: {{role: control-plane}}
variants:
  - {{name: v, fault: {{{first}}}, and: [{}]}}
claims:
  - claim: c
    sentence: node.pods-stop
    says: it does not run
    probe: {{node-state: victim}}
    always: {{is: exited}}
    during: fault
",
        others.join(", ")
    )
}

fn planned(faults: &[String], facts: &Facts) -> Result<Plan, String> {
    let scenario = scenario::load("overlap", file(faults).as_bytes()).map_err(|e| e.to_string())?;
    plan::resolve(&scenario, None, "overlap", facts, 4).map_err(|e| e.to_string())
}

/// Faults that a pseudo-node can show: of one node and its network alone; of two nodes and what runs there; or of a
/// component that needs a kubelet that was broken before.
fn any_set() -> impl Strategy<Value = Vec<String>> {
    let any = || prop_oneof![2 => of_node("victim"), 1 => of_node("plane"), 2 => of_network(), 2 => of_component()];
    let of_one = prop_oneof![3 => of_node("victim"), 2 => of_network()];
    // A kubelet with an unusable configuration still looks active for a moment.
    let kubelet = "kubelet-config: {node: plane, file: removed}";
    let depends = select(vec!["down", "kill", "freeze"]).prop_map(move |kind| {
        vec![kubelet.to_owned(), format!("component-{kind}: {{node: plane, component: kube-apiserver}}")]
    });
    prop_oneof![3 => vec(of_one, 2..=3), 3 => vec(any(), 2..=4), 1 => depends]
}

fn of_node(node: &'static str) -> BoxedStrategy<String> {
    let kinds = [
        ("power-off", ""),
        ("stop", ""),
        ("pause", ""),
        ("pause", ""),
        ("restart", ""),
        ("kubelet-stop", ""),
        ("kubelet-freeze", ""),
        ("kubelet-kill", ", restart: true"),
        ("kubelet-kill", ", restart: false"),
        ("kubelet-crash", ""),
        ("kubelet-config", ", file: invalid"),
        ("kubelet-config", ", file: removed"),
    ];
    select(kinds.to_vec()).prop_map(move |(kind, more)| format!("{kind}: {{node: {node}{more}}}")).boxed()
}

fn of_network() -> BoxedStrategy<String> {
    let cuts = [
        "partition: {nodes: [victim]}",
        "partition: {nodes: [plane]}",
        "partition: {nodes: [victim], drops: to-api}",
        "partition: {nodes: [victim], drops: to-kubelet}",
        "packet-loss: {node: victim, percent: 50}",
        "certificate-expired: {node: victim, of: kubelet}",
    ];
    select(cuts.to_vec()).prop_map(str::to_owned).boxed()
}

fn of_component() -> BoxedStrategy<String> {
    let kinds = [("down", ""), ("kill", ""), ("freeze", ""), ("flag", ", flag: --no-such-flag=true")];
    let components = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let both = (select(kinds.to_vec()), select(components.to_vec()));
    both.prop_map(|((kind, more), name)| format!("component-{kind}: {{node: plane, component: {name}{more}}}")).boxed()
}

/// When the run is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Never,
    /// Once this many faults are in.
    Injected(usize),
    /// Once this many undos are done.
    Undone(usize),
}

fn any_end() -> impl Strategy<Value = Killed> {
    prop_oneof![
        2 => Just(Killed::Never),
        1 => (0usize..4).prop_map(Killed::Injected),
        1 => (1usize..4).prop_map(Killed::Undone),
    ]
}

/// The cluster on which a plan is played, and the engine that plays it.
struct Stage<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    /// What an undo must bring back, besides the census.
    seen: &'a dyn Fn() -> String,
}

impl Stage<'_> {
    /// Puts in all faults of the plan, undoes them, and returns what was seen.
    async fn play(&self, killed: Killed) -> Vec<String> {
        let Self { engine, plan, seen } = self;
        let cluster = &plan.facts.cluster;
        let before = (residue::census(engine, cluster, None).await.unwrap(), seen());
        let mut story = Vec::new();
        let called = join_all(plan.faults.iter().map(|planned| self.called(planned))).await;
        for (witnesses, planned) in called.iter().zip(&plan.faults) {
            story.extend(told(&format!("before {}", name(planned)), witnesses.baseline()));
        }

        let mut events = vec![lab::event(lab::started((*plan).clone()))];
        let mut undos = Vec::new();
        for (fault, planned) in plan.faults.iter().enumerate() {
            let undo = fault::prepare(engine, planned).await.unwrap();
            events.push(lab::event(EventKind::Prepared { fault, undo: undo.clone() }));
            undos.push(undo);
        }
        for (fault, planned) in plan.faults.iter().enumerate() {
            if killed == Killed::Injected(fault) {
                break;
            }
            events.push(lab::event(EventKind::Injecting { fault }));
            fault::inject(engine, planned, &undos[fault], LEASE).await.unwrap();
            events.push(lab::event(EventKind::Injected { fault, error: None }));
            let within = called[fault].agree_within();
            let said = agreed(engine, &called[fault], Checkpoint::Injected, true, within).await;
            story.extend(told(&format!("with {}", name(planned)), &said));
        }
        // The last fault was just seen, and nobody can look at one that is shut in.
        let ask = async |when: &str, at, effect, within, seen: &dyn Fn(usize) -> bool| {
            let asked = (0..called.len()).filter(|fault| seen(*fault)).map(async |fault| {
                let said = agreed(engine, &called[fault], at, effect, within).await;
                told(&format!("{when} {}", name(&plan.faults[fault])), &said)
            });
            join_all(asked).await.concat()
        };
        if !matches!(killed, Killed::Injected(_)) {
            let seen = |fault| fault + 1 < called.len() && plan.shut_in_by(fault).is_none();
            story.extend(ask("with all,", Checkpoint::Injected, true, BRIEF, &seen).await);
        }
        story.extend(self.undo(events, killed).await);
        story.extend(ask("after", Checkpoint::Undone, false, GONE_WITHIN, &|_| true).await);
        let residue = residue::wait_until_as(engine, cluster, None, &before.0, GONE_WITHIN).await;
        assert_eq!(residue, []);
        let begin = Instant::now();
        let now = loop {
            let now = seen();
            if now == before.1 || begin.elapsed() > BRIEF {
                break now;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        similar(&before.1, &now);
        story
    }

    /// Witnesses that see no effect yet. A kubelet that was just started by an earlier play looks like one that
    /// crashes.
    async fn called(&self, planned: &PlannedFault) -> Witnesses {
        let begin = Instant::now();
        loop {
            let witnesses = Witnesses::call(self.engine, planned, &self.plan.observers).await.unwrap();
            if witnesses.baseline().iter().all(|w| w.effect == Some(false)) {
                return witnesses;
            }
            assert!(begin.elapsed() < GONE_WITHIN, "{witnesses:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The story of a run that is not killed, without the cluster's name.
    async fn told(&self) -> String {
        self.play(Killed::Never).await.join("\n").replace(&self.plan.facts.cluster, "CLUSTER")
    }

    /// Undoes what was prepared, or the rest of it after the run was killed in the middle.
    async fn undo(&self, mut events: Vec<Event>, killed: Killed) -> Vec<String> {
        if let Killed::Undone(undone) = killed {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            let (engine, sofar) = (self.engine.clone(), events.clone());
            let run = tokio::spawn(async move {
                unwind::all(&engine, &sofar, BRIEF, &mut |kind| drop(tell.send(kind))).await;
            });
            let mut done = 0;
            while let Some(kind) = told.recv().await {
                // A rollback would repair it, and hide that the order was wrong.
                assert!(!matches!(kind, EventKind::UndoFailed { .. }), "{kind:?}");
                done += usize::from(matches!(kind, EventKind::Undone { .. }));
                events.push(lab::event(kind));
                if done == undone {
                    break;
                }
            }
            run.abort();
            let _ = run.await;
        }
        let mut said = Vec::new();
        let end = unwind::all(self.engine, &events, BRIEF, &mut |kind| said.push(kind)).await;
        assert_eq!(end, End::Clean, "{said:#?}");
        let undone = said.iter().filter_map(|kind| match kind {
            EventKind::Undoing { fault, step } => {
                Some(format!("undoing {} of {}", step, name(&self.plan.faults[*fault])))
            }
            EventKind::Undone { .. } => None,
            other => Some(format!("{other:?}")),
        });
        undone.collect()
    }
}

/// Asks until all witnesses agree.
async fn agreed(engine: &Engine, of: &Witnesses, at: Checkpoint, effect: bool, within: Duration) -> Vec<Witness> {
    let begin = Instant::now();
    loop {
        let said = of.ask(engine, at).await;
        if said.iter().all(|w| w.effect == Some(effect)) {
            return said;
        }
        assert!(begin.elapsed() < within, "{at:?}, to be {effect}: {said:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn told(when: &str, said: &[Witness]) -> Vec<String> {
    said.iter().map(|w| format!("{when}: {}: {:?}", w.what, w.effect)).collect()
}

/// Fails with the first lines that differ.
fn similar(before: &str, now: &str) {
    let mut lines = before.lines().zip(now.lines());
    assert!(before == now, "not as it was: {:#?}", lines.find(|(was, is)| was != is));
}

/// A fault as it is written in a scenario file.
fn name(planned: &PlannedFault) -> String {
    serde_json::to_string(&planned.spec).unwrap()
}

/// Which of the wanted kinds a set is.
fn kind(plan: &Plan) -> usize {
    let shut_in = (0..plan.faults.len()).any(|fault| plan.shut_in_by(fault).is_some());
    let of_api = |fault: &PlannedFault| fault.spec.component() == Some(Component::KubeApiserver);
    let has_no_config =
        |fault: &&PlannedFault| matches!(fault.spec, FaultSpec::KubeletConfig { file: BadConfig::Removed, .. });
    let api = plan.faults.iter().find(|fault| of_api(fault));
    let before = plan.faults.iter().take_while(|fault| !of_api(fault));
    let needed = before.filter(has_no_config).any(|kubelet| api.is_some_and(|api| api.node == kubelet.node));
    match (shut_in, needed) {
        (true, _) => 0,
        (_, true) => 1,
        _ => 2,
    }
}

/// Sets of faults, each with the moment at which its run is killed.
fn drawn(facts: &Facts) -> Vec<(Vec<String>, Killed)> {
    let mut runner = TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() });
    let mut draw = || (any_set(), any_end()).new_tree(&mut runner).unwrap().current();
    let (mut accepted, mut refused) = (Vec::new(), BTreeMap::<String, usize>::new());
    let mut wanted = if std::env::var_os("KCHAOS_SOAK").is_some() { MANY } else { SOME };
    while wanted.iter().any(|left| *left > 0) {
        let (faults, killed) = draw();
        match planned(&faults, facts) {
            Ok(plan) => {
                let left = &mut wanted[kind(&plan)];
                if *left > 0 {
                    *left -= 1;
                    accepted.push((faults, killed));
                }
            }
            Err(why) => *refused.entry(why.lines().next().unwrap_or_default().to_owned()).or_default() += 1,
        }
    }
    eprintln!("refused: {refused:#?}");
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_set_of_faults_that_is_accepted_goes_in_and_out_again_wherever_the_run_is_killed() {
    let begin = Instant::now();
    let made = join_all((0..SIDE_BY_SIDE).map(|_| tokio::spawn(Machines::set_up()))).await;
    let made: Option<Vec<Machines>> = made.into_iter().map(Result::unwrap).collect();
    let Some(made) = made else { return };
    eprintln!("machines after {:?}", begin.elapsed());
    let next = AtomicUsize::new(0);
    // The sets are drawn for one machine and work on each, since all are alike.
    let sets = drawn(&made[0].facts);
    let played = made.iter().map(async |machines| {
        let seen = || machines.seen();
        while let Some((faults, killed)) = sets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let plan = &planned(faults, &machines.facts).unwrap();
            let begin = Instant::now();
            let set = plan.faults.iter().map(name).collect::<Vec<_>>().join(", ");
            let stage = Stage { engine: &machines.lab.engine, plan, seen: &seen };
            // After a failed set, later ones would fail because of it.
            if AssertUnwindSafe(stage.play(*killed)).catch_unwind().await.is_err() {
                return Some(format!("{killed:?}: {set}"));
            }
            eprintln!("{killed:?}: {set}: {:?}", begin.elapsed());
        }
        None
    });
    let failed: Vec<String> = join_all(played).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{failed:#?}");
    eprintln!("all after {:?}", begin.elapsed());
}

/// Sets that represent what pseudo-nodes are trusted with.
const FIXED: [&[&str]; 4] = [
    &["kubelet-stop: {node: victim}", "partition: {nodes: [victim]}"],
    &["partition: {nodes: [victim]}", "pause: {node: victim}"],
    &["kubelet-config: {node: victim, file: removed}", "power-off: {node: victim}"],
    &["kubelet-freeze: {node: victim}", "component-freeze: {node: plane, component: kube-scheduler}"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_real_worker_and_a_pseudo_node_tell_the_same_story_of_several_faults() {
    let Some(real) = real::real().await else { return };
    let Some(machines) = Machines::set_up().await else { return };
    let census = real::led_census(&real).await;
    let facts = lab::facts_of(&real.engine, &real.cluster).await;
    let begin = Instant::now();
    for faults in FIXED {
        let faults: Vec<String> = faults.iter().map(|fault| (*fault).to_owned()).collect();
        let (pseudo, true_to_life) = (planned(&faults, &machines.facts).unwrap(), planned(&faults, &facts).unwrap());
        let seen = || machines.seen();
        let pseudo = Stage { engine: &machines.lab.engine, plan: &pseudo, seen: &seen };
        // The census leaves out what goes on in a real node by itself.
        let true_to_life = Stage { engine: &real.engine, plan: &true_to_life, seen: &String::new };
        let (pseudo, true_to_life) = tokio::join!(pseudo.told(), true_to_life.told());
        assert_eq!(pseudo, true_to_life, "{faults:?}");
        eprintln!("{faults:?}: after {:?}", begin.elapsed());
    }
    let residue = residue::wait_until_as(&real.engine, &real.cluster, Some(&real.api), &census, GONE_WITHIN).await;
    assert_eq!(residue, []);
    eprintln!("as before after {:?}", begin.elapsed());
}

/// A node is shut for longer than the lease of a change inside it. Its switch goes off as soon as the node wakes up,
/// which has disturbed nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_could_keep_because_its_node_was_shut_is_no_disturbance() {
    let Some(machines) = Machines::set_up().await else { return };
    let faults = ["kubelet-stop: {node: victim}", "pause: {node: victim}"].map(str::to_owned);
    let plan = planned(&faults, &machines.facts).unwrap();
    let (engine, lease, before) = (&machines.lab.engine, Duration::from_secs(1), machines.seen());
    let mut undos = Vec::new();
    for (fault, planned) in plan.faults.iter().enumerate() {
        undos.push((fault, fault::prepare(engine, planned).await.unwrap()));
    }
    for (fault, planned) in plan.faults.iter().enumerate() {
        fault::inject(engine, planned, &undos[fault].1, lease).await.unwrap();
    }
    tokio::time::sleep(3 * lease).await;
    let [Undo::Unpause { .. }] = &undos[1].1[..] else { panic!("{undos:?}") };
    unwind::apply(engine, &undos[1].1[0]).await.unwrap();
    // The switch does go off.
    let gone_off = "until [ -e /var/lib/kchaos/*/gone-off ]; do sleep 0.1; done";
    let waited = engine.exec(&plan.faults[0].node, &["sh", "-c", gone_off], None, BRIEF).await.unwrap();
    assert_eq!(waited.code, 0, "{}", waited.stderr);
    let mut said = Vec::new();
    let mut events = lab::journal(&machines.lab.cluster, &undos);
    let EventKind::Started { plan: started, .. } = &mut events[0].kind else { panic!("{events:?}") };
    started.faults.clone_from(&plan.faults);
    assert_eq!(unwind::all(engine, &events, BRIEF, &mut |kind| said.push(kind)).await, End::Clean, "{said:#?}");
    assert!(!said.iter().any(|kind| matches!(kind, EventKind::Disturbed(_))), "{said:#?}");
    similar(&before, &machines.seen());
}
