//! The file as a tree with positions, so that every error can point at the text that it is about.
//!
//! The types of a scenario stay plain data, because plans and journals use them too. Positions are looked up here, by
//! the same path. The parser also refuses what YAML allows but scenario files don't: anchors, aliases, tags, merge
//! keys, directives, a second document, duplicate keys, deep nesting. So nothing in a file can be larger than it looks.

use std::collections::HashMap;
use std::ops::Range;

use serde_saphyr::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StrInput, options};

use super::diagnostic::{Problem, quoted};

/// Fields that usually have a line of their own.
const LINES_OF: [&str; 17] = [
    "scenario",
    "summary",
    "topology",
    "targets",
    "workloads",
    "variants",
    "claims",
    "claim",
    "sentence",
    "says",
    "arm",
    "probe",
    "always",
    "never",
    "eventually",
    "unchanged",
    "during",
];

/// Deepest nesting: a scenario needs 6.
const MAX_DEPTH: usize = 16;

/// A value and its position.
#[derive(Debug)]
pub(super) struct Node {
    /// Bytes of the value.
    pub span: Range<usize>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Text of a scalar; `None` if nothing was written.
    Scalar(Option<String>),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Bytes of the key.
    pub at: Range<usize>,
    /// Its value.
    pub value: Node,
}

impl Node {
    /// The entries of a mapping; empty for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; empty for anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// The entry of a key, if there is one.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|e| e.key == key)
    }

    /// The value of a key. If the key is absent, the whole node, since errors then point at it.
    pub(super) fn field(&self, key: &str) -> &Self {
        self.entry(key).map_or(self, |e| &e.value)
    }

    /// The position of a key, or of the whole node if the key is absent.
    pub(super) fn key(&self, key: &str) -> Range<usize> {
        self.entry(key).map_or_else(|| self.span.clone(), |e| e.at.clone())
    }

    /// An item of a list, or the whole node if there is no item with that index.
    pub(super) fn item(&self, index: usize) -> &Self {
        self.items().get(index).unwrap_or(self)
    }

    /// Describes the value in a word.
    pub(super) fn what(&self) -> String {
        match &self.kind {
            Kind::Scalar(None) => "nothing".to_owned(),
            Kind::Scalar(Some(text)) => quoted(text),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "fields".to_owned(),
        }
    }

    /// Was nothing written?
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(None))
    }

    /// Is it a scalar, neither list nor mapping?
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.kind, Kind::Scalar(_))
    }

    /// The item's own name, if it is a list item that has one.
    fn name(&self) -> Option<&str> {
        ["claim", "name"].into_iter().find_map(|key| match &self.entry(key)?.value.kind {
            Kind::Scalar(name) => name.as_deref(),
            _ => None,
        })
    }

    /// Finds what is at an offset. Returns the path to it (keys, and the names of list items), the bytes of what is
    /// there (a key, or the innermost value), and the innermost value around it.
    pub(super) fn locate(&self, offset: usize) -> (Vec<&str>, Range<usize>, &Self) {
        let mut path = Vec::new();
        let mut here = self;
        loop {
            let mut below = None;
            for entry in here.entries() {
                if entry.at.start <= offset && offset < entry.at.end {
                    return (path, entry.at.clone(), here);
                }
                if entry.value.span.start <= offset && offset < entry.value.span.end {
                    path.push(entry.key.as_str());
                    below = Some(&entry.value);
                    break;
                }
            }
            if let Some(item) = here.items().iter().find(|i| i.span.start <= offset && offset < i.span.end) {
                path.extend(item.name());
                below = Some(item);
            }
            match below {
                Some(node) => here = node,
                None => return (path, here.span.clone(), here),
            }
        }
    }
}

