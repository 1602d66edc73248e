//! The sampler: asks each target in fixed slots, each time on a fresh connection, and writes one line per slot.
//!
//! The loop is open: a slot is served when it is due, whatever became of the slots before. So an outage is a row of
//! failed samples and not a gap. Slots that the sampler itself missed are written as missed, and never made up for. The
//! canaries (`canary.rs`) decide what a sample is worth before its line is written. The sampler judges nothing.

pub(crate) mod canary;
pub mod line;
mod source_ports;

use std::fmt;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use self::canary::Canaries;
use self::line::Line;
use self::source_ports::Ports;
use crate::clock::Mono;
use crate::error::{Error, Result};
use crate::observer_lag::SharedLag;
use crate::plain_http::{self, Nameless, Request};
use crate::sample::Outcome;
use crate::time_slots::{Slot, Slots};

/// How many look-ups of a target's name are under way at a time: as many as there are samples.
const LOOKUPS: usize = 16;
/// The shortest interval of the null probe, which otherwise is as fast as the fastest target.
const NULL_AT_MOST_EVERY: Duration = Duration::from_millis(10);
const NULL_AT_LEAST_EVERY: Duration = Duration::from_millis(100);
/// The responder runs in the sampler's own thread: only starvation makes it wait, and that is measured.
const NULL_DEADLINE: Duration = Duration::from_secs(5);
const CLOSED_EVERY: Duration = Duration::from_millis(250);
const CLOSED_DEADLINE: Duration = Duration::from_millis(500);
/// How many lines may wait for a slow reader of the output. Further lines are lost, which the judge sees as missing.
const WAITING: usize = 65_536;
/// How many missed slots of one stall are written down. The rest are missing, which means the same.
const MISSED_WRITTEN: u64 = 200;

/// Arguments of `kchaos agent sample`.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Address that must refuse: a closed port of the sampler's own node.
    #[arg(long)]
    refuses: SocketAddr,
    /// What to sample: ADDRESS:PORT/INTERVAL/TIMEOUT[/HOST/PATH], times in milliseconds, or a name instead of the
    /// address, which is resolved for each sample. Lines refer to targets by their position.
    #[arg(long = "target", required = true)]
    targets: Vec<Target>,
}

/// Where a sample is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// At this address.
    At(SocketAddr),
    /// At the first address that this name has at the time.
    Named {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Peer {
    /// Its address now. A look-up goes on, in a thread of its own, even if nobody waits for it any more; so there are
    /// only so many at a time.
    async fn address(&self, lookups: &Arc<Semaphore>) -> std::io::Result<SocketAddr> {
        let (host, port) = match self {
            Self::At(address) => return Ok(*address),
            Self::Named { host, port } => (host.clone(), *port),
        };
        let turn = Arc::clone(lookups).acquire_owned().await.map_err(std::io::Error::other)?;
        let found = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            (host.as_str(), port).to_socket_addrs().map(|mut all| all.next())
        });
        match found.await? {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(std::io::Error::other(Nameless("its name has no address".into()))),
            // An error of this system has a number. What the resolver says of the name, or of whom it has asked, has none.
            Err(error) if error.raw_os_error().is_none() => Err(std::io::Error::other(Nameless(error.to_string()))),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Peer {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        if let Ok(address) = s.parse() {
            return Ok(Self::At(address));
        }
        match s.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if host.starts_with(|c: char| c.is_ascii_lowercase()) && !host.contains(':') => {
                Ok(Self::Named { host: host.to_owned(), port })
            }
            _ => Err(format!("`{s}` is neither ADDRESS:PORT nor NAME:PORT")),
        }
    }
}

