//! A client of a cluster's API like a user's, made without a kubeconfig of the user's.
//!
//! It takes the administrator's kubeconfig from a control plane through the engine, and makes a new client from its
//! certificates and key and from nothing else: a kubeconfig can name programs to run, files to read and proxies to use,
//! and this one comes from a cluster that is about to be broken. The client dials a port that kind publishes on the
//! host, so it works where nodes' addresses aren't routed.
//!
//! It retries nothing, and has no deadline except the one for connecting: the caller's own deadline decides what
//! silence means.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http::Request;
use http::header::{CONNECTION, HeaderValue};
use kube::client::{Body, ClientBuilder};
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tower::util::MapRequestLayer;

use super::docker::Engine;
use crate::error::{Error, Result};
use crate::node::NodeId;

/// The administrator's kubeconfig on a control plane.
const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";
/// Kubeconfig of the super-administrator, who gets in without any rights stored in the cluster. Only the first control
/// plane has it (kubeadm, since 1.29).
const SUPER_ADMIN_CONF: &str = "/etc/kubernetes/super-admin.conf";
/// How long a control plane may take to show a kubeconfig.
const READ: Duration = Duration::from_secs(10);
/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// The port on which an API server, or kind's load balancer, listens in its container.
const API_PORT: &str = "6443/tcp";

/// The identity under which a client uses the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// A user: the administrator, whose rights come from RBAC like everybody's.
    User,
    /// The operator with the last-resort key, who needs no rights stored in the cluster. Without such a key, the
    /// administrator.
    Operator,
}

/// Credentials that let their holder in as the cluster's administrator. Never printed, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Certificate authority, in base64 as in a kubeconfig.
    authority: String,
    /// Client certificate, likewise.
    certificate: String,
    /// Its key, likewise.
    key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// Reads credentials from a running control plane.
    ///
    /// # Errors
    /// If the node does not run or has no such file, or the file holds anything but certificates and a key.
    pub async fn read(engine: &Engine, control_plane: &NodeId, identity: Identity) -> Result<Self> {
        let files = match identity {
            Identity::User => &[ADMIN_CONF][..],
            Identity::Operator => &[SUPER_ADMIN_CONF, ADMIN_CONF],
        };
        let mut shown = None;
        for file in files {
            let output = engine.exec(control_plane, &["cat", "--", file], None, READ).await?;
            if output.code == 0 {
                shown = Some((file, output.stdout));
                break;
            }
        }
        let name = &control_plane.name;
        let (file, text) = shown.ok_or_else(|| Error::could_not_run(format!("{name} shows no {ADMIN_CONF}")))?;
        Self::parse(&String::from_utf8_lossy(&text))
            .map_err(|why| Error::could_not_run(format!("{file} of {name} is not used: {why}")))
    }

    /// Takes the credentials of the current context from a kubeconfig. The error says how the file differs from what
    /// kubeadm writes.
    fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        let context = file.contexts.into_iter().find(|c| c.name == file.current_context);
        let context = context.ok_or("it has no current context")?.context;
        let cluster =
            file.clusters.into_iter().find(|c| c.name == context.cluster).ok_or("its cluster is missing")?.cluster;
        let user = file.users.into_iter().find(|u| u.name == context.user).ok_or("its user is missing")?.user;
        only(&cluster, "cluster", &["server", "certificate-authority-data"])?;
        only(&user, "user", &["client-certificate-data", "client-key-data"])?;
        let data = |map: &Map<String, Value>, key: &str| match map.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            _ => Err(format!("it has no {key}")),
        };
        Ok(Self {
            authority: data(&cluster, "certificate-authority-data")?,
            certificate: data(&user, "client-certificate-data")?,
            key: data(&user, "client-key-data")?,
        })
    }

    /// A client that talks to an API server or load balancer at this address. It has connections of its own, and opens
    /// none yet.
    ///
    /// # Errors
    /// If the certificates or the key can't be used.
    pub async fn client(&self, server: SocketAddr) -> Result<kube::Client> {
        kube::Client::try_from(self.config(server).await?).map_err(|e| unusable(&e))
    }

    /// A client that makes a new connection for each request.
    ///
    /// # Errors
    /// As for [`Credentials::client`].
    pub async fn fresh_client(&self, server: SocketAddr) -> Result<kube::Client> {
        fresh(self.config(server).await?)
    }

    async fn config(&self, server: SocketAddr) -> Result<kube::Config> {
        let name = || "kchaos".to_owned();
        let cluster = Cluster {
            server: Some(format!("https://{server}")),
            certificate_authority_data: Some(self.authority.clone()),
            // Every API server of a kind cluster answers to this name, whatever address its port is published on.
            tls_server_name: Some("localhost".into()),
            ..Cluster::default()
        };
        let user = AuthInfo {
            client_certificate_data: Some(self.certificate.clone()),
            client_key_data: Some(self.key.clone().into()),
            ..AuthInfo::default()
        };
        let context = Context { cluster: name(), user: Some(name()), ..Context::default() };
        let kubeconfig = Kubeconfig {
            clusters: vec![NamedCluster { name: name(), cluster: Some(cluster), ..NamedCluster::default() }],
            auth_infos: vec![NamedAuthInfo { name: name(), auth_info: Some(user), ..NamedAuthInfo::default() }],
            contexts: vec![NamedContext { name: name(), context: Some(context), ..NamedContext::default() }],
            current_context: Some(name()),
            ..Kubeconfig::default()
        };
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|e| unusable(&e))?;
        // By default 429, 503 and 504 are retried for up to a quarter of an hour, which would hide the outage that is
        // to be seen.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        // The environment of this process may name a proxy that is meant for other traffic.
        config.proxy_url = None;
        Ok(config)
    }
}

