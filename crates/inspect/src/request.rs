//! One question on its way down the tree, and the answer on its way back.
//!
//! Invariants:
//! - I1: the closure or object behind a part runs only if the part lies on the path, or within the depth below its end.
//! - I2: `level <= LEVELS_MAX` in every query that reaches an object, so recursion is bounded for cyclic objects too.
//! - I3: the first part that answers to a name settles the question for that name.

use crate::error::{InspectError, Reason};
use crate::response::Response;
use crate::{Inspect, path};
use serde_json::{Map, Value};
use std::fmt;

/// How many levels a tree can have, from the object itself down. Parts below are never computed; in a tree they are shown
/// like parts beyond the depth limit.
pub const LEVELS_MAX: usize = 200;

/// How many names an error lists of a part that has more.
const NAMES_LISTED_MAX: usize = 32;

/// The part of a question that is the same for the whole tree, and how far down it has come.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    /// The path that was asked for.
    names: &'a [String],
    /// How many levels below the object we are.
    level: usize,
    /// How many levels to show below the end of the path.
    depth: usize,
    /// The text of the new value, if the end of the path is to be changed.
    change: Option<&'a str>,
}

impl<'a> Query<'a> {
    pub(crate) fn show(names: &'a [String], depth: Option<usize>) -> Self {
        Self {
            names,
            level: 0,
            depth: depth.unwrap_or(usize::MAX),
            change: None,
        }
    }

    pub(crate) fn change(names: &'a [String], value: &'a str) -> Self {
        Self {
            change: Some(value),
            ..Self::show(names, None)
        }
    }

    /// Asks `obj` and turns what it said into a result.
    pub(crate) fn run(self, obj: &(impl Inspect + ?Sized)) -> Result<Value, InspectError> {
        let mut answer = Answer::Absent;
        obj.inspect(Request::new(self, &mut answer));
        answer.into_result(self)
    }

    /// The next name to look for, or `None` at and below the end of the path.
    pub(crate) fn next_name(&self) -> Option<&'a str> {
        self.names.get(self.level).map(String::as_str)
    }

    /// The same question, one level down.
    pub(crate) fn below(self) -> Self {
        Self {
            level: self.level + 1,
            ..self
        }
    }

    /// Whether parts of the current part are beyond what is shown.
    fn is_at_limit(&self) -> bool {
        self.level >= LEVELS_MAX || self.level.saturating_sub(self.names.len()) >= self.depth
    }

    fn is_target(&self) -> bool {
        self.level == self.names.len()
    }

    fn path(&self) -> String {
        path::join(self.names)
    }
}

/// What a part has said so far.
pub(crate) enum Answer {
    /// Nothing: the part does not exist as far as anyone can see.
    Absent,
    Value(Value),
    Parts(Map<String, Value>),
    List(Vec<Value>),
    NotShown,
    /// On the way along the path: no part of this level has answered to the next name yet.
    Searching(Names),
    NotMutable,
    Refused(Reason),
    Unreadable(Reason),
}

/// The names seen while searching a level, for the error message.
#[derive(Default)]
pub(crate) struct Names {
    level: usize,
    seen: Vec<String>,
    left_off_count: usize,
}

impl Names {
    fn push(&mut self, name: &str) {
        if self.seen.len() < NAMES_LISTED_MAX {
            self.seen.push(name.to_owned());
        } else {
            self.left_off_count += 1;
        }
    }
}

impl Answer {
    /// The answer for whoever asked from outside.
    fn into_result(self, query: Query<'_>) -> Result<Value, InspectError> {
        match self {
            Answer::NotMutable => Err(InspectError::NotMutable { path: query.path() }),
            Answer::Refused(reason) => Err(InspectError::Update {
                path: query.path(),
                value: query.change.unwrap_or_default().to_owned(),
                reason,
            }),
            Answer::Unreadable(reason) => Err(InspectError::Read {
                path: query.path(),
                reason,
            }),
            Answer::Searching(names) => Err(not_found(query, names)),
            Answer::Absent if query.change.is_some() || !query.is_target() => {
                Err(not_found(query, Names::default()))
            }
            answer => Ok(answer.into_value().unwrap_or(Value::Null)),
        }
    }

    /// The answer as it is shown among the parts of another, or `None` for a part that does not show itself.
    pub(crate) fn into_value(self) -> Option<Value> {
        match self {
            Answer::Value(value) => Some(value),
            Answer::Parts(parts) => Some(Value::Object(parts)),
            Answer::List(items) => Some(Value::Array(items)),
            Answer::NotShown => Some(not_shown()),
            Answer::Unreadable(reason) | Answer::Refused(reason) => Some(error_value(&reason)),
            Answer::Absent | Answer::Searching(_) | Answer::NotMutable => None,
        }
    }
}

fn not_found(query: Query<'_>, names: Names) -> InspectError {
    InspectError::NotFound {
        path: query.path(),
        nearest: path::join(&query.names[..names.level]),
        missing: query.names.get(names.level).cloned().unwrap_or_default(),
        names: names.seen,
        names_left_off_count: names.left_off_count,
    }
}

pub(crate) fn not_shown() -> Value {
    single("...", "not shown".into())
}

fn error_value(reason: &Reason) -> Value {
    single("error", reason.to_string().into())
}