/// One thing that is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where to ask.
    pub peer: Peer,
    /// Time between slots.
    pub interval: Duration,
    /// Deadline of a sample.
    pub timeout: Duration,
    /// What to ask for, if the server is not one of ours.
    pub request: Option<Request>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.peer, self.interval.as_millis(), self.timeout.as_millis())?;
        match &self.request {
            Some(Request { host, path }) => write!(f, "/{host}{path}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let mut parts = s.splitn(4, '/');
        let (Some(peer), Some(interval), Some(timeout)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("want ADDRESS:PORT/INTERVAL/TIMEOUT[/HOST/PATH]".into());
        };
        let request = parts.next().map(|request| match request.split_once('/') {
            Some((host, path)) => Request { host: host.to_owned(), path: format!("/{path}") },
            None => Request { host: request.to_owned(), path: "/".to_owned() },
        });
        let millis = |s: &str| match s.parse::<u64>() {
            Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
            _ => Err(format!("`{s}` is no number of milliseconds above 0")),
        };
        Ok(Self { peer: peer.parse()?, interval: millis(interval)?, timeout: millis(timeout)?, request })
    }
}

/// Samples until it is stopped, or until nobody reads its output any more.
///
/// # Errors
/// If the loopback responder can't listen or the output can't be written.
pub(super) async fn run(args: SampleArgs) -> Result<()> {
    let (lines, written) = sync_channel(WAITING);
    // Output may block (a full pipe); samples must not wait for it.
    let writer = std::thread::spawn(move || write(written, std::io::stdout().lock()));
    sample(args, lines).await?;
    match writer.join() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::could_not_run(format!("the sampler's output can't be written: {error}"))),
        Err(_) => Err(Error::could_not_run("the sampler's writer broke down")),
    }
}

enum Report {
    Sample { line: Line, deadline: Duration },
    Null { due: Mono, end: Mono, outcome: Outcome },
    Closed { start: Mono, end: Mono, outcome: Outcome },
}