/// Parses a text into a tree.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let options = options! {
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
        emit_anchor_events: true,
        emit_unresolved_aliases: true,
    };
    let mut builder = Builder { text, events: Parser::new_from_str_with_options(text, options) };
    let mut root = None;
    loop {
        match builder.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentEnd, _) => {}
            (Event::DocumentStart(..), span) if root.is_some() => {
                return Err(Problem::new(bytes(&span), "a second YAML document")
                    .label("it would be ignored")
                    .help("a scenario file holds one scenario; put this one into a file of its own"));
            }
            (Event::DocumentStart(..), _) => {
                let first = builder.next()?;
                root = Some(builder.node(first, 0)?);
            }
            (_, span) => return Err(Problem::new(bytes(&span), "unexpected content between documents")),
        }
    }
    match root {
        Some(node) if !node.is_empty() => Ok(node),
        _ => Err(Problem::new(0..0, "the file is empty")
            .label("expected `scenario: NAME`")
            .help("start from one that is there: `kchaos show node-shutdown --yaml`")),
    }
}

struct Builder<'a> {
    text: &'a str,
    events: Parser<'a, StrInput<'a>>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error)),
            // The parser ends every stream with an event of its own. In case it ever doesn't, the end counts as one.
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Problem> {
        let at = bytes(&span);
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag) => (*anchor != 0, tag.is_some()),
            Event::Alias(_) | Event::UnresolvedAlias(_) => (true, false),
            _ => return Err(Problem::new(at, "expected a value")),
        };
        if anchor {
            // The parser reports an anchor's name in a separate event, after the node that has it.
            let at = match self.events.next_event() {
                Some(Ok((Event::Anchor(..), span))) => bytes(&span),
                _ => at,
            };
            let what = if self.text[at.start..].starts_with('*') { "an alias" } else { "an anchor" };
            return Err(Problem::new(at, "anchors and aliases are not used in scenario files").label(what).help(
                "write the value out (a claim must be readable by itself); quote it if the sign belongs to a text",
            ));
        }
        if tag {
            let at = span.tag_span().map_or(at, |s| bytes(&s));
            return Err(Problem::new(at, "tags are not used in scenario files")
                .help("leave the tag out; quote the value if it is text"));
        }
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let (kind, end) = match event {
            Event::Scalar(text, style, ..) => {
                // YAML's words for "nothing". A field without a value would silently count as absent.
                let empty = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (Kind::Scalar((!empty).then(|| text.into_owned())), at.end)
            }
            Event::SequenceStart(..) => self.list(depth)?,
            _ => self.map(depth)?,
        };
        Ok(Node { span: at.start..self.without_trailing_space(at.start, end), kind })
    }

    fn list(&mut self, depth: usize) -> Result<(Kind, usize), Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((Kind::List(items), bytes(&span).end)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Kind, usize), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Range<usize>> = HashMap::new();
        loop {
            let event = self.next()?;
            if let (Event::MappingEnd, span) = event {
                return Ok((Kind::Map(entries), bytes(&span).end));
            }
            let node = self.node(event, depth + 1)?;
            let Kind::Scalar(key) = node.kind else {
                return Err(Problem::new(first_line(self.text, &node.span), "a key must be a word")
                    .label("this is a list or a mapping"));
            };
            let (key, at) = (key.unwrap_or_default(), node.span);
            if key == "<<" {
                return Err(Problem::new(at, "merge keys are not used in scenario files").help("write the fields out"));
            }
            if let Some(first) = seen.insert(key.clone(), at.clone()) {
                return Err(Problem::new(at, format!("{} is given twice", quoted(&key)))
                    .label("given again")
                    .also(first, "first given here")
                    .help("one of the two would be ignored; remove it"));
            }
            let event = self.next()?;
            let value = self.node(event, depth + 1)?;
            if value.is_empty() {
                return Err(Problem::new(at, format!("{} is left empty", quoted(&key)))
                    .label("has no value")
                    .help("give it a value, or remove the line"));
            }
            entries.push(Entry { key, at, value });
        }
    }

    /// The end without trailing space. Block collections end where the next thing begins; what is pointed at should end
    /// with its own last character.
    fn without_trailing_space(&self, start: usize, end: usize) -> usize {
        self.text.get(start..end).map_or(end, |t| start + t.trim_end().len())
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let offset = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        let at =
            offset..self.text[offset..].chars().next().filter(|c| *c != '\n').map_or(offset, |c| offset + c.len_utf8());
        if let Some(tab) = self.tab_near(offset) {
            return Problem::new(tab..tab + 1, "a tab is used for indentation")
                .label("this is a tab")
                .help("YAML is indented with spaces; write two for each level");
        }
        if let Some((key, colon)) = self.missing_space_near(offset) {
            return Problem::new(colon.clone(), format!("not valid YAML: no space after `{key}:`"))
                .label("a space is missing here")
                .help(format!("write `{key}: …`"));
        }
        let invalid = |what: &str| Problem::new(at.clone(), format!("not valid YAML: {what}"));
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => too_deep(at),
            ErrorKind::DirectiveDisallowed => {
                Problem::new(at, "directives (`%…`) are not used in scenario files").help("remove the line")
            }
            ErrorKind::MappingValueNotAllowed => {
                invalid("a second `:` in one line").label("not allowed here").help("quote a text that contains `: `")
            }
            ErrorKind::UnclosedQuotedScalar => invalid("a quote is not closed").label("opened here"),
            ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::InvalidIndentation
            | ErrorKind::ExpectedBlockSequenceEntry => invalid("the indentation does not fit")
                .label("begins at this column")
                .help("indent it as the lines it belongs to"),
            ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnexpectedEofFlowMapping => {
                invalid("`,` or `}` is missing")
                    .label("noticed here")
                    .help("look for the `{` above it that is not closed")
            }
            ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
                invalid("`,` or `]` is missing")
                    .label("noticed here")
                    .help("look for the `[` above it that is not closed")
            }
            kind => invalid(&kind.to_string()).label("noticed here"),
        }
    }

    /// A field whose colon nothing separates from its value, and where that colon is, in the offset's line or the one before
    /// it: the parser takes it for text, and notices at the next key.
    fn missing_space_near(&self, offset: usize) -> Option<(&str, Range<usize>)> {
        let line_start = self.text[..offset].rfind('\n').map_or(0, |i| i + 1);
        let before = self.text[..line_start.saturating_sub(1)].rfind('\n').map_or(0, |i| i + 1);
        [before, line_start].into_iter().find_map(|start| {
            let line = self.text[start..].lines().next()?;
            let begin = line.find(|c: char| c != ' ' && c != '-')?;
            let (key, value) = line[begin..].split_once(':')?;
            let colon = start + begin + key.len();
            (LINES_OF.contains(&key) && !value.is_empty() && !value.starts_with([' ', '\t', '/']))
                .then_some((key, colon..colon + 1))
        })
    }

    /// A tab in the indentation of the offset's line or of the next line: the parser may notice it at either.
    fn tab_near(&self, offset: usize) -> Option<usize> {
        let line_start = self.text[..offset].rfind('\n').map_or(0, |i| i + 1);
        let next_start = self.text[offset..].find('\n').map_or(self.text.len(), |i| offset + i + 1);
        [line_start, next_start].into_iter().find_map(|start| {
            let line = &self.text[start..];
            let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
            indent.find('\t').map(|i| start + i)
        })
    }
}

fn too_deep(at: Range<usize>) -> Problem {
    Problem::new(at, format!("nested more than {MAX_DEPTH} levels deep"))
        .help("no scenario needs that; is a bracket missing?")
}

fn bytes(span: &Span) -> Range<usize> {
    span.byte_range().unwrap_or(0..0)
}

/// The part of a range up to the end of its first line.
pub(super) fn first_line(text: &str, at: &Range<usize>) -> Range<usize> {
    let end = text.get(at.clone()).and_then(|t| t.find('\n')).map_or(at.end, |i| at.start + i);
    at.start..end
}
