//! Addresses of the user's own things: a Service, asked from inside the cluster, or a URL, asked from this machine as
//! its users ask it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::plain_http::Request;

/// The address at which something of the user's is asked over HTTP: `service/NAMESPACE/NAME:PORT[/PATH]` or
/// `http://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A Service of the cluster, asked at its cluster IP.
    Service {
        /// The Service's namespace.
        namespace: String,
        /// The Service in that namespace, and what is asked of it.
        request: ServiceRequest,
    },
    /// A URL. Its host is looked up for each request.
    Url {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Path and query, with the slash in front.
        path: String,
    },
}

/// What is asked of a Service in any namespace: `NAME:PORT[/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRequest {
    /// The Service's name.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Path, with the slash in front.
    pub path: String,
}

/// Why a text is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an address is `service/NAMESPACE/NAME:PORT[/PATH]` or `http://HOST[:PORT][/PATH]`{0}")]
pub struct NotAnAddress(&'static str);

/// The beginning of a Service's address.
pub(crate) const SERVICE: &str = "service/";
const PLAIN: NotAnAddress = NotAnAddress("");

impl NotAnAddress {
    /// The text was meant to end in a budget, which is not a duration.
    pub(crate) const BUDGET: Self = Self("; what stands behind the last `=` is no duration such as `5s` or `500ms`");
}

impl Address {
    fn service(text: &str) -> Result<Self, NotAnAddress> {
        let (namespace, request) = text.split_once('/').unwrap_or((text, ""));
        // A first part with a port is already the Service's name.
        if namespace.contains(':') {
            return Err(NotAnAddress("; this one names no namespace"));
        }
        is_label(namespace)?;
        Ok(Self::Service { namespace: namespace.to_owned(), request: request.parse()? })
    }

    fn url(text: &str) -> Result<Self, NotAnAddress> {
        let uri: http::Uri = text.parse().map_err(|_| PLAIN)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(PLAIN)?.to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        // What is not understood is not left out: another address would be asked than the one that was meant.
        let authority = uri.authority().ok_or(PLAIN)?.as_str();
        if authority.contains('@') || host.contains('=') {
            return Err(NotAnAddress("; neither credentials nor `=` belong to a host"));
        }
        let port = match authority.strip_prefix(&host).ok_or(PLAIN)?.strip_prefix(':') {
            Some(port) => number(port)?,
            None => 80,
        };
        Ok(Self::Url { host, port, path: visible(path)? })
    }

    /// What is asked there.
    pub(crate) fn request(&self) -> Request {
        let (name, port) = match self {
            Self::Service { namespace, request } => (format!("{}.{namespace}.svc", request.name), request.port),
            Self::Url { host, port, .. } => (host.clone(), *port),
        };
        let host = if port == 80 { name } else { format!("{name}:{port}") };
        Request { host, path: self.path().to_owned() }
    }

    /// The path that is requested.
    pub fn path(&self) -> &str {
        match self {
            Self::Service { request, .. } => &request.path,
            Self::Url { path, .. } => path,
        }
    }
}

impl FromStr for ServiceRequest {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, format!("/{path}")),
            None => (text, "/".to_owned()),
        };
        let (name, port) = host.split_once(':').ok_or(NotAnAddress("; this one has no port"))?;
        is_label(name)?;
        Ok(Self { name: name.to_owned(), port: number(port)?, path: visible(path)? })
    }
}

impl fmt::Display for ServiceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.name, self.port, shown(&self.path))
    }
}

/// A path as it is written: `/` is left out.
fn shown(path: &str) -> &str {
    if path == "/" { "" } else { path }
}

fn is_label(name: &str) -> Result<(), NotAnAddress> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match (1..=63).contains(&name.len()) && name.bytes().all(plain) {
        true => Ok(()),
        false => Err(NotAnAddress("; names of Kubernetes consist of `a-z`, `0-9` and `-`")),
    }
}

fn number(port: &str) -> Result<u16, NotAnAddress> {
    port.parse().ok().filter(|port| *port > 0).ok_or(NotAnAddress("; a port is a number from 1 to 65535"))
}

/// Checks a path, which becomes part of a request, a command line and reports.
fn visible(path: String) -> Result<String, NotAnAddress> {
    match path.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(path),
        false => Err(NotAnAddress("; a path consists of visible ASCII characters")),
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.strip_prefix(SERVICE) {
            Some(rest) => Self::service(rest),
            None if text.starts_with("http://") => Self::url(text),
            None if text.starts_with("https://") => Err(NotAnAddress("; TLS is not spoken yet")),
            None => Err(PLAIN),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;
    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown(self.path());
        match self {
            Self::Service { namespace, request } => write!(f, "{SERVICE}{namespace}/{request}"),
            Self::Url { host, port: 80, .. } => write!(f, "http://{host}{path}"),
            Self::Url { host, port, .. } => write!(f, "http://{host}:{port}{path}"),
        }
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "`service/NAMESPACE/NAME:PORT[/PATH]`, asked from inside the cluster, or `http://HOST[:PORT][/PATH]`, asked from this machine.",
            "pattern": "^(service/[-a-z0-9]+/[-a-z0-9]+:[0-9]+(/.*)?|http://.+)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_what_it_writes() {
        for text in [
            "service/shop/web:80",
            "service/shop/web:8080/healthz?full=1",
            "http://localhost",
            "http://localhost:8080",
            "http://[::1]:8080/a/b",
            "http://127.0.0.1/x",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "an address is"),
            ("web:80", "an address is"),
            ("service/shop", "no port"),
            ("service/web:80", "names no namespace"),
            ("service/web:80/healthz", "names no namespace"),
            ("service/shop/web", "no port"),
            ("service/shop/web:0", "from 1 to 65535"),
            ("service/shop/web:65536", "from 1 to 65535"),
            ("service/Shop/web:80", "names of Kubernetes"),
            ("service//web:80", "names of Kubernetes"),
            ("service/shop/web:80/a b", "visible ASCII"),
            ("service/shop/web:80/a\r\nHost: x", "visible ASCII"),
            ("https://localhost", "TLS"),
            ("http://", "an address is"),
            ("http://:80", "an address is"),
            ("http://a:b", "an address is"),
            ("http://a:", "from 1 to 65535"),
            ("http://user:pw@localhost:80", "neither credentials"),
            ("http://x=5s", "neither credentials"),
            ("ftp://localhost", "an address is"),
        ] {
            let told = text.parse::<Address>().unwrap_err().to_string();
            assert!(told.contains(why), "{text:?}: {told}");
        }
    }
}
