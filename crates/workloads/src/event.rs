//! Events as kube-controller-manager posts them, which `kubectl describe` shows: written in the background, counted
//! instead of repeated, combined where many differ in their words only, dropped rather than ever delaying a decision.
//! [`Correlator`] is pure; its numbers are client-go's.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use tokio::sync::mpsc;

/// Events that wait to be written.
const QUEUE: usize = 1024;
/// So many different messages of one reason about one object are told one by one.
const SIMILAR_MAX: usize = 10;
/// After so long without one, counting starts again.
const SIMILAR_SECONDS: i64 = 600;
/// So many events about one object at once,
const BURST: f64 = 25.0;
/// and one more each so many seconds.
const REFILL_SECONDS: f64 = 300.0;
/// Objects and messages that are remembered.
const REMEMBERED_MAX: usize = 4096;
const COMBINED: &str = "(combined from similar events): ";

/// The recorder of one controller. Clones write to the same queue.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<Entry>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    about: ObjectReference,
    kind: &'static str,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

impl Events {
    /// Starts the writer; it ends with the last clone.
    pub fn start(client: Client, component: &'static str) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, entries, component));
        Self { queue }
    }

    /// Something ordinary.
    pub fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: String) {
        self.put(object, "Normal", reason, message);
    }

    /// Something that a person should see.
    pub fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: String) {
        self.put(object, "Warning", reason, message);
    }

    fn put<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        kind: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let mut about = object.object_ref(&());
        about.resource_version = object.meta().resource_version.clone();
        if self.queue.try_send(Entry { about, kind, reason, message, at: Timestamp::now() }).is_err() {
            tracing::debug!(reason, "an event was dropped");
        }
    }
}

/// What becomes of an entry.
#[derive(Debug, PartialEq)]
pub enum Write {
    /// A new Event.
    Create {
        /// To be given back to [`Correlator::created`].
        key: String,
        /// Its text.
        message: String,
    },
    /// One more of an Event that is there.
    Count {
        /// As above.
        key: String,
        /// Its name.
        name: String,
        /// How often now.
        count: i32,
        /// Its text, which changes where events are combined.
        message: String,
    },
    /// Too many about this object.
    Drop,
}

/// Decides what is counted, combined and dropped.
#[derive(Debug, Default)]
pub struct Correlator {
    /// By object and reason: the different messages, and when the last one came.
    similar: HashMap<String, (HashSet<String>, Timestamp)>,
    /// By key: the Event's name and its count.
    written: HashMap<String, (String, i32)>,
    /// By object: what is left, and when that was so.
    buckets: HashMap<String, (f64, Timestamp)>,
}

impl Correlator {
    /// What to do about an entry.
    pub fn decide(&mut self, entry: &Entry) -> Write {
        let about = &entry.about;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        let object = [&about.api_version, &about.kind, &about.namespace, &about.name, &about.uid].map(part).join("/");
        let family = format!("{object}/{}/{}", entry.kind, entry.reason);
        if self.similar.len() + self.written.len() + self.buckets.len() > REMEMBERED_MAX {
            *self = Self::default();
        }
        let (messages, last) = self.similar.entry(family.clone()).or_insert_with(|| (HashSet::new(), entry.at));
        if entry.at.duration_since(*last) > SignedDuration::from_secs(SIMILAR_SECONDS) {
            messages.clear();
        }
        *last = entry.at;
        if messages.len() < SIMILAR_MAX {
            messages.insert(entry.message.clone());
        }
        let (key, message) = if messages.len() < SIMILAR_MAX {
            (format!("{family}/{}", entry.message), entry.message.clone())
        } else {
            (family, format!("{COMBINED}{}", entry.message))
        };
        let (left, since) = self.buckets.entry(object).or_insert((BURST, entry.at));
        *left = (*left + entry.at.duration_since(*since).as_secs_f64() / REFILL_SECONDS).min(BURST);
        *since = entry.at;
        if *left < 1.0 {
            return Write::Drop;
        }
        *left -= 1.0;
        match self.written.get_mut(&key) {
            Some((name, count)) => {
                *count += 1;
                Write::Count { name: name.clone(), count: *count, key, message }
            }
            None => Write::Create { key, message },
        }
    }