fn single(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

/// One question to one object: show yourself, or change.
///
/// Dropping it unanswered is the same as [`ignore`](Self::ignore).
#[must_use = "a request that is dropped leaves the part out of the tree"]
pub struct Request<'a> {
    pub(crate) query: Query<'a>,
    pub(crate) answer: &'a mut Answer,
    /// The answer belongs to the parent: parts are added to the parent's.
    is_flattened: bool,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("path", &self.query.path())
            .field("level", &self.query.level)
            .field("change", &self.query.change)
            .finish_non_exhaustive()
    }
}

impl<'a> Request<'a> {
    pub(crate) fn new(query: Query<'a>, answer: &'a mut Answer) -> Self {
        Self {
            query,
            answer,
            is_flattened: false,
        }
    }

    /// A request whose parts are added to those already in `answer`.
    pub(crate) fn flattened(query: Query<'a>, answer: &'a mut Answer) -> Self {
        Self {
            query,
            answer,
            is_flattened: true,
        }
    }

    /// Answers with a single value that cannot be changed.
    ///
    /// Where the object is flattened into its parent, the value becomes a part named `value` (and `null` none at all).
    pub fn value(self, value: impl Into<Value>) {
        self.value_with(|| value);
    }

    /// As [`value`](Self::value), for a value that costs something: `f` is called only if it is wanted.
    pub fn value_with<V: Into<Value>>(self, f: impl FnOnce() -> V) {
        self.leaf(|change| match change {
            Some(_) => Answer::NotMutable,
            None => Answer::Value(f().into()),
        });
    }

    /// Answers with a single value that can be changed. `f` is called with `None` to read it, or with the text of the new
    /// value to change it; it returns the value afterwards, or why it kept the old one.
    ///
    /// The text comes from outside: refuse what makes no sense, and say what would.
    pub fn value_mut_with<V, E>(self, f: impl FnOnce(Option<&str>) -> Result<V, E>)
    where
        V: Into<Value>,
        E: Into<Reason>,
    {
        self.leaf(|change| match (f(change), change) {
            (Ok(value), _) => Answer::Value(value.into()),
            (Err(reason), Some(_)) => Answer::Refused(reason.into()),
            (Err(reason), None) => Answer::Unreadable(reason.into()),
        });
    }

    /// Does not answer: the part is left out, as if it did not exist.
    pub fn ignore(self) {}

    /// Answers with parts, which are added to the response. What is not asked for is not computed.
    pub fn respond(mut self) -> Response<'a> {
        self.open(Answer::Parts(Map::new()));
        Response::new(self.query, self.answer)
    }

    /// Answers with a list. The items' names are their indexes; an item that ignores its request is `null`.
    ///
    /// The iterator is not started unless an item is wanted; when only one is, it runs up to that one.
    pub fn list<I: IntoIterator<Item: Inspect>>(mut self, items: I) {
        self.open(Answer::List(Vec::new()));
        Response::new(self.query, self.answer).items(items);
    }

    /// Answers with one part for each pair of a name and an object.
    pub fn entries<K: fmt::Display, V: Inspect>(self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut response = self.respond();
        if !response.is_closed() {
            for (name, part) in entries {
                response.field(&name.to_string(), &part);
            }
        }
    }

    /// Answers as `obj` does.
    pub fn delegate(self, obj: &(impl Inspect + ?Sized)) {
        obj.inspect(self);
    }

    /// Starts an answer that has parts; leaves it closed if none of them can be wanted.
    fn open(&mut self, shown: Answer) {
        if self.is_flattened {
            return;
        }
        *self.answer = if self.query.next_name().is_some() {
            Answer::Searching(Names {
                level: self.query.level,
                ..Names::default()
            })
        } else if self.query.change.is_some() {
            Answer::NotMutable
        } else if self.query.is_at_limit() {
            Answer::NotShown
        } else {
            shown
        };
    }

    fn leaf(self, f: impl FnOnce(Option<&str>) -> Answer) {
        if self.is_flattened {
            let mut response = Response::new(self.query, self.answer);
            response.flattened_leaf(|req| req.leaf(f));
        } else if self.query.next_name().is_some() {
            *self.answer = Answer::Searching(Names {
                level: self.query.level,
                ..Names::default()
            });
        } else {
            *self.answer = f(self.query.change);
        }
    }
}

/// What a response may still do with a part.
pub(crate) enum Wanted {
    /// Nothing: another part has answered, or none can.
    Nothing,
    /// Only the part with this name.
    Named,
    /// Every part.
    All,
}

impl Answer {
    /// Whether more parts of `query`'s level can still matter.
    pub(crate) fn wants(&self, query: &Query<'_>) -> Wanted {
        match self {
            Answer::Searching(names) if names.level == query.level => Wanted::Named,
            Answer::Parts(_) | Answer::List(_) if query.next_name().is_none() => Wanted::All,
            _ => Wanted::Nothing,
        }
    }

    /// Remembers a name that was passed by.
    pub(crate) fn passed_by(&mut self, name: &str) {
        if let Answer::Searching(names) = self {
            names.push(name);
        }
    }

    /// Adds a part that answered. I3: an earlier part of the same name stays.
    pub(crate) fn add(&mut self, name: &str, value: Value) {
        match self {
            Answer::Parts(parts) => {
                parts.entry(name).or_insert(value);
            }
            Answer::List(items) => items.push(value),
            _ => unreachable!("parts are added to an answer that has parts"),
        }
    }

    /// Whether a part of this name has answered.
    pub(crate) fn has(&self, name: &str) -> bool {
        matches!(self, Answer::Parts(parts) if parts.contains_key(name))
    }
}
