//! Commands that make and remove clusters.

use super::{Talk, print, runtime};
use crate::cluster::docker::Engine;
use crate::error::{Exit, Result};
use crate::provision;
use crate::signal::Signals;

/// Makes a cluster, or brings back the one that is there.
pub(super) fn up(topology: &str, name: Option<&str>, talk: &Talk) -> Result<Exit> {
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let engine = signals.abandon(Engine::connect()).await?;
        let cluster = super::bring_up(&engine, topology, name, &mut signals, talk).await?;
        print(&cluster.name);
        Ok(Exit::Upheld)
    })
}

/// Removes the named cluster, or all clusters that kchaos made.
pub(super) fn down(name: Option<&str>, talk: &Talk) -> Result<Exit> {
    runtime()?.block_on(async {
        let engine = Engine::connect().await?;
        let names = match name {
            Some(name) => vec![name.to_owned()],
            None => provision::made_clusters(&engine).await?,
        };
        for name in &names {
            provision::down(&engine, name).await?;
            super::close_removed(&engine, name, talk).await;
            print(&format!("{name}: removed"));
        }
        Ok(Exit::Upheld)
    })
}
