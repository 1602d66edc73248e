//! Commands in nodes. An exec's stream carries no exit code, so the output is drained first and the code is asked for
//! afterwards.
//!
//! A command that exceeds its deadline is not killed (the engine has no call for that): it is abandoned and may still
//! be running.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use std::pin::Pin;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{Engine, Output, READ, Refusal, answer, failed};
use crate::error::{Error, Result};
use crate::node::NodeId;

/// More output than this is a mistake, or an attempt to fill our memory.
const OUTPUT_CAP: usize = 64 << 20;
/// How much of a stream's standard error is kept for the message about a failure.
const STDERR_TAIL: usize = 2 << 10;

pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<LogOutput, Refusal>> + Send>>;

impl Engine {
    /// Runs a command in a node and waits for its end, for at most `deadline`.
    ///
    /// # Errors
    /// If the node does not run, or the engine or the command exceeds the deadline (the command may then still be
    /// running). A command that ends with a code other than 0, or does not exist (126, 127), is no error.
    pub async fn exec(&self, node: &NodeId, argv: &[&str], stdin: Option<Bytes>, deadline: Duration) -> Result<Output> {
        let run = async {
            let (id, mut frames, mut input) = self.start_exec(node, argv, stdin.is_some()).await?;
            let feed = async {
                if let Some(bytes) = stdin {
                    // A command that ends without reading all its input breaks the pipe; its exit code says whether
                    // that was wrong.
                    let _ = input.write_all(&bytes).await;
                    let _ = input.shutdown().await;
                }
            };
            let drain = async {
                let mut said = Said::default();
                while let Some(frame) = frames.try_next().await.map_err(|e| failed(&doing(node, argv), &e))? {
                    said.take(frame, node, argv)?;
                }
                Ok::<_, Error>(said)
            };
            // A command that has ended takes no more input, whether or not the engine tells the writer so.
            let said = tokio::select! {
                drained = drain => drained?,
                never = async { feed.await; std::future::pending().await } => never,
            };
            Ok(said.output(self.exit_code(&id, node, argv).await?))
        };
        tokio::time::timeout(deadline, run).await.unwrap_or_else(|_| {
            Err(Error::could_not_run(format!(
                "could not {} within {deadline:?}; it may still be running",
                doing(node, argv)
            )))
        })
    }

    /// Runs a command that changes something, but only in a node of the cluster that the connection is bound to.
    ///
    /// # Errors
    /// As for [`Engine::exec`], and if the node does not belong to that cluster.
    pub async fn exec_changing(&self, node: &NodeId, argv: &[&str], deadline: Duration) -> Result<Output> {
        self.own(node).await?;
        self.exec(node, argv, None, deadline).await
    }

