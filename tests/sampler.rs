//! The sampler against servers that the test itself cuts off at known times, and its cost.
//!
//! The test and the samples share a clock, so the truth must lie inside what the samples prove. A starved sampler may
//! also say nothing; a wrong interval is never right.

#[path = "sampler/cluster.rs"]
mod cluster;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use kchaos::agent::sampler::line::Line;
use kchaos::clock::Mono;
use kchaos::sample::{Failure, Outcome};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};

const INTERVAL: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_millis(40);

/// A `kchaos agent sample` in a process of its own.
struct Sampler {
    process: Child,
    lines: mpsc::Receiver<Line>,
}

impl Sampler {
    fn start(targets: &[String], refuses: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kchaos"));
        command.args(["agent", "sample"]).arg(format!("--refuses={refuses}"));
        command.args(targets.iter().map(|t| format!("--target={t}")));
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the sampler starts");
        let stdout: ChildStdout = process.stdout.take().expect("standard output is piped");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(serde_json::from_str(&line).expect("a line of the sampler is a Line"));
            }
        });
        Self { process, lines }
    }

    /// All lines up to and including the first that is due after `end`.
    fn until(&self, end: Mono) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("the sampler goes on sampling");
            let done = line.due > end;
            lines.push(line);
            if done {
                return lines;
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("the sampler is there");
    }

    /// User and system time that the sampler has used so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("the sampler is there");
        let after_name = stat.rsplit_once(") ").expect("a stat line").1;
        let ticks = |n: usize| after_name.split(' ').nth(n).and_then(|t| t.parse::<u64>().ok()).expect("a number");
        // USER_HZ is 100 on every architecture that Linux still runs on.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server that is later than this may itself cause a timeout.
const STUB_LATE: Duration = Duration::from_millis(15);
const UP: u8 = 0;
/// Closes connections without an answer.
const HANGS_UP: u8 = 1;
/// Accepts connections and never answers.
const SILENT: u8 = 2;

/// A server that answers while it is `UP`, and that notes when it did not get to run.
struct Stub {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    starved: Arc<Mutex<Vec<(Mono, Mono)>>>,
}

impl Stub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let stub = Self { address, state: Arc::new(AtomicU8::new(UP)), starved: Arc::default() };
        let (state, starved) = (Arc::clone(&stub.state), Arc::clone(&stub.starved));
        listener.set_nonblocking(true).expect("a listener can do without waiting");
        thread::spawn(move || {
            // Only root may do this. Where it is refused, more outages are left out.
            let _ = rustix::process::setpriority_process(None, -10);
            let mut kept_waiting = Vec::new();
            let mut looked = Mono::now();
            loop {
                if let Ok((mut stream, _)) = listener.accept() {
                    match state.load(Ordering::SeqCst) {
                        SILENT => kept_waiting.push(stream),
                        HANGS_UP => {}
                        _ => answer(&mut stream),
                    }
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
                let now = Mono::now();
                if now.since(looked) > STUB_LATE {
                    starved.lock().expect("no test panics while it holds this").push((looked, now));
                }
                looked = now;
            }
        });
        stub
    }

    /// Did the server not get to run near this outage? Then the outage was not the intended one.
    fn spoiled(&self, truth: &Truth) -> bool {
        let (from, to) = near(truth);
        self.starved.lock().expect("no test panics while it holds this").iter().any(|s| s.0 <= to && s.1 >= from)
    }
}

