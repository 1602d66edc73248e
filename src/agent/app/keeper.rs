//! The keeper: the app whose state a scenario may lose.
//!
//! It answers HTTP with its host name and a random token that it makes at its very first start. With `--state FILE` the
//! token outlives the process as long as the file does; without, it lives in memory. A state file that holds no token
//! ends the keeper: lost state must show as another token, broken state as silence. With `--record` it writes beside
//! its state before each answer, as applications do that need their volume all the time: one that can't be written to
//! shows as server errors. With `--buffer` the token is in memory only until SIGTERM, as with applications that count
//! on a clean end.

use std::fs::{self, File};
use std::future::{Ready, ready};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::agent::{host_name, listener};
use crate::error::{Error, Result};
use crate::plain_http::{self, NoAnswer};

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
    /// Write beside the state before each answer, and answer with an error if that fails.
    #[arg(long, requires = "state")]
    record: bool,
    /// Write the state only on SIGTERM, and then end.
    #[arg(long, requires = "state", conflicts_with = "record")]
    buffer: bool,
}

/// Answers until it is told to end.
///
/// # Errors
/// If the state can't be read, written, or is no token, or the port is taken.
pub(in crate::agent) async fn run(args: KeeperArgs, told_to_end: impl Future<Output = ()>) -> Result<()> {
    let of_file = |file: &Path, e| Error::could_not_run(format!("state file {}: {e}", file.display()));
    let kept = args.state.as_deref().map(|file| kept(file).map_err(|e| of_file(file, e))).transpose()?.flatten();
    let is_new = kept.is_none();
    let token = kept.map_or_else(fresh, Ok).map_err(|e| Error::could_not_run(format!("no random numbers: {e}")))?;
    if let Some(file) = args.state.as_deref().filter(|_| is_new && !args.buffer) {
        keep(file, &token).map_err(|e| of_file(file, e))?;
    }
    let listener = listener(args.port).await?;
    let record = args.state.as_ref().filter(|_| args.record).map(|state| state.with_extension("record"));
    tokio::select! {
        () = plain_http::serve(listener, serves(format!("{} {token}", host_name()).into(), record)) => {}
        () = told_to_end => {}
    }
    match args.state.as_deref().filter(|_| args.buffer) {
        Some(file) => keep(file, &token).map_err(|e| of_file(file, e)),
        None => Ok(()),
    }
}

/// What the keeper answers: its token, once it has written that to `record`, if there is one.
fn serves(
    answer: Arc<str>,
    record: Option<PathBuf>,
) -> impl Fn() -> Ready<std::result::Result<Arc<str>, NoAnswer>> + Clone {
    move || {
        ready(match &record {
            Some(file) => drafted(file, answer.as_bytes())
                .and_then(|(_, draft)| fs::rename(draft, file))
                .map(|()| Arc::clone(&answer))
                .map_err(|e| NoAnswer::Failed(format!("record {}: {e}", file.display()))),
            None => Ok(Arc::clone(&answer)),
        })
    }
}

fn fresh() -> std::io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Returns the token in the file, if there is a file.
fn kept(file: &Path) -> std::io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(token) if token.len() == 2 * TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Some(token)),
        Ok(_) => Err(std::io::Error::new(ErrorKind::InvalidData, "it does not hold a token")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts the token into the file. It is then safely on disk.
fn keep(file: &Path, token: &str) -> std::io::Result<()> {
    let (new, draft) = drafted(file, token.as_bytes())?;
    new.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

/// Writes what is to take a file's place by a rename: a crash while writing must not look like broken state. The volume
/// must have room for it beside the file.
fn drafted(file: &Path, with: &[u8]) -> std::io::Result<(File, PathBuf)> {
    let draft = file.with_extension("draft");
    let mut new = File::create(&draft)?;
    new.write_all(with)?;
    Ok((new, draft))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sample::{Failure, Outcome, Value};

    #[test]
    fn a_token_is_kept_and_each_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert_eq!(kept(&file).unwrap(), None);
        let token = fresh().unwrap();
        keep(&file, &token).unwrap();
        assert_eq!(kept(&file).unwrap(), Some(token.clone()));
        assert_ne!(fresh().unwrap(), token);
    }

    #[tokio::test]
    async fn who_buffers_keeps_nothing_unless_it_is_told_to_end() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("token");
        let args = |buffer| KeeperArgs { port: 0, state: Some(state.clone()), record: false, buffer };
        // Serves for a moment, and is then cut off.
        let cut_off = |args| tokio::time::timeout(Duration::from_millis(50), run(args, std::future::pending()));
        assert!(cut_off(args(true)).await.is_err());
        assert_eq!(kept(&state).unwrap(), None);
        run(args(true), std::future::ready(())).await.unwrap();
        let token = kept(&state).unwrap();
        assert!(token.is_some());
        // What was kept once, every start finds.
        run(args(true), std::future::ready(())).await.unwrap();
        assert_eq!(kept(&state).unwrap(), token);

        fs::remove_file(&state).unwrap();
        assert!(cut_off(args(false)).await.is_err());
        assert!(kept(&state).unwrap().is_some());
    }

    #[tokio::test]
    async fn who_records_answers_only_if_there_is_room_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("token");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(plain_http::serve(listener, serves("it".into(), Some(state.with_extension("record")))));
        let asked = async || {
            plain_http::get(TcpStream::connect(address), None, tokio::time::sleep(Duration::from_secs(5))).await
        };
        assert_eq!(asked().await, Outcome::Saw(Value::Text("it".into())));
        assert_eq!(fs::read_to_string(dir.path().join("token.record")).unwrap(), "it");
        // Stands for a volume that can't be written to, which only root could make here.
        fs::create_dir(dir.path().join("token.draft")).unwrap();
        assert_eq!(asked().await, Outcome::Failed(Failure::Status(500)));
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