/// A client with this configuration that makes a new connection for each request.
fn fresh(config: kube::Config) -> Result<kube::Client> {
    let builder = ClientBuilder::try_from(config).map_err(|e| unusable(&e))?;
    let close = MapRequestLayer::new(|mut request: Request<Body>| {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        request
    });
    Ok(builder.with_layer(&close).build())
}

fn unusable(why: &dyn fmt::Display) -> Error {
    Error::could_not_run(format!("the cluster's credentials can't be used: {why}"))
}

/// A client that talks only to this control plane's API server, through the port that kind publishes for it.
///
/// # Errors
/// If the control plane does not run, publishes no port, or its credentials can't be used.
pub async fn client(engine: &Engine, via: &NodeId) -> Result<kube::Client> {
    let (credentials, server) =
        futures::try_join!(Credentials::read(engine, via, Identity::Operator), published(engine, via))?;
    credentials.client(server).await
}

/// Address on the host at which the API of this control plane or load balancer is published.
///
/// # Errors
/// If the container is gone or publishes no such port.
pub async fn published(engine: &Engine, node: &NodeId) -> Result<SocketAddr> {
    let state = engine.state(node).await?;
    let address = state.ports.get(API_PORT);
    address
        .map(|a| dialled(*a))
        .ok_or_else(|| Error::could_not_run(format!("{} publishes no port for its API", node.name)))
}

/// The address to dial: the loopback address if the published one means "every interface".
fn dialled(published: SocketAddr) -> SocketAddr {
    let ip = match published.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, published.port())
}

/// Refuses every key that isn't listed: a list of dangerous keys would be outdated one day.
fn only(map: &Map<String, Value>, what: &str, allowed: &[&str]) -> Result<(), String> {
    match map.keys().find(|key| !allowed.contains(&key.as_str())) {
        Some(key) => Err(format!(
            "its {what} has `{}`, and only certificates and keys in the file itself are taken",
            key.escape_debug()
        )),
        None => Ok(()),
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "current-context")]
    current_context: String,
    contexts: Vec<FileContext>,
    clusters: Vec<FileCluster>,
    users: Vec<FileUser>,
}

#[derive(Deserialize)]
struct FileContext {
    name: String,
    context: FilePair,
}

