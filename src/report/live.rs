//! The live display: what is going on, while it goes on. It is not a result, so it goes to standard error.
//!
//! This module takes the events of a run one at a time. On a terminal, it redraws a few lines at the bottom, at most
//! five times a second: phase and elapsed time, what is expected next and by when, how many claims are decided, and
//! what each probe saw in the last seconds. Above them, the events scroll by. Elsewhere (a pipe, CI, `TERM=dumb`), it
//! shows only the events, one plain line each. It never judges: it asks the judge which claims are decided.

mod band;
mod state;

use std::io::Write;
use std::time::Duration;

use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::state::State;
use crate::clock::Mono;
use crate::event::Event;
use crate::progress::Told;
use crate::report::escape;
use crate::standard_error::{self, StandardError};

/// Time between two redraws.
const REDRAW: Duration = Duration::from_millis(200);

/// The live display of one run.
pub struct Live {
    state: State,
    show: Show,
}

enum Show {
    Nothing,
    Lines { out: Box<dyn Write>, group: bool },
    Screen(Screen),
}

impl Live {
    /// A display on standard error. `terminal` says whether that is a terminal; with `quiet`, nothing is shown.
    pub fn new(terminal: bool, quiet: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        if quiet {
            Self { state: State::default(), show: Show::Nothing }
        } else if terminal && !dumb && !set("CI") {
            let terminal = Term::read_write_pair(std::io::stdin(), StandardError::raw());
            Self::redrawn(ProgressDrawTarget::term(terminal, 5))
        } else {
            Self::plain(StandardError::text(), set("GITHUB_ACTIONS"))
        }
    }

    /// A display of lines that are redrawn on `target`.
    pub fn redrawn(target: ProgressDrawTarget) -> Self {
        Self { state: State::default(), show: Show::Screen(Screen::new(target)) }
    }

    /// A display of one line for each event. With `group`, the lines are folded into a group of GitHub's log viewer.
    pub fn plain(out: impl Write + 'static, group: bool) -> Self {
        let mut out: Box<dyn Write> = Box::new(out);
        if group {
            say(&mut out, "::group::kchaos run");
        }
        Self { state: State::default(), show: Show::Lines { out, group } }
    }

    /// Shows something that a run reports.
    pub fn told(&mut self, told: Told<'_>) {
        match told {
            Told::Event(event) => self.event(event),
            Told::Note(text) => self.note(text),
            Told::Unsteady(unsteady) => {
                let told = self.state.unsteady(unsteady);
                self.note(&told);
            }
            Told::Leaving => self.finish(),
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        if matches!(self.show, Show::Nothing) {
            return;
        }
        let lines = self.state.event(event);
        match &mut self.show {
            Show::Nothing => {}
            Show::Lines { out, .. } => lines.iter().for_each(|line| say(out, line)),
            Show::Screen(screen) => screen.event(event.at, &lines, &self.state),
        }
    }

    /// Shows a text that is no event, without disturbing the redrawn lines. It may be foreign text.
    pub fn note(&mut self, text: &str) {
        let text = self.state.noted(&escape::safe(text), Mono::now());
        match &mut self.show {
            Show::Nothing => {}
            Show::Lines { out, .. } => say(out, &text),
            Show::Screen(screen) => drop(screen.all.println(text)),
        }
    }

    /// Removes the redrawn lines, so that other output can follow. Nothing is shown after this.
    pub fn finish(&mut self) {
        match std::mem::replace(&mut self.show, Show::Nothing) {
            Show::Nothing | Show::Lines { group: false, .. } => {}
            Show::Lines { mut out, group: true } => say(&mut out, "::endgroup::"),
            // A terminal that has gone away needs no cleaning up.
            Show::Screen(screen) => drop(screen.all.clear()),
        }
    }
}

/// Writes a line, in one piece. If that fails, it is no reason to end a run.
fn say(out: &mut dyn Write, line: &str) {
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

/// The lines at the bottom of a terminal.
struct Screen {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
    drawn: Mono,
    colour: bool,
}

impl Screen {
    fn new(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        Self { all, lines: Vec::new(), drawn: Mono(0), colour: standard_error::is_coloured() }
    }

    fn event(&mut self, now: Mono, happened: &[String], state: &State) {
        for line in happened {
            let _ = self.all.println(self.shown(line));
        }
        if happened.is_empty() && now.since(self.drawn) < REDRAW {
            return;
        }
        self.drawn = now;
        let lines = state.lines(now);
        for (n, text) in lines.iter().enumerate() {
            let shown = self.shown(text);
            if self.lines.len() <= n {
                self.lines.push(self.all.add(line(n == 0)));
            }
            self.lines[n].set_message(shown);
        }
        for gone in self.lines.drain(lines.len().min(self.lines.len())..) {
            self.all.remove(&gone);
        }
    }

    fn shown(&self, line: &str) -> String {
        if self.colour { line.to_owned() } else { anstream::adapter::strip_str(line).to_string() }
    }
}

/// A redrawn line. The first one has a spinner that turns even when no event comes, to show that kchaos is alive.
fn line(first: bool) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let template = if first { "{spinner} {wide_msg}" } else { "  {wide_msg}" };
    // The templates are constants that parse.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()));
    if first {
        bar.enable_steady_tick(REDRAW);
    }
    bar
}
