//! What instances of a component write while another one leads, as the API servers' audit logs have it.
//!
//! A lease keeps nobody from writing: an instance that has lost it writes until it notices. The logs of all control
//! planes are read, since each API server logs what it was asked itself. Who leads when follows from the logs, too: an
//! instance leads from the moment in which its update of the lease is accepted. Instances are told apart by the
//! addresses of their nodes. What every instance asks for itself, such as a token, changes nothing and is not counted.
//!
//! A look has seen nothing unless it finds the log of every API server, recent renewals by one instance on a control
//! plane, and something else that the leader wrote since the first look. What an API server does not know the end of
//! may have been done or not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Pace, Source, Taken, blind};
use crate::cluster::AUDIT_LOG;
use crate::cluster::docker::{Engine, Residents};
use crate::cluster::facts::Clock;
use crate::component::Leader;
use crate::node::{NodeId, Role};
use crate::plan::Plan;
use crate::sample::{Outcome, Value};
use crate::scenario::{ProbeSpec, WriteOutcome};

/// Shell: prints the time, and the number and the size of the API server's log `$1`. If there is an `$2`, prints what the
/// component `$3` wrote to the API, from that byte on.
const READ: &str = r#"set -e
date -u +%Y-%m-%dT%H:%M:%S.%NZ
file=$(stat -c %i "$log")
stat -c '%i %s' "$log"
[ -n "$2" ] || exit 0
tail -c "+$(($2 + 1))" "$log" | grep -aE "\"verb\":\"(create|update|patch|delete|deletecollection)\".*\"userAgent\":\"$3/" || [ $? = 1 ]
[ "$(stat -c %i "$log")" = "$file" ] || { echo 'it was begun anew' >&2; exit 1; }"#;
/// What instances ask for themselves, whether they lead or not, and what only tells of something.
const NO_CHANGE: [&str; 5] =
    ["events", "leasecandidates", "tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews"];
/// The beginning of the names of the accounts by which the controller manager's controllers work.
const ACCOUNT: &str = "system:serviceaccount:kube-system:";
/// How far back a look looks: much farther than to the look before it.
const RECENT: SignedDuration = SignedDuration::from_secs(10);
/// Share of the deadline that is left for reading; the rest is for the engine.
const READING: f64 = 0.75;

/// Looks at its pace, forever. One look at what the component wrote serves all probes.
pub(super) async fn poll(plan: Arc<Plan>, probes: Vec<usize>, of: Leader, pace: Pace, engine: Engine, source: Source) {
    let logs = Arc::new(Logs { residents: Residents::new(engine), plan, begin: Mutex::default() });
    let probes = Arc::new(probes);
    super::poll(pace, source, &Arc::clone(&probes), move |slot| {
        let (logs, probes) = (Arc::clone(&logs), Arc::clone(&probes));
        async move {
            let look = tokio::time::timeout(pace.timeout, logs.read(of, pace.timeout.mul_f64(READING)));
            let (taken, read) = Taken::take(&slot, look).await;
            let read = read.unwrap_or_else(|_| Err("the engine did not answer in time".into()));
            let outcome = |probe: usize| match (&read, &logs.plan.probes[probe].spec) {
                (Ok((now, writes)), ProbeSpec::StaleWrites { that, .. }) => logs.judge(of, *now, writes, *that),
                (Ok(_), _) => Outcome::Unknown("not a probe of audit logs".into()),
                (Err(why), _) => Outcome::Unknown(why.clone()),
            };
            probes.iter().map(|&probe| (probe, taken, outcome(probe))).collect()
        }
    })
    .await;
}

/// The audit logs of a cluster.
struct Logs {
    residents: Residents,
    plan: Arc<Plan>,
    /// Each log's file, and where it ended at the first look. What is before that is not read.
    begin: Mutex<HashMap<NodeId, File>>,
}

/// A log's file: its number, and how many bytes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    number: u64,
    size: u64,
}

impl Logs {
    /// Reads all logs. Returns the nodes' time, and what instances of the component wrote since the first look.
    async fn read(&self, of: Leader, limit: Duration) -> Result<(Timestamp, Vec<Write>), String> {
        let path = self.plan.facts.audit_log.as_deref().ok_or("the API servers keep no audit log")?;
        let planes = self.plan.facts.nodes.values().filter(|node| node.role == Role::ControlPlane);
        let each = try_join_all(planes.map(|plane| self.read_one(&plane.node, path, of, limit))).await?;
        let now = each.iter().map(|read| read.now).max().ok_or("there is no control plane")?;
        Ok((now, each.into_iter().flat_map(|read| read.writes).collect()))
    }