fn answer(stream: &mut TcpStream) {
    if stream.read(&mut [0; 512]).is_ok() {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

/// An address at which nobody listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

/// An outage as the test made it: the last moment before it began and the first moment after, and the same for its end.
#[derive(Debug)]
struct Truth {
    began: (Mono, Mono),
    ended: (Mono, Mono),
}

fn cut(stub: &Stub, outages: usize, rng: &mut impl Rng) -> Vec<Truth> {
    let set = |state: u8| {
        let before = Mono::now();
        stub.state.store(state, Ordering::SeqCst);
        (before, Mono::now())
    };
    let mut truths = Vec::new();
    for _ in 0..outages {
        thread::sleep(Duration::from_micros(rng.random_range(120_000..180_000)));
        let began = set(if rng.random() { HANGS_UP } else { SILENT });
        thread::sleep(Duration::from_micros(rng.random_range(30_000..200_000)));
        truths.push(Truth { began, ended: set(UP) });
    }
    thread::sleep(Duration::from_millis(150));
    truths
}

/// What the samples prove about one outage: the earliest and latest time at which it began, and the same for its end.
#[derive(Debug)]
struct Seen {
    began: (Mono, Mono),
    ended: (Mono, Mono),
}

fn ok(line: &Line) -> bool {
    matches!(line.outcome, Outcome::Saw(_))
}

fn bad(line: &Line) -> bool {
    matches!(line.outcome, Outcome::Failed(_))
}

/// The outage from the last good sample before it, the first and last bad ones, and the next good one; `None` if it was
/// not seen.
fn outage(lines: &[Line], truth: &Truth) -> Option<Seen> {
    let (from, to) = near(truth);
    let near: Vec<&Line> = lines.iter().filter(|l| l.due >= from && l.due <= to).collect();
    let first = near.iter().position(|l| bad(l))?;
    let last = near.iter().rposition(|l| bad(l))?;
    let before = near[..first].iter().rfind(|l| ok(l))?;
    let after = near[last..].iter().find(|l| ok(l))?;
    Some(Seen { began: (before.start, near[first].end), ended: (near[last].start, after.end) })
}

fn near(truth: &Truth) -> (Mono, Mono) {
    (truth.began.0 - Duration::from_millis(100), truth.ended.1 + Duration::from_millis(100))
}

fn right(seen: &Seen, truth: &Truth) -> bool {
    seen.began.0 <= truth.began.1
        && seen.began.1 >= truth.began.0
        && seen.ended.0 <= truth.ended.1
        && seen.ended.1 >= truth.ended.0
}

fn sorted(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|l| (l.target, l.slot));
    lines
}

/// Checks every outage that was as intended: the samples bound it correctly, or show that they could not see it.
/// Returns what was seen.
fn hold(lines: &[Line], truths: &[Truth], stub: &Stub) -> Vec<Seen> {
    let mut held = Vec::new();
    for truth in truths.iter().filter(|t| !stub.spoiled(t)) {
        let (from, to) = near(truth);
        let unknown = lines.iter().any(|l| l.due >= from && l.due <= to && matches!(l.outcome, Outcome::Unknown(_)));
        // A slot that was not served is missing, and one that was served late saw a later state. Both show that the
        // sampler could not see.
        let (began, ended) = (truth.began.1, truth.ended.0);
        let looked = lines.iter().filter(|l| l.due >= began && l.due <= ended && l.start <= ended).count() as u128;
        let missed = looked + 1 < ended.since(began).as_micros() / INTERVAL.as_micros();
        match outage(lines, truth) {
            Some(seen) if right(&seen, truth) => held.push(seen),
            Some(seen) => panic!("{seen:?} does not hold {truth:?}"),
            None => assert!(unknown || missed, "all was seen there but the outage: {truth:?}"),
        }
    }
    held
}

#[test]
fn the_truth_lies_inside_what_the_samples_prove() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let stub = Stub::start();
    let target = format!("{}/{}/{}", stub.address, INTERVAL.as_millis(), TIMEOUT.as_millis());
    let sampler = Sampler::start(&[target], closed());
    let (mut made, mut widths) = (0, Vec::new());
    // On a busy machine many outages are spoiled, or not seen for lack of time. Enough of them must be seen.
    while widths.len() < 30 {
        assert!(
            made < 300,
            "of {made} outages only {} were as intended and seen: this machine is too busy",
            widths.len()
        );
        let truths = cut(&stub, 10, &mut rng);
        made += truths.len();
        let held = hold(&sorted(sampler.until(Mono::now())), &truths, &stub);
        widths.extend(held.iter().flat_map(|s| [s.began.1.since(s.began.0), s.ended.1.since(s.ended.0)]));
    }
    widths.sort();
    let (median, widest) = (widths[widths.len() / 2], widths[widths.len() - 1]);
    println!("{} edges of {made} outages; width: median {median:?}, widest {widest:?}", widths.len());
    assert!(median <= INTERVAL + TIMEOUT, "edges are too wide: {median:?}");
}