#[derive(Deserialize)]
struct FilePair {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
struct FileCluster {
    name: String,
    cluster: Map<String, Value>,
}

#[derive(Deserialize)]
struct FileUser {
    name: String,
    user: Map<String, Value>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const ADMIN: &str = "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://ha-external-load-balancer:6443
  name: ha
contexts:
- context:
    cluster: ha
    user: kubernetes-admin
  name: kubernetes-admin@ha
current-context: kubernetes-admin@ha
kind: Config
preferences: {}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
";

    /// The client that [`Credentials::fresh_client`] makes, but of a server that knows no TLS and no certificates.
    pub(crate) async fn fresh_client_without_tls(server: SocketAddr) -> kube::Client {
        let mut config = Credentials::parse(ADMIN).unwrap().config(server).await.unwrap();
        config.cluster_url = format!("http://{server}").parse().unwrap();
        config.auth_info = AuthInfo::default();
        fresh(config).unwrap()
    }

    #[test]
    fn what_kubeadm_writes_is_taken() {
        let credentials = Credentials::parse(ADMIN).unwrap();
        let expected = Credentials { authority: "Q0E=".into(), certificate: "Q0VSVA==".into(), key: "S0VZ".into() };
        assert_eq!(credentials, expected);
    }

    #[test]
    fn keys_are_never_printed() {
        assert_eq!(format!("{:?}", Credentials::parse(ADMIN).unwrap()), "Credentials(…)");
    }

    /// A kubeconfig with lines added to its user or cluster.
    fn with(after: &str, lines: &str) -> String {
        assert!(ADMIN.contains(after));
        ADMIN.replace(after, &format!("{after}\n{lines}"))
    }

    #[test]
    fn a_kubeconfig_that_wants_a_program_run_is_refused_and_nothing_runs() {
        let dir = tempfile::tempdir().unwrap();
        let canary = dir.path().join("canary");
        let exec = format!(
            "    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: touch\n      args: [{}]\n      interactiveMode: Never",
            canary.display()
        );
        let error = Credentials::parse(&with("    client-key-data: S0VZ", &exec)).unwrap_err();
        assert!(error.contains("its user has `exec`"), "{error}");
        assert!(!canary.exists());
    }

    #[test]
    fn everything_but_certificates_and_keys_in_the_file_is_refused() {
        for (after, line, key) in [
            ("    client-key-data: S0VZ", "    auth-provider: {name: gcp}", "auth-provider"),
            ("    client-key-data: S0VZ", "    tokenFile: /etc/shadow", "tokenFile"),
            ("    client-key-data: S0VZ", "    client-key: /etc/shadow", "client-key"),
            ("    client-key-data: S0VZ", "    client-certificate: /etc/shadow", "client-certificate"),
            ("    client-key-data: S0VZ", "    token: abc", "token"),
            ("    client-key-data: S0VZ", "    as: system:masters", "as"),
            ("    certificate-authority-data: Q0E=", "    proxy-url: http://evil:1", "proxy-url"),
            ("    certificate-authority-data: Q0E=", "    certificate-authority: /etc/shadow", "certificate-authority"),
            ("    certificate-authority-data: Q0E=", "    insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
        ] {
            let error = Credentials::parse(&with(after, line)).expect_err(line);
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    #[test]
    fn a_kubeconfig_without_what_is_needed_is_refused() {
        for (from, to, why) in [
            ("    client-key-data: S0VZ\n", "", "no client-key-data"),
            ("current-context: kubernetes-admin@ha", "current-context: other", "no current context"),
            ("- name: kubernetes-admin\n", "- name: other\n", "user is missing"),
        ] {
            let error = Credentials::parse(&ADMIN.replace(from, to)).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_port_published_on_every_interface_is_dialled_on_the_loopback() {
        let dial = |a: &str| dialled(a.parse().unwrap()).to_string();
        assert_eq!(dial("0.0.0.0:40000"), "127.0.0.1:40000");
        assert_eq!(dial("[::]:40000"), "[::1]:40000");
        assert_eq!(dial("127.0.0.1:1"), "127.0.0.1:1");
    }
}
