//! Resolves which container engine to use, like the docker command line: `DOCKER_HOST`, else the context named by
//! `DOCKER_CONTEXT` or by the configuration file, else the default socket.
//!
//! It takes the environment and returns an [`Endpoint`], or an error that says what to do. It dials nothing. It accepts
//! Unix sockets and plain TCP. TCP other than over the loopback interface needs the user's permission for a remote
//! engine: access to an engine is root access to its machine.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Environment variable that allows an engine reached by TCP other than over the loopback interface.
pub const ALLOW_REMOTE: &str = "KCHAOS_ALLOW_REMOTE_ENGINE";

/// Where the engine listens, and what named that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix:///path` or `tcp://host:port`.
    pub host: String,
    /// What named it, for humans.
    pub chosen_by: String,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.host, self.chosen_by)
    }
}

impl Endpoint {
    /// Path of the socket file, if the endpoint is a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }

    /// Resolves the endpoint from the process' environment.
    ///
    /// # Errors
    /// If a context doesn't exist, a file can't be read, or the kind of endpoint is not supported or not allowed.
    pub fn from_env() -> Result<Self> {
        Self::resolve(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn resolve(var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let endpoint = match var("DOCKER_HOST") {
            Some(host) => Self { host, chosen_by: "DOCKER_HOST".into() },
            None => Self::of_context(&var)?,
        };
        endpoint.permitted(&var)
    }

    fn of_context(var: &impl Fn(&str) -> Option<String>) -> Result<Self> {
        let dir = var("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| var("HOME").map(|home| Path::new(&home).join(".docker")));
        let (name, named_by) = match (var("DOCKER_CONTEXT"), &dir) {
            (Some(name), _) => (Some(name), "DOCKER_CONTEXT".to_owned()),
            (None, Some(dir)) => (current_context(dir)?, dir.join("config.json").display().to_string()),
            (None, None) => (None, String::new()),
        };
        match (name, dir) {
            (Some(name), Some(dir)) if name != "default" => {
                let host = context_host(&dir, &name)?.ok_or_else(|| {
                    Error::could_not_run(format!("docker context \"{name}\", named by {named_by}, does not exist"))
                        .next("docker context ls shows those that do; docker context use NAME, DOCKER_CONTEXT or DOCKER_HOST choose one")
                })?;
                Ok(Self { host, chosen_by: format!("context {name}") })
            }
            _ => Ok(Self { host: DEFAULT_SOCKET.into(), chosen_by: "default".into() }),
        }
    }

    fn permitted(self, var: &impl Fn(&str) -> Option<String>) -> Result<Self> {
        let scheme = self.host.split_once("://").map_or("", |(scheme, _)| scheme);
        let refuse = |why: String, next: &str| Err(Error::could_not_run(why).next(next));
        match scheme {
            "unix" => Ok(self),
            "tcp" | "http" if var("DOCKER_TLS_VERIFY").is_some() || var("DOCKER_TLS").is_some() => {
                refuse(format!("the engine at {self} is reached by TLS, which kchaos does not support"), USE_SOCKET)
            }
            "tcp" | "http" if is_loopback(&self.host) || var(ALLOW_REMOTE).is_some() => Ok(self),
            "tcp" | "http" => refuse(
                format!("the engine at {self} is on another machine"),
                &format!(
                    "if that is meant, set {ALLOW_REMOTE}=1; else point DOCKER_HOST or DOCKER_CONTEXT at a local engine"
                ),
            ),
            _ => refuse(
                format!("the engine at {self} is reached by \"{scheme}\", which kchaos does not support"),
                USE_SOCKET,
            ),
        }
    }
}

const USE_SOCKET: &str =
    "point DOCKER_HOST at a Unix socket, for instance one forwarded by ssh -L /tmp/engine.sock:/var/run/docker.sock";

fn is_loopback(host: &str) -> bool {
    let authority = host.split_once("://").map_or(host, |(_, rest)| rest).trim_end_matches('/');
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    current_context: Option<String>,
}

fn current_context(dir: &Path) -> Result<Option<String>> {
    let config: Option<Config> = read_json(&dir.join("config.json"))?;
    Ok(config.and_then(|c| c.current_context).filter(|name| !name.is_empty()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Meta {
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<DockerEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEndpoint {
    host: String,
}

/// The host of a context. Its directory is named after a digest of the context's name; searching all directories avoids
/// computing that digest.
fn context_host(dir: &Path, name: &str) -> Result<Option<String>> {
    let Ok(entries) = std::fs::read_dir(dir.join("contexts/meta")) else { return Ok(None) };
    for entry in entries.flatten() {
        let meta: Option<Meta> = read_json(&entry.path().join("meta.json"))?;
        if let Some(meta) = meta.filter(|meta| meta.name == name) {
            return Ok(meta.endpoints.docker.map(|docker| docker.host));
        }
    }
    Ok(None)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let broken = |why: String| {
        Error::could_not_run(format!("{}: {why}", path.display()))
            .next("repair the file, or set DOCKER_HOST, which goes before it")
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| broken(e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(broken(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn resolve(vars: &[(&str, &str)]) -> Result<Endpoint> {
        let vars: BTreeMap<_, _> = vars.iter().copied().collect();
        Endpoint::resolve(|name| vars.get(name).map(|v| (*v).to_owned()))
    }

    fn with_contexts() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (digest, name, host) in
            [("aa", "other", "unix:///other.sock"), ("bb", "desktop", "unix:///home/me/desktop.sock")]
        {
            let meta = dir.path().join("contexts/meta").join(digest);
            fs::create_dir_all(&meta).unwrap();
            let json = format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            );
            fs::write(meta.join("meta.json"), json).unwrap();
        }
        fs::write(dir.path().join("config.json"), r#"{"auths":{},"currentContext":"desktop"}"#).unwrap();
        dir
    }

    #[test]
    fn docker_host_goes_before_every_context() {
        let dir = with_contexts();
        let config = dir.path().to_str().unwrap();
        let e = resolve(&[("DOCKER_HOST", "unix:///a.sock"), ("DOCKER_CONTEXT", "other"), ("DOCKER_CONFIG", config)])
            .unwrap();
        assert_eq!(e.to_string(), "unix:///a.sock (DOCKER_HOST)");
    }

    #[test]
    fn docker_context_goes_before_the_current_context() {
        let dir = with_contexts();
        let config = dir.path().to_str().unwrap();
        let e = resolve(&[("DOCKER_CONTEXT", "other"), ("DOCKER_CONFIG", config)]).unwrap();
        assert_eq!(e.to_string(), "unix:///other.sock (context other)");
        let e = resolve(&[("DOCKER_CONFIG", config)]).unwrap();
        assert_eq!(e.to_string(), "unix:///home/me/desktop.sock (context desktop)");
    }

    #[test]
    fn the_default_context_is_the_default_socket() {
        let dir = with_contexts();
        let e = resolve(&[("DOCKER_CONTEXT", "default"), ("DOCKER_CONFIG", dir.path().to_str().unwrap())]).unwrap();
        assert_eq!(e.socket(), Some(Path::new("/var/run/docker.sock")));
        assert_eq!(resolve(&[]).unwrap().chosen_by, "default");
    }

    #[test]
    fn a_missing_context_is_an_error_and_never_the_default() {
        let dir = with_contexts();
        let error = resolve(&[("DOCKER_CONTEXT", "gone"), ("DOCKER_CONFIG", dir.path().to_str().unwrap())])
            .unwrap_err()
            .to_string();
        assert!(error.contains("\"gone\"") && error.contains("docker context ls"), "{error}");
    }

    #[test]
    fn a_broken_config_file_is_an_error_that_names_it() {
        let dir = with_contexts();
        fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = resolve(&[("DOCKER_CONFIG", dir.path().to_str().unwrap())]).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn a_remote_engine_is_refused_unless_asked_for() {
        assert!(resolve(&[("DOCKER_HOST", "tcp://127.0.0.1:2375")]).is_ok());
        assert!(resolve(&[("DOCKER_HOST", "tcp://[::1]:2375")]).is_ok());
        assert!(resolve(&[("DOCKER_HOST", "tcp://localhost:2375")]).is_ok());
        let error = resolve(&[("DOCKER_HOST", "tcp://10.0.0.1:2375")]).unwrap_err().to_string();
        assert!(error.contains(ALLOW_REMOTE), "{error}");
        assert!(resolve(&[("DOCKER_HOST", "tcp://127.0.0.1.example.com:2375")]).is_err());
        assert!(resolve(&[("DOCKER_HOST", "tcp://10.0.0.1:2375"), (ALLOW_REMOTE, "1")]).is_ok());
    }

    #[test]
    fn tls_and_ssh_are_said_to_be_unsupported() {
        let tls =
            resolve(&[("DOCKER_HOST", "tcp://127.0.0.1:2376"), ("DOCKER_TLS_VERIFY", "1")]).unwrap_err().to_string();
        assert!(tls.contains("TLS"), "{tls}");
        let ssh = resolve(&[("DOCKER_HOST", "ssh://me@host")]).unwrap_err().to_string();
        assert!(ssh.contains("\"ssh\""), "{ssh}");
    }
}