    /// An Event was created for this key.
    pub fn created(&mut self, key: String, name: String) {
        self.written.insert(key, (name, 1));
    }
}

async fn write(client: Client, mut entries: mpsc::Receiver<Entry>, component: &'static str) {
    let mut correlator = Correlator::default();
    while let Some(entry) = entries.recv().await {
        let namespace = entry.about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let (key, message) = match correlator.decide(&entry) {
            Write::Drop => continue,
            Write::Create { key, message } => (key, message),
            Write::Count { key, name, count, message } => {
                let body = serde_json::json!({"count": count, "lastTimestamp": Time(entry.at), "message": message});
                match api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await {
                    Ok(_) => continue,
                    // Gone by its age: a new one.
                    Err(kube::Error::Api(status)) if status.code == 404 => (key, message),
                    Err(error) => {
                        tracing::debug!(%error, "an event was not counted");
                        continue;
                    }
                }
            }
        };
        let about = entry.about.name.as_deref().unwrap_or("unknown");
        let name = format!("{about}.{:x}", entry.at.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: entry.about,
            reason: Some(entry.reason.into()),
            message: Some(message),
            type_: Some(entry.kind.into()),
            count: Some(1),
            first_timestamp: Some(Time(entry.at)),
            last_timestamp: Some(Time(entry.at)),
            source: Some(EventSource { component: Some(component.into()), host: None }),
            reporting_component: Some(component.into()),
            reporting_instance: Some(String::new()),
            ..Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => correlator.created(key, name),
            Err(error) => tracing::debug!(%error, "an event was not written"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn entry(message: &str, second: i64) -> Entry {
        Entry {
            about: ObjectReference { name: Some("web".into()), ..ObjectReference::default() },
            kind: "Normal",
            reason: "SuccessfulCreate",
            message: message.to_owned(),
            at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
        }
    }

    /// One word for each entry: its number where it is new, `+` where it is counted, `-` where it is dropped.
    fn told(correlator: &mut Correlator, entries: impl IntoIterator<Item = Entry>) -> String {
        let mut words = String::new();
        for (number, entry) in entries.into_iter().enumerate() {
            words += &match correlator.decide(&entry) {
                Write::Drop => "-".to_owned(),
                Write::Count { count, message, .. } => match message.strip_prefix(COMBINED) {
                    Some(_) => format!("c{count} "),
                    None => format!("+{count} "),
                },
                Write::Create { key, message } => {
                    correlator.created(key, number.to_string());
                    if message.starts_with(COMBINED) { format!("combined{number} ") } else { format!("new{number} ") }
                }
            };
        }
        words
    }

    #[test]
    fn the_same_is_counted() {
        let mut c = Correlator::default();
        assert_eq!(told(&mut c, [entry("a", 0), entry("a", 1), entry("b", 2), entry("a", 3)]), "new0 +2 new2 +3 ");
    }

    #[test]
    fn the_tenth_of_its_kind_is_combined_and_the_rest_with_it() {
        let mut c = Correlator::default();
        let many = (0..14).map(|n| entry(&format!("Created pod: web-{n}"), n));
        let singles: String = (0..9).map(|n| format!("new{n} ")).collect();
        assert_eq!(told(&mut c, many), format!("{singles}combined9 c2 c3 c4 c5 "));
        // After ten quiet minutes they are single again.
        assert_eq!(told(&mut c, [entry("Created pod: later", 700)]), "new0 ");
    }

    #[test]
    fn a_flood_is_dropped_and_refills_slowly() {
        let mut c = Correlator::default();
        let words = told(&mut c, (0..40).map(|_| entry("a", 0)));
        assert_eq!(words.matches('-').count(), 15, "{words}");
        assert_eq!(told(&mut c, [entry("a", 299), entry("a", 301), entry("a", 302)]), "-+26 -");
    }
}