    /// Runs a command in a node and streams its standard output.
    ///
    /// The stream ends with the command, and with an error if the command's exit code is not 0. Standard input stays
    /// open as long as the stream lives, so a command that reads it notices when the stream is dropped.
    ///
    /// # Errors
    /// If the node does not run or the engine does not answer.
    pub async fn exec_stream(&self, node: &NodeId, argv: &[&str]) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (id, frames, input) = self.start_exec(node, argv, true).await?;
        let state = Streaming {
            engine: self.clone(),
            id,
            node: node.clone(),
            argv: argv.iter().map(|&a| a.to_owned()).collect(),
            frames,
            stderr: Vec::new(),
            _input: input,
        };
        Ok(futures::stream::try_unfold(Some(state), Streaming::next).boxed())
    }

    /// Starts a command, with its standard input attached if wanted. Returns the exec's id, its output and that input.
    pub(super) async fn start_exec(
        &self,
        node: &NodeId,
        argv: &[&str],
        stdin: bool,
    ) -> Result<(String, Frames, Input)> {
        let options = CreateExecOptions {
            cmd: Some(argv.to_vec()),
            attach_stdin: Some(stdin),
            // Without both of these the engine answers at once and there is nothing to wait for.
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let explain = |e: &Refusal| failed(&doing(node, argv), e);
        // A command can change things, so it runs only in a container that is verified to be a node.
        self.seen_as(node, self.cluster.as_deref()).await?;
        let id = answer(READ, self.docker.create_exec(&node.id, options)).await.map_err(|e| explain(&e))?.id;
        match answer(READ, self.docker.start_exec(&id, None)).await.map_err(|e| explain(&e))? {
            StartExecResults::Attached { output, input } => Ok((id, output, input)),
            StartExecResults::Detached => {
                Err(Error::could_not_run(format!("could not {}: no output", doing(node, argv))))
            }
        }
    }

    async fn exit_code(&self, exec: &str, node: &NodeId, argv: &[&str]) -> Result<i64> {
        // The output ends a moment before the engine records the command's end. The caller's deadline bounds this loop.
        loop {
            let seen =
                answer(READ, self.docker.inspect_exec(exec)).await.map_err(|e| failed(&doing(node, argv), &e))?;
            match (seen.running, seen.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// A command's output so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub stdout: BytesMut,
    pub stderr: Vec<u8>,
}

impl Said {
    pub(super) fn take(&mut self, frame: LogOutput, node: &NodeId, argv: &[&str]) -> Result<()> {
        match frame {
            LogOutput::StdErr { message } => self.stderr.extend_from_slice(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => self.stdout.extend_from_slice(&message),
            LogOutput::StdIn { .. } => {}
        }
        if self.stdout.len() + self.stderr.len() > OUTPUT_CAP {
            return Err(Error::could_not_run(format!("could not {}: too much output", doing(node, argv))));
        }
        Ok(())
    }

    pub(super) fn output(self, code: i64) -> Output {
        let stderr = String::from_utf8_lossy(&self.stderr).into_owned();
        Output { code, stdout: self.stdout.freeze(), stderr }
    }
}

pub(super) fn doing(node: &NodeId, argv: &[&str]) -> String {
    // The first line of a script says enough.
    let words: Vec<&str> = argv.iter().map(|word| word.lines().next().unwrap_or_default()).collect();
    format!("run `{}` in {}", words.join(" "), node.name)
}

struct Streaming {
    engine: Engine,
    id: String,
    node: NodeId,
    argv: Vec<String>,
    frames: Frames,
    stderr: Vec<u8>,
    /// Held open: closing it ends the command's standard input.
    _input: Input,
}

impl Streaming {
    async fn next(state: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>> {
        let Some(mut state) = state else { return Ok(None) };
        loop {
            let argv: Vec<_> = state.argv.iter().map(String::as_str).collect();
            match state.frames.try_next().await.map_err(|e| failed(&doing(&state.node, &argv), &e))? {
                Some(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                    return Ok(Some((message, Some(state))));
                }
                Some(LogOutput::StdErr { message }) => {
                    state.stderr.extend_from_slice(&message);
                    let excess = state.stderr.len().saturating_sub(STDERR_TAIL);
                    state.stderr.drain(..excess);
                }
                Some(LogOutput::StdIn { .. }) => {}
                None => {
                    let ended = tokio::time::timeout(READ, state.engine.exit_code(&state.id, &state.node, &argv)).await;
                    return match ended {
                        Ok(Ok(0)) => Ok(None),
                        Ok(Ok(code)) => {
                            let why = String::from_utf8_lossy(&state.stderr);
                            let what = doing(&state.node, &argv);
                            Err(Error::could_not_run(format!(
                                "could not {what} to its end: code {code}: {}",
                                why.trim()
                            )))
                        }
                        Ok(Err(e)) => Err(e),
                        Err(_) => Err(Error::could_not_run(format!(
                            "could not {}: its end is unknown",
                            doing(&state.node, &argv)
                        ))),
                    };
                }
            }
        }
    }
}
