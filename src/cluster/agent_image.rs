//! Puts the kchaos binary itself into nodes as a container image: no registry, no pull, works offline.
//!
//! It takes the running executable (or the file that `KCHAOS_AGENT` names), which must be a static Linux program of the
//! nodes' architecture. Through the engine it imports the binary into each node that lacks it, as a single-layer image
//! built in memory. The image's tag is the binary's digest, so a second run imports nothing. The image of the last
//! build stays in the nodes. It is small, and pinned so that the kubelet does not collect it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::docker::Engine;
use crate::error::{Error, Result};
use crate::node::NodeId;

/// No registry can have this name (RFC 6761), so none is ever asked for it.
const REPOSITORY: &str = "kchaos.invalid/agent";
const BINARY: &str = "kchaos";
/// Long enough for a debug build on a busy machine.
const IMPORT_WITHIN: Duration = Duration::from_secs(120);
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// Shell: removes the images of other builds.
const FORGET_OTHERS: &str = r#"for image in $(ctr --namespace=k8s.io images ls -q); do
	case $image in "$1":*) [ "$image" = "$2" ] || ctr --namespace=k8s.io images rm "$image" >/dev/null ;; esac
done"#;

/// Name of an image, with a tag that identifies its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRef(String);

impl ImageRef {
    /// The image that holds this binary.
    pub fn of(binary: &[u8]) -> Self {
        let digest = hex(&Sha256::digest(binary));
        Self(format!("{REPOSITORY}:{}", &digest[..16]))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes sure that all nodes have this binary as an image.
///
/// # Errors
/// If the binary can't run in the nodes, or a node refuses the import.
pub async fn ensure(engine: &Engine, nodes: &[NodeId]) -> Result<ImageRef> {
    // Megabytes are read and hashed, which must not hold up other tasks.
    let (path, binary, image) = apart(|| {
        let (path, binary) = read_binary()?;
        let image = ImageRef::of(&binary);
        Ok((path, Arc::new(binary), image))
    })
    .await?;
    let lacking: Vec<&NodeId> = try_join_all(nodes.iter().map(|node| lacks(engine, node, &image)))
        .await?
        .into_iter()
        .zip(nodes)
        .filter_map(|(lacks, node)| lacks.then_some(node))
        .collect();
    if lacking.is_empty() {
        return Ok(image);
    }
    for node in &lacking {
        let machine = run(engine, node, &["uname", "-m"], None, ASK_WITHIN).await?;
        runs_on(&binary, machine.trim()).map_err(|why| {
            Error::could_not_run(format!("{} can't run in node {}: {why}", path.display(), node.name)).next(
                "build kchaos for Linux with `cargo build --release` (it links statically), and point KCHAOS_AGENT at it",
            )
        })?;
    }
    let (content, name) = (Arc::clone(&binary), image.clone());
    let archive = apart(move || {
        archive(&content, &name)
            .map(Bytes::from)
            .map_err(|e| Error::could_not_run(format!("the agent's image could not be made: {e}")))
    })
    .await?;
    try_join_all(lacking.into_iter().map(|node| import(engine, node, &image, archive.clone()))).await?;
    Ok(image)
}

/// Runs long, blocking work where it holds up no other task.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::could_not_run(format!("cannot make the agent's image: {e}")))?
}

fn read_binary() -> Result<(PathBuf, Vec<u8>)> {
    let path = match std::env::var_os("KCHAOS_AGENT") {
        Some(path) => PathBuf::from(path),
        // Not `current_exe`: the file of a running program may have been replaced, but this link still leads to the
        // running one.
        None if cfg!(target_os = "linux") => PathBuf::from("/proc/self/exe"),
        None => {
            return Err(Error::could_not_run("what samples inside the cluster is kchaos itself, as a Linux program")
                .next("point KCHAOS_AGENT at a static Linux build of this kchaos, of the nodes' architecture"));
        }
    };
    let binary = std::fs::read(&path)
        .map_err(|e| Error::could_not_run(format!("can't read the agent's binary {}: {e}", path.display())))?;
    Ok((path, binary))
}

async fn lacks(engine: &Engine, node: &NodeId, image: &ImageRef) -> Result<bool> {
    let filter = format!("name=={image}");
    let found =
        run(engine, node, &["ctr", "--namespace=k8s.io", "images", "ls", "-q", &filter], None, ASK_WITHIN).await?;
    Ok(found.trim() != image.0)
}

async fn import(engine: &Engine, node: &NodeId, image: &ImageRef, archive: Bytes) -> Result<()> {
    run(engine, node, &["ctr", "--namespace=k8s.io", "images", "import", "-"], Some(archive), IMPORT_WITHIN).await?;
    let pin = ["ctr", "--namespace=k8s.io", "images", "label", &image.0, "io.cri-containerd.pinned=pinned"];
    run(engine, node, &pin, None, ASK_WITHIN).await?;
    run(engine, node, &["sh", "-c", FORGET_OTHERS, "sh", REPOSITORY, &image.0], None, ASK_WITHIN).await?;
    if lacks(engine, node, image).await? {
        return Err(Error::could_not_run(format!("node {} took the agent's image and does not have it", node.name)));
    }
    Ok(())
}

async fn run(engine: &Engine, node: &NodeId, argv: &[&str], stdin: Option<Bytes>, within: Duration) -> Result<String> {
    let output = engine.exec(node, argv, stdin, within).await?;
    if output.code != 0 {
        let why = output.stderr.trim();
        return Err(Error::could_not_run(format!("`{}` in node {} failed: {why}", argv.join(" "), node.name)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this program runs on such a machine, whatever libraries are installed; if not, why.
fn runs_on(binary: &[u8], machine: &str) -> Result<(), String> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| binary.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |at: usize| binary.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let u64_at = |at: usize| Some(u64::from(u32_at(at)?) | u64::from(u32_at(at + 4)?) << 32);
    // 64 bit, little endian: all of Kubernetes' common architectures are.
    if binary.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err("it is no Linux program".into());
    }
    let built_for = match u16_at(18) {
        Some(62) => "x86_64",
        Some(183) => "aarch64",
        _ => "another architecture",
    };
    if built_for != machine {
        return Err(format!("it is built for {built_for}, the node is {machine}"));
    }
    let truncated = || "it is cut short".to_owned();
    let table = u64_at(32).and_then(|at| usize::try_from(at).ok()).ok_or_else(truncated)?;
    let (size, count) = (u16_at(54).ok_or_else(truncated)?, u16_at(56).ok_or_else(truncated)?);
    for entry in 0..usize::from(count) {
        let at = entry.checked_mul(usize::from(size)).and_then(|o| o.checked_add(table)).ok_or_else(truncated)?;
        if u32_at(at).ok_or_else(truncated)? == PT_INTERP {
            return Err("it is linked dynamically".into());
        }
    }
    Ok(())
}

/// The image as `docker save` would write it.
fn archive(binary: &[u8], image: &ImageRef) -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::with_capacity(binary.len() + 4096));
    append(&mut layer, Path::new(BINARY), 0o755, binary)?;
    let layer = layer.into_inner()?;
    let architecture = match binary.get(18) {
        Some(183) => "arm64",
        _ => "amd64",
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [format!("/{BINARY}")], "User": "65534:65534"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
    }))?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest =
        serde_json::to_vec(&json!([{"Config": config_name, "RepoTags": [image.0], "Layers": ["layer.tar"]}]))?;
    let mut archive = tar::Builder::new(Vec::with_capacity(layer.len() + 8192));
    append(&mut archive, Path::new(&config_name), 0o644, &config)?;
    append(&mut archive, Path::new("layer.tar"), 0o644, &layer)?;
    append(&mut archive, Path::new("manifest.json"), 0o644, &manifest)?;
    archive.into_inner()
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, path, data)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn this_very_binary_is_static_and_fits_its_own_machine_only() {
        let other = if std::env::consts::ARCH == "x86_64" { "aarch64" } else { "x86_64" };
        assert_eq!(runs_on(&own(), std::env::consts::ARCH), Ok(()));
        assert!(runs_on(&own(), other).unwrap_err().contains("built for"));
    }

    #[test]
    fn what_can_not_run_in_a_node_is_refused_with_the_reason() {
        let shell = std::fs::read("/bin/sh").unwrap();
        assert_eq!(runs_on(&shell, std::env::consts::ARCH).unwrap_err(), "it is linked dynamically");
        assert_eq!(runs_on(b"#!/bin/sh", "x86_64").unwrap_err(), "it is no Linux program");
        assert_eq!(runs_on(&own()[..60], std::env::consts::ARCH).unwrap_err(), "it is cut short");
    }

    #[test]
    fn the_archive_is_one_layer_whose_digest_the_config_names() {
        let image = ImageRef::of(b"program");
        assert_eq!(image.to_string(), "kchaos.invalid/agent:1310ca2c8932dbd1");
        let bytes = archive(b"program", &image).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut files = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            io::Read::read_to_end(&mut entry, &mut data).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), data);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], image.to_string());
        let config: serde_json::Value =
            serde_json::from_slice(&files[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&files["layer.tar"])));
        assert_eq!(config["rootfs"]["diff_ids"][0], digest);
    }
}