/// Samples as long as somebody takes the lines.
async fn sample(args: SampleArgs, lines: SyncSender<Line>) -> Result<()> {
    let responder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let (responder, known_good) = responder
        .and_then(|l| l.local_addr().map(|a| (l, a)))
        .map_err(|e| Error::could_not_run(format!("the sampler's responder can't listen: {e}")))?;
    let mut tasks = tokio::task::JoinSet::new();
    let (reports, mut inbox) = mpsc::unbounded_channel();
    tasks.spawn(plain_http::serve(responder, || std::future::ready(Ok("here".into()))));
    let lag = SharedLag::default();
    let fastest = args.targets.iter().map(|t| t.interval).min().unwrap_or(NULL_AT_LEAST_EVERY);
    tasks.spawn(null(known_good, fastest.clamp(NULL_AT_MOST_EVERY, NULL_AT_LEAST_EVERY), lag.clone(), reports.clone()));
    tasks.spawn(closed(args.refuses, reports.clone()));
    let ports = Arc::new(Ports::new());
    let begin = Mono::now();
    let count = u32::try_from(args.targets.len()).unwrap_or(u32::MAX);
    for ((index, target), nth) in args.targets.into_iter().enumerate().zip(0u32..) {
        // The targets are evenly shifted, so that their samples do not wait for each other.
        let first = begin + target.interval * nth / count;
        let slots = Slots::new(first, target.interval);
        tasks.spawn(series(index, target, slots, Arc::clone(&ports), lag.clone(), reports.clone()));
    }
    drop(reports);

    let mut canaries = Canaries::default();
    while let Some(report) = inbox.recv().await {
        match report {
            Report::Sample { line, deadline } => canaries.sample(line, deadline),
            Report::Null { due, end, outcome } => canaries.null(due, end, &outcome),
            Report::Closed { start, end, outcome } => canaries.closed(start, end, &outcome, CLOSED_DEADLINE),
        }
        while let Some(line) = canaries.decided() {
            match lines.try_send(line) {
                Ok(()) | Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Samples one target. A sample is over after its deadline, or twice that on a starved machine, so at most
/// ⌈2 × timeout ÷ interval⌉ + 1 samples are under way.
async fn series(
    index: usize,
    target: Target,
    mut slots: Slots,
    ports: Arc<Ports>,
    lag: SharedLag,
    reports: mpsc::UnboundedSender<Report>,
) {
    let (deadline, target) = (target.timeout, Arc::new(target));
    let lookups = Arc::new(Semaphore::new(LOOKUPS));
    loop {
        let next = slots.next().await;
        let Slot { number, due, .. } = next;
        let now = Mono::now();
        for slot in next.last_missed(MISSED_WRITTEN) {
            // Perhaps there was no sampler, since its node was down. That is no lack of time.
            let outcome = Outcome::Unknown("missed: the sampler was not running".into());
            let line = Line { target: index, slot, due: slots.due(slot), start: now, end: now, outcome };
            let _ = reports.send(Report::Sample { line, deadline });
        }
        let (lag, reports) = (lag.clone(), reports.clone());
        let (ports, target, lookups) = (Arc::clone(&ports), Arc::clone(&target), Arc::clone(&lookups));
        tokio::spawn(async move {
            let start = Mono::now();
            let connect = async { ports.connect(target.peer.address(&lookups).await?).await };
            let outcome = plain_http::get(connect, target.request.as_ref(), lag.over(due, deadline)).await;
            let line = Line { target: index, slot: number, due, start, end: Mono::now(), outcome };
            // If nobody listens any more, the sampler is about to end.
            let _ = reports.send(Report::Sample { line, deadline });
        });
    }
}

async fn null(known_good: SocketAddr, interval: Duration, lag: SharedLag, reports: mpsc::UnboundedSender<Report>) {
    let mut slots = Slots::new(Mono::now(), interval);
    let mut counted = Mono::now();
    loop {
        let slot = slots.next().await;
        let outcome = plain_http::get(TcpStream::connect(known_good), None, tokio::time::sleep(NULL_DEADLINE)).await;
        // The probe has been late since the first missed slot, but no time is counted twice.
        let due = slots.due(slot.missed.start).max(counted);
        counted = Mono::now();
        lag.record(due, counted, slots.due(slot.number + 1));
        let _ = reports.send(Report::Null { due, end: counted, outcome });
    }
}

async fn closed(known_bad: SocketAddr, reports: mpsc::UnboundedSender<Report>) {
    let mut slots = Slots::new(Mono::now(), CLOSED_EVERY);
    loop {
        slots.next().await;
        let start = Mono::now();
        let outcome = plain_http::connect(known_bad, CLOSED_DEADLINE).await;
        let _ = reports.send(Report::Closed { start, end: Mono::now(), outcome });
    }
}

fn write(lines: Receiver<Line>, out: impl Write) -> std::io::Result<()> {
    let mut out = BufWriter::new(out);
    while let Ok(first) = lines.recv() {
        for line in std::iter::once(first).chain(lines.try_iter()) {
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Failure;

    #[tokio::test]
    async fn a_name_that_is_known_to_nobody_is_a_failure_of_whom_it_names() {
        let target = |name: &str| format!("{name}:80/50/500").parse::<Target>().unwrap();
        let (lookups, unknown) = (Arc::new(Semaphore::new(1)), target("kchaos.invalid"));
        let connect = async { TcpStream::connect(unknown.peer.address(&lookups).await?).await };
        let seen = plain_http::get(connect, None, tokio::time::sleep(Duration::from_secs(60))).await;
        assert!(matches!(seen, Outcome::Failed(Failure::Other(_))), "{seen:?}");
        let here = target("localhost").peer.address(&lookups).await.unwrap();
        assert!(here.ip().is_loopback(), "{here}");
    }

    #[test]
    fn a_target_reads_what_it_writes() {
        for s in [
            "10.96.0.7:80/50/500",
            "[fd00::1]:8080/1/40",
            "10.96.0.7:80/50/500/web.shop.svc/",
            "10.96.0.7:80/50/500/web.shop.svc:8080/a/b?c=/d",
            "web.shop.svc:80/50/500",
        ] {
            assert_eq!(s.parse::<Target>().unwrap().to_string(), s);
        }
        for s in [
            "10.96.0.7:80",
            "web/50/500",
            "10.96.0.7:80/0/500",
            "10.96.0.7:80/50/x",
            "10.96.0.7/50/500",
            "fd00::1:80/1/1",
        ] {
            s.parse::<Target>().unwrap_err();
        }
    }
}
