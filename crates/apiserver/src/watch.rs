//! Watches: events of one table, filtered and framed, at the pace of their reader. Holds a place in the ring and
//! nothing more; who falls behind is told 410 and lists again.

use crate::answer::{ApiError, Body};
use crate::crd;
use crate::kinds::Resource;
use crate::rest::form::Form;
use crate::selector::Selectors;
use crate::store::{Cursor, Event, Obj, Store, Table, key_of};
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Events taken from the ring at once.
const EVENTS_AT_ONCE: usize = 256;
/// Bytes framed at once, so that one slow reader holds little.
const BYTES_AT_ONCE: usize = 256 << 10;

/// What a watch needs to know.
pub(crate) struct Watch {
    pub(crate) store: Arc<Store>,
    pub(crate) r: Arc<Resource>,
    pub(crate) namespace: Option<String>,
    pub(crate) selectors: Selectors,
    pub(crate) form: Form,
    pub(crate) cursor: Cursor,
    pub(crate) bookmarks: bool,
    pub(crate) bookmark_every: Duration,
    /// Objects to send as ADDED first.
    pub(crate) initial: std::vec::IntoIter<Arc<Obj>>,
    /// After them a bookmark that says so.
    pub(crate) initial_end: bool,
    pub(crate) deadline: Instant,
    pub(crate) next_bookmark: Instant,
    pub(crate) headings: bool,
    pub(crate) done: bool,
    /// The definition of a custom kind: a watch ends with it.
    definition: Option<Definition>,
}

/// Where a custom kind's definition is.
struct Definition {
    cursor: Cursor,
    table: Arc<Table>,
    key: String,
}

impl Definition {
    fn of(store: &Store, r: &Resource) -> Option<Self> {
        if r.builtin {
            return None;
        }
        let table = store.table(crd::TABLE);
        let cursor = table.cursor(table.rv());
        Some(Self { cursor, table, key: key_of("", &format!("{}.{}", r.plural, r.group)) })
    }

    fn is_gone(&mut self) -> bool {
        // Only so that waiting begins from now.
        let _ = self.cursor.take(EVENTS_AT_ONCE);
        self.table.get(&self.key).is_none()
    }
}

impl Watch {
    /// A watch of a place in the ring, to be filled in.
    pub(crate) fn new(store: Arc<Store>, r: Arc<Resource>, form: Form, cursor: Cursor, length: Duration) -> Self {
        let now = Instant::now();
        let definition = Definition::of(&store, &r);
        Self {
            definition,
            store,
            r,
            namespace: None,
            selectors: Selectors::default(),
            form,
            cursor,
            bookmarks: false,
            bookmark_every: length,
            initial: Vec::new().into_iter(),
            initial_end: false,
            deadline: now + length,
            next_bookmark: now + length,
            headings: true,
            done: false,
        }
    }

    /// The answer's body.
    pub(crate) fn body(self) -> Body {
        let frames = stream::unfold(self, |mut watch| async move {
            let bytes = watch.next().await?;
            Some((Ok::<_, std::io::Error>(Frame::data(bytes)), watch))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = Vec::new();
        while out.len() < BYTES_AT_ONCE {
            let Some(obj) = self.initial.next() else { break };
            self.frame(&mut out, "ADDED", &obj);
        }
        if self.initial.len() == 0 && std::mem::take(&mut self.initial_end) {
            self.bookmark(&mut out, true);
        }
        if !out.is_empty() {
            return Some(Bytes::from(out));
        }
        loop {
            // Asked before the events are taken: those of its last objects are told.
            let gone = self.definition.as_mut().is_some_and(Definition::is_gone);
            // Read before the table: everything up to here is in the table, or concerns it not.
            let certain = self.store.rv();
            let mut taken_all = false;
            while out.len() < BYTES_AT_ONCE && !taken_all {
                match self.cursor.take(EVENTS_AT_ONCE) {
                    Ok(events) => {
                        taken_all = events.len() < EVENTS_AT_ONCE;
                        for event in &events {
                            self.event(&mut out, event);
                        }
                    }
                    Err(gone) => {
                        let text = format!("too old resource version: {} ({})", self.cursor.after(), gone.oldest);
                        self.done = true;
                        out.extend_from_slice(error_frame(&ApiError::expired(text)).as_slice());
                        return Some(Bytes::from(out));
                    }
                }
            }
            if !out.is_empty() {
                return Some(Bytes::from(out));
            }
            self.cursor.skip_to(certain);
            let now = Instant::now();
            if gone || now >= self.deadline {
                return None;
            }
            if self.bookmarks && now >= self.next_bookmark {
                self.next_bookmark = now + self.bookmark_every;
                self.bookmark(&mut out, false);
                return Some(Bytes::from(out));
            }
            let wake = if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline };
            let definition = self.definition.as_mut();
            let redefined = async {
                match definition {
                    Some(definition) => definition.cursor.wait().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cursor.wait() => {}
                () = redefined => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn selected(&self, obj: &Obj) -> bool {
        self.namespace.as_deref().is_none_or(|ns| ns == &*obj.meta.namespace) && self.selectors.matches(&obj.meta)
    }

    /// What an event is to somebody who sees only what is selected.
    fn event(&mut self, out: &mut Vec<u8>, event: &Event) {
        let before = event.old.as_ref().filter(|o| self.selected(o));
        let now = !event.removed && self.selected(&event.obj);
        match (before, now) {
            (None, false) => {}
            (None, true) => self.frame(out, "ADDED", &event.obj),
            (Some(_), true) => self.frame(out, "MODIFIED", &event.obj),
            (Some(_), false) if event.removed => self.frame(out, "DELETED", &event.obj),
            // It left the selection: its last selected form goes, with the version of the change.
            (Some(old), false) => self.frame(out, "DELETED", &old.restamped(event.rv)),
        }
    }

    fn frame(&mut self, out: &mut Vec<u8>, kind: &str, obj: &Obj) {
        match self.form.bytes(&self.r, obj, self.headings) {
            Ok(bytes) => {
                self.headings = false;
                out.extend_from_slice(b"{\"type\":\"");
                out.extend_from_slice(kind.as_bytes());
                out.extend_from_slice(b"\",\"object\":");
                out.extend_from_slice(&bytes);
                out.extend_from_slice(b"}\n");
            }
            Err(error) => {
                self.done = true;
                out.extend_from_slice(&error_frame(&error));
            }
        }
    }

    fn bookmark(&self, out: &mut Vec<u8>, initial_end: bool) {
        let mut meta = json!({"resourceVersion": self.cursor.after().to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Object => json!({"kind": self.r.kind, "apiVersion": self.r.api_version(), "metadata": meta}),
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
            }
            Form::Table(_) => json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                "columnDefinitions": null, "rows": []}),
        };
        write_frame(out, &json!({"type": "BOOKMARK", "object": object}));
    }
}

fn write_frame(out: &mut Vec<u8>, frame: &Value) {
    out.extend_from_slice(frame.to_string().as_bytes());
    out.push(b'\n');
}

/// A failure as watchers read it.
pub(crate) fn error_frame(error: &ApiError) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, &json!({"type": "ERROR", "object": error.status()}));
    out
}