    async fn read_one(&self, node: &NodeId, path: &str, of: Leader, limit: Duration) -> Result<Read, String> {
        let begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied();
        let from = begin.map(|file| file.size.to_string()).unwrap_or_default();
        let script = [AUDIT_LOG, READ].concat();
        let argv = ["sh", "-c", &script, "sh", path, &from, of.name()];
        let output = self.residents.run(node, &argv, limit).await.map_err(|e| format!("the engine: {e}"))?;
        if output.code != 0 {
            return Err(format!("the audit log of {} can't be read: {}", node.name, output.stderr.trim()));
        }
        let read = Read::parse(&String::from_utf8_lossy(&output.stdout), of);
        let read = read.ok_or_else(|| format!("the audit log of {} is not one that is understood", node.name))?;
        match begin {
            Some(begin) if read.file.number != begin.number || read.file.size < begin.size => {
                return Err(format!("the audit log of {} was begun anew", node.name));
            }
            Some(_) => {}
            None => {
                self.begin.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), read.file);
            }
        }
        Ok(read)
    }

    fn judge(&self, of: Leader, now: Timestamp, writes: &[Write], that: WriteOutcome) -> Outcome {
        let facts = &self.plan.facts;
        let lease = facts.clocks.get(&Clock::LeaderLease).map_or(Duration::ZERO, |clock| clock.value);
        let lease = SignedDuration::try_from(lease).unwrap_or(SignedDuration::MAX);
        let Some(last) = renewals(writes).max_by_key(|renewal| renewal.done) else {
            return Outcome::Unknown("nobody is seen to lead yet".into());
        };
        if now.duration_since(last.done) > lease {
            return blind("the audit logs do not have the renewals of any leader");
        }
        let mut planes = facts.nodes.values().filter(|node| node.role == Role::ControlPlane);
        if !planes.any(|plane| plane.addresses.values().any(|address| *address == last.from)) {
            return blind(format!("{} is no control plane's address, so instances can't be told apart", last.from));
        }
        // The controller manager's own account does little else than renew.
        let is_work = |write: &&Write| !write.renews && (write.by_account || of == Leader::KubeScheduler);
        if !writes.iter().any(|write| is_work(&write)) {
            return Outcome::Unknown("nobody is seen to do the work of a leader yet".into());
        }
        match by_others_than_the_leader(writes, that, now) {
            Some(count) => Outcome::Saw(Value::Count(count)),
            None => Outcome::Unknown("what became of a write is not known".into()),
        }
    }
}

/// A part of a log.
#[derive(Debug, PartialEq)]
struct Read {
    /// The node's time.
    now: Timestamp,
    file: File,
    writes: Vec<Write>,
}

impl Read {
    /// Reads what the node has printed; `None` if it can't be understood.
    fn parse(printed: &str, of: Leader) -> Option<Self> {
        let mut lines = printed.lines().peekable();
        let now = lines.next()?.parse().ok()?;
        let (number, size) = lines.next()?.split_once(' ')?;
        let file = File { number: number.parse().ok()?, size: size.parse().ok()? };
        let mut writes = Vec::new();
        while let Some(line) = lines.next() {
            match serde_json::from_str::<Entry>(line) {
                Ok(entry) => writes.extend(entry.write(of)),
                // The last line may be half written.
                Err(_) if lines.peek().is_none() => {}
                Err(_) => return None,
            }
        }
        Some(Self { now, file, writes })
    }
}

/// A write by an instance of the component.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    /// Address of the instance.
    from: String,
    /// When the API server received it.
    received: Timestamp,
    /// When the API server answered.
    done: Timestamp,
    /// What became of it. `None` if it may have been done or not.
    outcome: Option<WriteOutcome>,
    /// It is an update of the lease by which the component leads.
    renews: bool,
    /// It was made by one of the accounts of the controller manager's controllers.
    by_account: bool,
}

fn renewals(writes: &[Write]) -> impl Iterator<Item = &Write> {
    writes.iter().filter(|write| write.renews && write.outcome == Some(WriteOutcome::Accepted))
}

/// How many recent writes reached an API server when somebody else had renewed the lease last. `None` if it is not known
/// of one what became of it.
fn by_others_than_the_leader(writes: &[Write], that: WriteOutcome, now: Timestamp) -> Option<u64> {
    let renewals: Vec<_> = renewals(writes).collect();
    // An API server may be late to say that it is done. So the last one is the one that it was asked for last.
    let leader = |at: Timestamp| renewals.iter().filter(|r| r.done <= at).max_by_key(|r| r.received);
    let recent = writes.iter().filter(|write| !write.renews && now.duration_since(write.done) <= RECENT);
    let mut stale = recent.filter(|write| leader(write.received).is_some_and(|renewal| renewal.from != write.from));
    stale.try_fold(0, |count, write| Some(count + u64::from(write.outcome? == that)))
}

/// A line of an audit log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    user: User,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<String>,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
}

