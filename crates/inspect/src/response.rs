//! The parts of an answer.

use crate::error::Reason;
use crate::request::{Answer, Query, Request, Wanted};
use crate::{Inspect, as_debug, as_display, as_hex};
use serde_json::Value;
use std::fmt;

/// An answer made of parts. Each method adds one part, if it is wanted; closures run only then.
///
/// Names are snake_case by custom; any text works. The first of several parts with one name counts.
pub struct Response<'a> {
    query: Query<'a>,
    answer: &'a mut Answer,
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

impl<'a> Response<'a> {
    pub(crate) fn new(query: Query<'a>, answer: &'a mut Answer) -> Self {
        Self { query, answer }
    }

    /// Adds an object.
    pub fn field(&mut self, name: &str, part: &(impl Inspect + ?Sized)) -> &mut Self {
        self.field_with(name, |req| part.inspect(req))
    }

    /// Adds a part that is answered by `f`, which is called only if the part is wanted.
    ///
    /// ```
    /// # fn show(resp: &mut inspect::Response<'_>, frames: &[u8]) {
    /// resp.field_with("checksum", |req| req.value(frames.iter().map(|&b| u64::from(b)).sum::<u64>()));
    /// # }
    /// ```
    pub fn field_with(&mut self, name: &str, f: impl FnOnce(Request<'_>)) -> &mut Self {
        match self.answer.wants(&self.query) {
            Wanted::All => self.show(name, f),
            Wanted::Named if self.query.next_name() == Some(name) => self.descend(name, f),
            Wanted::Named => self.answer.passed_by(name),
            Wanted::Nothing => {}
        }
        self
    }

    /// Adds a value that can be changed: `f` is called with `None` to read it, or with the text of the new value; it returns
    /// the value afterwards, or why it kept the old one. See [`Request::value_mut_with`].
    ///
    /// ```
    /// # fn show(resp: &mut inspect::Response<'_>, limit: &std::sync::atomic::AtomicU32) {
    /// # use std::sync::atomic::Ordering::Relaxed;
    /// resp.field_mut_with("limit", |new| -> Result<u32, std::num::ParseIntError> {
    ///     if let Some(new) = new {
    ///         limit.store(new.parse()?, Relaxed);
    ///     }
    ///     Ok(limit.load(Relaxed))
    /// });
    /// # }
    /// ```
    pub fn field_mut_with<V, E>(
        &mut self,
        name: &str,
        f: impl FnOnce(Option<&str>) -> Result<V, E>,
    ) -> &mut Self
    where
        V: Into<Value>,
        E: Into<Reason>,
    {
        self.field_with(name, |req| req.value_mut_with(f))
    }

    /// Adds a value that only ever grows: requests served, bytes written.
    pub fn counter(&mut self, name: &str, count: impl Into<u64>) -> &mut Self {
        self.field_with(name, |req| req.value(count.into()))
    }

    /// Adds a number as a string in hexadecimal, with `0x`.
    pub fn hex(&mut self, name: &str, number: impl fmt::LowerHex) -> &mut Self {
        self.field(name, &as_hex(number))
    }

    /// Adds the text that `Display` makes.
    pub fn display(&mut self, name: &str, part: &(impl fmt::Display + ?Sized)) -> &mut Self {
        self.field(name, &as_display(part))
    }

    /// Adds the text that `Debug` makes.
    pub fn debug(&mut self, name: &str, part: &(impl fmt::Debug + ?Sized)) -> &mut Self {
        self.field(name, &as_debug(part))
    }

    /// Adds the parts of `obj` as parts of this answer, without a level of their own.
    pub fn merge(&mut self, obj: &(impl Inspect + ?Sized)) -> &mut Self {
        self.merge_with(|req| obj.inspect(req))
    }

    /// As [`merge`](Self::merge), for parts answered by `f`, which is called only if some part is still wanted.
    pub fn merge_with(&mut self, f: impl FnOnce(Request<'_>)) -> &mut Self {
        if !self.is_closed() {
            f(Request::flattened(self.query, self.answer));
        }
        self
    }

    /// Whether no further part can matter.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.answer.wants(&self.query), Wanted::Nothing)
    }

    /// Adds items named by their indexes.
    pub(crate) fn items<I: IntoIterator<Item: Inspect>>(&mut self, items: I) {
        if self.is_closed() {
            return;
        }
        for (index, item) in items.into_iter().enumerate() {
            self.field(&index.to_string(), &item);
            if self.is_closed() {
                return;
            }
        }
    }

    /// A flattened object turned out to be a single value: it gets a name, unless it is `null`.
    pub(crate) fn flattened_leaf(&mut self, f: impl FnOnce(Request<'_>)) {
        if self.answer.has("value") {
            return;
        }
        self.field_with("value", f);
        if let Answer::Parts(parts) = self.answer
            && parts.get("value") == Some(&Value::Null)
        {
            parts.shift_remove("value");
        }
    }

    fn show(&mut self, name: &str, f: impl FnOnce(Request<'_>)) {
        if self.answer.has(name) {
            return;
        }
        let mut answer = Answer::Absent;
        f(Request::new(self.query.below(), &mut answer));
        let is_list = matches!(self.answer, Answer::List(_));
        match answer.into_value() {
            Some(value) => self.answer.add(name, value),
            // An item left out would shift the indexes of those behind it.
            None if is_list => self.answer.add(name, Value::Null),
            None => {}
        }
    }

    fn descend(&mut self, name: &str, f: impl FnOnce(Request<'_>)) {
        let mut answer = Answer::Absent;
        f(Request::new(self.query.below(), &mut answer));
        match answer {
            Answer::Absent => self.answer.passed_by(name),
            answer => *self.answer = answer,
        }
    }
}
