//! The keeper: the app whose state a scenario may lose.
//!
//! It answers HTTP with its host name and a random token that it makes at its very first start. With `--state FILE` the
//! token outlives the process as long as the file does; without, it lives in memory. A state file that holds no token
//! ends the keeper: lost state must show as another token, broken state as silence.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::net::TcpListener;

use super::http;
use crate::error::{Error, Result};

const TOKEN_BYTES: usize = 16;

/// Arguments of `kchaos agent keeper`.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// Port to answer on.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Keep the token in this file instead of in memory.
    #[arg(long)]
    state: Option<PathBuf>,
}

/// Answers until it is stopped.
///
/// # Errors
/// If the state can't be read, written, or is no token, or the port is taken.
pub(super) async fn run(args: KeeperArgs) -> Result<()> {
    let token = match &args.state {
        Some(file) => kept(file).map_err(|e| Error::could_not_run(format!("state file {}: {e}", file.display())))?,
        None => fresh().map_err(|e| Error::could_not_run(format!("no random numbers: {e}")))?,
    };
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, args.port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|e| Error::could_not_run(format!("can't listen on {address}: {e}")))?;
    // The name tells whose token it is: an address may have been somebody else's before.
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    http::serve(listener, format!("{name} {token}").into()).await;
    Ok(())
}

fn fresh() -> std::io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Returns the token in the file. If there is no file, makes a new token that is safely on disk.
fn kept(file: &Path) -> std::io::Result<String> {
    match fs::read_to_string(file) {
        Ok(token) if token.len() == 2 * TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(token),
        Ok(_) => Err(std::io::Error::new(ErrorKind::InvalidData, "it does not hold a token")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let token = fresh()?;
            // The file is written whole or not at all: a crash while writing must not look like broken state.
            let draft = file.with_extension("draft");
            let mut new = File::create(&draft)?;
            new.write_all(token.as_bytes())?;
            new.sync_all()?;
            fs::rename(&draft, file)?;
            File::open(file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let first = kept(&file).unwrap();
        assert_eq!(kept(&file).unwrap(), first);
        fs::remove_file(&file).unwrap();
        assert_ne!(kept(&file).unwrap(), first);
    }

    #[test]
    fn a_file_without_a_token_is_an_error_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "").unwrap();
        assert_eq!(kept(&file).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }
}