#[test]
fn a_starved_sampler_says_the_truth_or_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let stub = Stub::start();
    let target = format!("{}/{}/{}", stub.address, INTERVAL.as_millis(), TIMEOUT.as_millis());
    let sampler = Sampler::start(&[target], closed());
    let pid = rustix::process::Pid::from_child(&sampler.process);
    rustix::process::setpriority_process(Some(pid), 10).expect("a process may be made to yield");
    let stop = Arc::new(AtomicBool::new(false));
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let hog = || {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })
    };
    let hogs: Vec<_> = (0..2 * cores).map(|_| hog()).collect();
    let truths = cut(&stub, 30, &mut rng);
    stop.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.join().expect("a hog ends");
    }
    let lines = sorted(sampler.until(Mono::now()));
    let held = hold(&lines, &truths, &stub).len();
    let unknown = lines.iter().filter(|l| matches!(l.outcome, Outcome::Unknown(_))).count();
    println!("{held} of {} outages seen, {unknown} of {} samples unknown", truths.len(), lines.len());
}

#[test]
fn slots_of_a_stopped_sampler_are_missed_and_its_timeouts_prove_nothing_unless_they_had_waited_before() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it has an address");
    let sampler = Sampler::start(&[format!("{address}/10/300")], closed());
    // A sampler that a busy machine kept from its work before the stop has few samples that waited for long enough.
    // Each stop must hold; both sorts of samples must have been seen in one of them.
    let (mut too_short, mut long_enough) = (0, 0);
    for _ in 0..10 {
        let seen = stop_and_continue(&sampler);
        too_short += seen.too_short;
        long_enough += seen.long_enough;
        if too_short > 0 && long_enough > 0 {
            return;
        }
    }
    panic!("{too_short} samples had waited too short and {long_enough} long enough: this machine is too busy");
}

/// Samples under way when their sampler was stopped.
struct UnderWay {
    too_short: usize,
    long_enough: usize,
}

/// Stops a sampler of a silent server, every 10 ms with a deadline of 300 ms, for a second, and checks what it says.
fn stop_and_continue(sampler: &Sampler) -> UnderWay {
    sampler.until(Mono::now());
    // The lines so far tell of slots before this.
    let began = Mono::now();
    let mut lines = sampler.until(began + Duration::from_millis(400));
    let stopping = Mono::now();
    sampler.signal(rustix::process::Signal::STOP);
    let stopped = Mono::now();
    thread::sleep(Duration::from_secs(1));
    let continuing = Mono::now();
    sampler.signal(rustix::process::Signal::CONT);
    let continued = Mono::now();
    lines.extend(sampler.until(continued + Duration::from_millis(1_500)));
    lines.retain(|l| l.due > began);
    let lines = sorted(lines);

    // Everything that was due long enough ago is decided by now.
    let old = lines.iter().filter(|l| l.due < continued + Duration::from_millis(200));
    let slots: Vec<u64> = old.map(|l| l.slot).collect();
    assert!(slots.windows(2).all(|w| w[1] == w[0] + 1), "every slot is told of once: {slots:?}");
    let asleep =
        |l: &&Line| l.due > stopped + Duration::from_millis(50) && l.due + Duration::from_millis(50) < continuing;
    let missed: Vec<&Line> = lines.iter().filter(asleep).collect();
    assert!(missed.len() >= 80, "{}", missed.len());
    assert!(
        missed.iter().all(|l| matches!(&l.outcome, Outcome::Unknown(why) if why.starts_with("missed"))),
        "{missed:?}"
    );
    // For samples under way that had waited less than half their deadline, nobody was there to see an answer. A busy
    // machine also kept the sampler from its work before the stop: it counts as working while it asked every 10 ms.
    let is_asked = |l: &&Line| !matches!(&l.outcome, Outcome::Unknown(why) if why.starts_with("missed"));
    let asked: Vec<Mono> = lines.iter().filter(is_asked).map(|l| l.start).filter(|start| *start <= stopping).collect();
    let waited = |since: Mono| -> Duration {
        let own = asked.iter().filter(|start| **start > since);
        let mut last = since;
        own.map(|start| start.since(std::mem::replace(&mut last, *start)).min(Duration::from_millis(10))).sum()
    };
    let (mut too_short, mut long_enough) = (Vec::new(), Vec::new());
    for line in lines.iter().filter(|l| asked.contains(&l.start) && l.end > continued) {
        match waited(line.start) {
            // Even these may have lost a little time.
            time if time < Duration::from_millis(130) => too_short.push(line),
            time if time > Duration::from_millis(230) => long_enough.push(line),
            _ => {}
        }
    }
    assert!(too_short.iter().all(|l| l.outcome == Outcome::Unknown("starved".into())), "{too_short:?}");
    assert!(long_enough.iter().all(|l| l.outcome == Outcome::Failed(Failure::Timeout)), "{long_enough:?}");
    // Well after the stop, timeouts are evidence again.
    let after = lines.iter().filter(|l| l.start > continued);
    assert!(after.into_iter().any(|l| l.outcome == Outcome::Failed(Failure::Timeout)));
    UnderWay { too_short: too_short.len(), long_enough: long_enough.len() }
}

