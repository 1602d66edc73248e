//! kchaos inside the cluster: the same binary, put into nodes as an image and run as `kchaos agent …`.
//!
//! [`sampler`] asks addresses at a fixed rate and writes one line per slot. [`keeper`](app::keeper) is the app whose
//! state a scenario may lose, [`api_client`](app::api_client) the one that depends on the API. Each runs on one thread,
//! but for the sampler's output and its look-up of names, and ends at SIGTERM. Sampler and keeper need no API server, and
//! no files but the one that keeps the keeper's state. None judges anything.

/// Applications that a scenario deploys and looks at.
pub mod app {
    pub mod api_client;
    pub mod keeper;
}
pub mod sampler;

use std::net::{Ipv4Addr, SocketAddr};

use clap::Subcommand;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Exit, Result};

/// What an agent is told to do.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Ask addresses at a fixed rate; one JSON line per slot on standard output.
    Sample(sampler::SampleArgs),
    /// Answer HTTP with a token made at the very first start.
    Keeper(app::keeper::KeeperArgs),
    /// Answer HTTP as long as the API server of the cluster answers.
    ApiClient(app::api_client::ApiClientArgs),
}

/// Runs an agent until SIGTERM.
///
/// # Errors
/// If it can't listen, keep its state, or write its output.
pub fn main(command: AgentCommand) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::could_not_run(format!("the agent could not start: {e}")))?;
    runtime.block_on(async {
        // A container's init process ignores SIGTERM unless it asks for the signal. Without this, a pod would take its
        // whole grace period to end.
        let mut term = signal(SignalKind::terminate())
            .map_err(|e| Error::could_not_run(format!("the agent can't listen for SIGTERM: {e}")))?;
        let told_to_end = async move {
            let _ = term.recv().await;
        };
        match command {
            AgentCommand::Sample(args) => tokio::select! {
                ended = sampler::run(args) => ended?,
                () = told_to_end => {}
            },
            AgentCommand::Keeper(args) => app::keeper::run(args, told_to_end).await?,
            AgentCommand::ApiClient(args) => tokio::select! {
                ended = app::api_client::run(args) => ended?,
                () = told_to_end => {}
            },
        }
        Ok(Exit::Upheld)
    })
}

/// The name of the pod that this runs in. It tells who answers: an address may have been somebody else's before.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where an app answers.
async fn listener(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let bound = TcpListener::bind(address).await;
    bound.map_err(|e| Error::could_not_run(format!("can't listen on {address}: {e}")))
}