impl Entry {
    /// The write, if it is to change anything and has ended.
    fn write(self, of: Leader) -> Option<Write> {
        let object = self.object_ref?;
        let has_ended = self.stage == "ResponseComplete" || self.stage == "Panic";
        if !has_ended || NO_CHANGE.contains(&&*object.resource) || object.subresource == "token" {
            return None;
        }
        Some(Write {
            from: self.source_ips.into_iter().next()?,
            received: self.request_received_timestamp,
            done: self.stage_timestamp,
            outcome: match self.response_status.map(|status| status.code) {
                Some(200..300) => Some(WriteOutcome::Accepted),
                Some(400..500) => Some(WriteOutcome::Refused),
                _ => None,
            },
            renews: object.resource == "leases" && object.name == of.name(),
            by_account: self.user.username.starts_with(ACCOUNT),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: Leader = Leader::KubeControllerManager;

    /// A line as an API server writes it.
    fn line(at: &str, from: &str, object: &str, code: u16) -> String {
        format!(
            r#"{{"kind":"Event","level":"Metadata","stage":"ResponseComplete","verb":"update","user":{{"username":"u"}},"sourceIPs":["{from}"],"userAgent":"kube-controller-manager/v1.34.4","objectRef":{{{object}}},"responseStatus":{{"metadata":{{}},"code":{code}}},"requestReceivedTimestamp":"2026-11-29T12:29:{at}1Z","stageTimestamp":"2026-11-29T12:29:{at}9Z"}}"#
        )
    }

    const LEASE: &str = r#""resource":"leases","namespace":"kube-system","name":"kube-controller-manager""#;
    const POD: &str = r#""resource":"pods","namespace":"shop""#;

    fn read(lines: &[String]) -> Option<Read> {
        Read::parse(&format!("2026-11-29T12:29:59.000000000Z\n42 4711\n{}", lines.join("\n")), OF)
    }

    fn counts(lines: &[String]) -> (Option<u64>, Option<u64>) {
        let read = read(lines).unwrap();
        let count = |that| by_others_than_the_leader(&read.writes, that, read.now);
        (count(WriteOutcome::Accepted), count(WriteOutcome::Refused))
    }

    #[test]
    fn what_an_instance_writes_after_another_has_taken_over_is_counted_by_what_became_of_it() {
        let lines = [
            line("40.00", "a", LEASE, 200),
            // That was a while ago.
            line("48.00", "b", POD, 201),
            // What was asked for before the other one led counts for nothing; one that waits has nothing to ask for.
            line("49.10", "a", POD, 201),
            line("49.20", "b", POD, 409),
            line("49.60", "b", LEASE, 200),
            line("49.70", "b", POD, 201),
            line("50.00", "a", POD, 201),
            line("50.10", "a", POD, 409),
            line("50.20", "a", POD, 404),
            // None of them says anything about the state of the cluster.
            line("50.30", "a", r#""resource":"events""#, 201),
            line("50.30", "a", r#""resource":"tokenreviews""#, 201),
            line("50.40", "a", r#""resource":"serviceaccounts","subresource":"token""#, 201),
            // That it does not get the lease back is not news.
            line("50.50", "a", LEASE, 409),
        ];
        assert_eq!(counts(&lines), (Some(1), Some(3)));
        // The same lines in the order in which the logs of two nodes are read.
        let (of_b, of_a): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.contains(r#"["b"]"#));
        assert_eq!(counts(&[of_b, of_a].concat()), (Some(1), Some(3)));
    }

    #[test]
    fn a_renewal_that_an_api_server_is_late_to_tell_of_makes_nobody_lead_again() {
        let late = line("49.00", "a", LEASE, 200).replace("12:29:49.009Z", "12:29:54.009Z");
        let lines = [late, line("51.00", "b", LEASE, 200), line("55.00", "b", POD, 201), line("55.00", "a", POD, 409)];
        assert_eq!(counts(&lines), (Some(0), Some(1)));
    }

    #[test]
    fn a_write_that_may_have_been_done_or_not_leaves_the_number_open() {
        let with = |last: String| counts(&[line("49.00", "b", LEASE, 200), last]);
        for code in [500, 504] {
            assert_eq!(with(line("50.00", "a", POD, code)), (None, None), "{code}");
        }
        // That of the leader is nothing to be counted, and what has not ended will be told of once more.
        assert_eq!(with(line("50.00", "b", POD, 504)), (Some(0), Some(0)));
        let begun = line("50.00", "a", POD, 201).replace("ResponseComplete", "RequestReceived");
        assert_eq!(with(begun), (Some(0), Some(0)));
    }

    #[test]
    fn while_nobody_has_led_yet_nobody_writes_beside_a_leader() {
        assert_eq!(counts(&[line("40.00", "a", POD, 201), line("41.00", "b", LEASE, 200)]), (Some(0), Some(0)));
    }

    #[test]
    fn only_the_last_line_may_be_cut_short() {
        let whole = line("40.00", "a", LEASE, 200);
        let half = whole[..80].to_owned();
        assert_eq!(read(&[whole.clone(), half.clone()]).map(|read| read.writes.len()), Some(1));
        assert_eq!(read(&[half, whole]), None);
        assert_eq!(read(&[]).map(|read| (read.file.size, read.writes)), Some((4711, Vec::new())));
        assert_eq!(Read::parse("", OF), None);
    }
}
