//! An expired copy of a certificate that a node has, for the same key.
//!
//! The nodes' own openssl makes it: the request on the node that has the key, the certificate on the node that has the
//! cluster's certificate authority. No key leaves its node, and nothing is changed there.

use std::time::Duration;

use bytes::Bytes;

use crate::cluster::docker::Engine;
use crate::error::{Error, Result};
use crate::in_node::Certificate;
use crate::node::NodeId;
use crate::plan::PlannedFault;
use crate::scenario::CertificateOf;

const WITHIN: Duration = Duration::from_secs(20);
/// Requests a certificate like the existing one, with its key.
const REQUEST: &str = r#"openssl x509 -x509toreq -in "$1" -signkey "$2" -copy_extensions copyall"#;
/// Signs a request, for a year that ended an hour ago.
const SIGN: &str = r#"set -eu
for tool in ca.crt ca.key; do
	[ -e "$1/$tool" ] || { echo "there is no $tool of the cluster's authority in $1" >&2; exit 1; }
done
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
: >"$made/index"
cat >"$made/request"
cat >"$made/settings" <<-END
	[ca]
	default_ca = expired
	[expired]
	database = $made/index
	new_certs_dir = $made
	rand_serial = yes
	default_md = sha256
	copy_extensions = copyall
	policy = any
	preserve = yes
	[any]
	commonName = supplied
	organizationName = optional
END
at() { date -u -d "$1" +%Y%m%d%H%M%SZ; }
openssl ca -batch -notext -config "$made/settings" -cert "$1/ca.crt" -keyfile "$1/ca.key" \
	-startdate "$(at '-366 days')" -enddate "$(at '-1 hour')" -in "$made/request"
"#;

pub(super) async fn expired(engine: &Engine, fault: &PlannedFault, of: CertificateOf) -> Result<Certificate> {
    let certificate = of.file();
    let key = match of {
        CertificateOf::KubeApiserver => "/etc/kubernetes/pki/apiserver.key",
        CertificateOf::EtcdPeer => "/etc/kubernetes/pki/etcd/peer.key",
        // One file has both.
        CertificateOf::Kubelet => certificate,
    };
    let (authority, kept_in) = match of {
        CertificateOf::KubeApiserver => (&fault.node, "/etc/kubernetes/pki"),
        CertificateOf::EtcdPeer => (&fault.node, "/etc/kubernetes/pki/etcd"),
        CertificateOf::Kubelet => (fault.operator.as_ref().unwrap_or(&fault.node), "/etc/kubernetes/pki"),
    };
    let request = told(engine, &fault.node, &["sh", "-c", REQUEST, "sh", certificate, key], None).await?;
    let signed = told(engine, authority, &["sh", "-c", SIGN, "sh", kept_in], Some(request.into())).await?;
    Certificate::try_from(signed)
        .map_err(|why| Error::could_not_run(format!("openssl of {} made none: {why}", authority.name)))
}

async fn told(engine: &Engine, node: &NodeId, argv: &[&str], stdin: Option<Bytes>) -> Result<String> {
    let output = engine.exec(node, argv, stdin, WITHIN).await?;
    match output.code {
        0 => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(Error::could_not_run(format!(
            "no certificate that has expired could be made in {}: code {code}: {}",
            node.name,
            output.stderr.trim()
        ))),
    }
}
