//! What is wrong with a scenario file, shown in place: file, line, column, the offending text, and what to write
//! instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::error::Error;

/// Most problems that are shown for one file. A file with more usually has one cause, which the first ones name.
const MAX_SHOWN: usize = 20;
/// Length at which quoted text is cut.
const MAX_QUOTED: usize = 48;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    title: String,
    at: Range<usize>,
    label: String,
    also: Vec<(Range<usize>, String)>,
    help: Vec<String>,
}

impl Problem {
    /// A problem with the text at a range of bytes.
    pub(super) fn new(at: Range<usize>, title: impl Into<String>) -> Self {
        Self { title: title.into(), at, label: String::new(), also: Vec::new(), help: Vec::new() }
    }

    /// Sets the words under the offending text.
    #[must_use]
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds another place that is related to the problem.
    #[must_use]
    pub(super) fn also(mut self, at: Range<usize>, label: impl Into<String>) -> Self {
        self.also.push((at, label.into()));
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Adds “did you mean …?” under the offending text, if one of the candidates is near enough.
    #[must_use]
    pub(super) fn did_you_mean<'a>(self, wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        match nearest(wrong, candidates) {
            Some(near) => self.label(format!("did you mean `{near}`?")),
            None => self,
        }
    }
}

/// Everything that is wrong with one file. Never empty.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    source: String,
    text: String,
    problems: Vec<Problem>,
}

impl Diagnostics {
    /// The problems of a file, sorted by their position in it.
    pub(super) fn new(source: &str, text: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.at.start);
        Self { source: source.to_owned(), text: text.into(), problems }
    }

    /// The number of problems.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Line and column (from 1, in characters) and title of each problem, in the order of the file.
    pub fn problems(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        self.problems.iter().map(|p| {
            let (line, column) = position(&self.text, p.at.start);
            (line, column, p.title.as_str())
        })
    }

    /// Renders the problems as rustc shows errors: with ANSI colours if `color`, otherwise in plain ASCII.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut shown: Vec<String> =
            self.problems.iter().take(MAX_SHOWN).map(|p| renderer.render(&[self.group(p)])).collect();
        if let Some(more @ 1..) = self.problems.len().checked_sub(MAX_SHOWN) {
            shown.push(renderer.render(&[Group::with_title(Level::NOTE.primary_title(format!("and {more} more")))]));
        }
        shown.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let primary = AnnotationKind::Primary.span(self.clip(&problem.at));
        let primary = if problem.label.is_empty() { primary } else { primary.label(problem.label.as_str()) };
        let context =
            problem.also.iter().map(|(at, label)| AnnotationKind::Context.span(self.clip(at)).label(label.as_str()));
        let snippet =
            Snippet::source(self.text.as_str()).path(self.source.as_str()).annotation(primary).annotations(context);
        let help = problem.help.iter().map(|h| Level::HELP.message(h.as_str()));
        Level::ERROR.primary_title(problem.title.as_str()).element(snippet).elements(help)
    }

    /// The range clipped to the text, on character boundaries.
    fn clip(&self, at: &Range<usize>) -> Range<usize> {
        let start = floor(&self.text, at.start);
        start..floor(&self.text, at.end).max(start)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::usage(diagnostics.to_string())
    }
}

/// The nearest character boundary at or before an offset.
fn floor(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    (0..=offset).rev().find(|o| text.is_char_boundary(*o)).unwrap_or(0)
}

/// Line and column of an offset, from 1, in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..floor(text, offset)];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Text as it can be quoted in a message: shortened, and with everything invisible made visible.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == MAX_QUOTED {
            out.push('…');
            break;
        }
        if is_visible(c) { out.push(c) } else { out.extend(c.escape_unicode()) }
    }
    out.push('`');
    out
}

/// False for characters that control a terminal instead of being shown: controls, and those that change the direction
/// of text.
pub(super) fn is_visible(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
}

/// The candidate that was most probably meant, if one is near enough.
pub(super) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if wrong.len() > 64 {
        return None;
    }
    let wrong = spelled(wrong);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wrong, &spelled(c)), c))
        .filter(|(distance, c)| *distance <= c.len().max(wrong.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// The spelling without the usual variations: `StatefulSet`, `stateful_set` and `stateful-set` are the same.
fn spelled(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// `a, b and c`, each in backticks.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    match words.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_spelling_suggests_ours() {
        assert_eq!(nearest("StatefulSet", ["deployment", "stateful-set"]), Some("stateful-set"));
        assert_eq!(nearest("node_redy", ["node-taints", "node-ready"]), Some("node-ready"));
        assert_eq!(nearest("banana", ["node-taints", "node-ready"]), None);
    }

    #[test]
    fn quoted_text_can_not_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2J\u{202e}"), "`a\\u{1b}[2J\\u{202e}`");
        assert!(quoted(&"x".repeat(1000)).len() < 60);
    }

    #[test]
    fn a_range_beyond_the_text_or_inside_a_character_is_clipped() {
        let d = Diagnostics::new("f", "ä", vec![Problem::new(1..99, "t")]);
        assert!(d.render(false).contains("f:1:1"));
    }
}
