//! Commands that run again and again in a node, each in one exec that stays. Starting an exec costs the machine more
//! than most looks do, and the observers lose what it costs.
//!
//! A shell in the node runs the command once for each line that it reads. It ends with its standard input, which ends
//! with the exec's connection, whatever becomes of kchaos.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use tokio::io::AsyncWriteExt;

use super::exec::{Frames, Input, Said, doing};
use super::{Engine, Output, failed};
use crate::error::{Error, Result};
use crate::node::NodeId;

/// Ends the output on each stream; on standard output, the exit code follows it. Output that is meant to be read never
/// contains it.
const END_OF_TRANSMISSION: u8 = 4;
const LOOP: &str = r#"while read -r _; do "$@" </dev/null; printf '\004%s\n' "$?"; printf '\004' >&2; done"#;

/// A pool of shells that run commands in nodes.
#[derive(Debug, Clone)]
pub struct Residents {
    engine: Engine,
    /// Shells that serve no caller at the moment. A caller that finds none opens another, so no caller waits for
    /// another's answer.
    idle: Arc<Mutex<HashMap<Command, Vec<Shell>>>>,
}

type Command = (NodeId, Vec<String>);

struct Shell {
    frames: Frames,
    input: Input,
}

impl std::fmt::Debug for Shell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shell")
    }
}

impl Residents {
    /// Makes an empty pool.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine, idle: Arc::default() }
    }

    /// Runs the command in the node and waits for its end, for at most `deadline`.
    ///
    /// # Errors
    /// If the node does not run, or the engine or the command exceeds the deadline (the command then goes on
    /// unattended). A command that ends with a code other than 0, or does not exist, is no error.
    pub async fn run(&self, node: &NodeId, argv: &[&str], deadline: Duration) -> Result<Output> {
        let command: Command = (node.clone(), argv.iter().map(|&word| word.to_owned()).collect());
        let run = async {
            // A shell whose answer is no longer awaited is not put back, so nobody takes that answer for their own.
            while let Some(mut shell) = self.take_idle(&command) {
                if let Ok(output) = shell.ask(node, argv).await {
                    return Ok((shell, output));
                }
                // This shell has ended with its node or the engine.
            }
            let mut shell = self.open(node, argv).await?;
            let output = shell.ask(node, argv).await?;
            Ok((shell, output))
        };
        let late = |_| Err(Error::could_not_run(format!("could not {} within {deadline:?}", doing(node, argv))));
        let (shell, output) = tokio::time::timeout(deadline, run).await.unwrap_or_else(late)?;
        self.idle().entry(command).or_default().push(shell);
        Ok(output)
    }

    fn take_idle(&self, command: &Command) -> Option<Shell> {
        self.idle().get_mut(command)?.pop()
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<Command, Vec<Shell>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(&self, node: &NodeId, argv: &[&str]) -> Result<Shell> {
        let looped = [&["sh", "-c", LOOP, "sh"], argv].concat();
        let (_, frames, input) = self.engine.start_exec(node, &looped, true).await?;
        Ok(Shell { frames, input })
    }
}

impl Shell {
    async fn ask(&mut self, node: &NodeId, argv: &[&str]) -> Result<Output> {
        let broken = |why: &str| Error::could_not_run(format!("could not {}: {why}", doing(node, argv)));
        self.input.write_all(b"\n").await.map_err(|e| broken(&e.to_string()))?;
        self.input.flush().await.map_err(|e| broken(&e.to_string()))?;
        let mut said = Said::default();
        while let Some(frame) = self.frames.try_next().await.map_err(|e| failed(&doing(node, argv), &e))? {
            said.take(frame, node, argv)?;
            if let (Some((code, length)), Some(&END_OF_TRANSMISSION)) = (answer(&said.stdout), said.stderr.last()) {
                said.stdout.truncate(length);
                said.stderr.pop();
                return Ok(said.output(code));
            }
        }
        Err(broken("it ended"))
    }
}

/// Exit code, and the length of the output before it; `None` until both are complete.
fn answer(said: &[u8]) -> Option<(i64, usize)> {
    let length = said.iter().rposition(|&b| b == END_OF_TRANSMISSION)?;
    let code = std::str::from_utf8(&said[length + 1..]).ok()?.strip_suffix('\n')?.parse().ok()?;
    Some((code, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_only_when_it_is_whole() {
        let whole = b"a\n\nb\n\x043\n";
        assert_eq!(answer(whole), Some((3, b"a\n\nb\n".len())));
        for part in 0..whole.len() {
            assert_eq!(answer(&whole[..part]), None, "{part}");
        }
        assert_eq!(answer(b"\x040\n"), Some((0, 0)));
    }
}
