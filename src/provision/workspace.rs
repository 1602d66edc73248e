//! A directory for what making a cluster leaves for inspection: the config, kind's output, the nodes' logs.
//!
//! It is `$XDG_CACHE_HOME/kchaos/clusters/NAME`, accessible to the user alone. Nothing depends on its contents.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The directory of one cluster.
pub(super) struct Workspace(PathBuf);

impl Workspace {
    /// Makes the directory, empty.
    pub(super) fn make(cluster: &str) -> Result<Self> {
        let dir = place(cluster)?;
        let made = match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => DirBuilder::new().recursive(true).mode(0o700).create(&dir),
        };
        match made {
            Ok(()) => Ok(Self(dir)),
            Err(e) => Err(Error::could_not_run(format!("cannot make {}: {e}", dir.display()))
                .next("point XDG_CACHE_HOME elsewhere")),
        }
    }

    /// Removes a cluster's directory. It does not matter if that fails.
    pub(super) fn remove(cluster: &str) {
        let _ = place(cluster).map(fs::remove_dir_all);
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn place(cluster: &str) -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let cache = cache.ok_or_else(|| {
        Error::could_not_run("there is no place for logs: neither XDG_CACHE_HOME nor HOME is an absolute path")
            .next("set one of them")
    })?;
    Ok(cache.join("kchaos/clusters").join(cluster))
}