#[test]
fn a_sampler_whose_closed_port_opens_is_blind() {
    let stub = Stub::start();
    let other = Stub::start();
    let sampler = Sampler::start(&[format!("{}/50/200", stub.address)], other.address);
    let lines = sampler.until(Mono::now() + Duration::from_millis(500));
    let blind = |l: &Line| matches!(&l.outcome, Outcome::Unknown(why) if why.starts_with("probe-blind"));
    assert!(lines.iter().all(blind), "{lines:?}");
}

#[test]
fn sigterm_ends_a_sampler_at_once() {
    let mut sampler = Sampler::start(&[format!("{}/50/200", closed())], closed());
    sampler.until(Mono::now());
    sampler.signal(rustix::process::Signal::TERM);
    let status = sampler.process.wait().expect("it can be waited for");
    assert_eq!(status.code(), Some(0));
}

/// The cost is printed, and only bounded far above what is measured: this is no release build.
#[test]
fn a_thousand_samples_a_second_are_cheap_and_on_time() {
    let stubs: Vec<Stub> = (0..4).map(|_| Stub::start()).collect();
    let targets: Vec<String> = (0..20).map(|i| format!("{}/20/500", stubs[i % stubs.len()].address)).collect();
    let sampler = Sampler::start(&targets, closed());
    sampler.until(Mono::now());
    let (begin, cpu) = (Mono::now(), sampler.cpu());
    let lines = sampler.until(begin + Duration::from_secs(3));
    let (took, used) = (Mono::now().since(begin), sampler.cpu() - cpu);
    let mut late: Vec<Duration> = lines.iter().map(|l| l.start.since(l.due)).collect();
    late.sort();
    let rate = lines.len() as f64 / took.as_secs_f64();
    let share = used.as_secs_f64() / took.as_secs_f64();
    println!(
        "{rate:.0} samples/s, {:.1} % of a core, lateness p50 {:?} p99 {:?}",
        share * 100.0,
        late[late.len() / 2],
        late[late.len() * 99 / 100]
    );
    assert!(rate > 900.0, "{rate}");
    assert!(late[late.len() / 2] < Duration::from_millis(20), "{:?}", late[late.len() / 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_probe_sees_what_is_on_a_real_cluster() {
    if let Some(name) = real("every_probe_sees_what_is_on_a_real_cluster") {
        cluster::every_probe_sees_what_is(&name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_seen_from_below_on_a_real_cluster() {
    if let Some(name) = real("containers_are_seen_from_below_on_a_real_cluster") {
        cluster::containers_are_seen_from_below(&name).await;
    }
}

/// The cluster to test on. The program that is copied into nodes must be kchaos, not this test. So the test runs a
/// second time with `KCHAOS_AGENT` set, and only that run gets a cluster.
fn real(test: &str) -> Option<String> {
    // Two tests at once would break the same node.
    static ONE: Mutex<()> = Mutex::new(());
    let Ok(name) = std::env::var("KCHAOS_TEST_CLUSTER") else {
        eprintln!("skipped: KCHAOS_TEST_CLUSTER names no kind cluster");
        return None;
    };
    if std::env::var_os("KCHAOS_AGENT").is_some() {
        return Some(name);
    }
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut again = Command::new(std::env::current_exe().expect("the test has a program"));
    again.args(["--exact", test, "--nocapture"]);
    let status = again.env("KCHAOS_AGENT", env!("CARGO_BIN_EXE_kchaos")).status().expect("the test starts");
    assert!(status.success(), "{status}");
    None
}
