//! The facts of a stored object, read from its bytes: what selectors and the garbage collector need, and nothing else is
//! built. A store with thousands of finished pods opens at the speed of looking through their text. Must say the same as
//! [`Meta::of`], which reads the parsed form.

use super::object::{Meta, Uid, is_of_the_collector};
use crate::key::Key;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

impl Meta {
    /// The facts of a serialised object of a kind with these selectable fields.
    pub(crate) fn read(bytes: &[u8], selectable: &Arc<[String]>) -> serde_json::Result<Self> {
        let mut walk = Walk { found: vec![None; selectable.len()], meta: OfMeta::default() };
        let wanted = selectable.iter().enumerate().map(|(at, path)| (path.as_str(), at)).collect();
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        Pick { walk: &mut walk, wanted, top: true }.deserialize(&mut reader)?;
        reader.end()?;
        let Walk { found, meta } = walk;
        let labels = meta.labels.unwrap_or_default().into_iter();
        Ok(Self {
            namespace: meta.namespace.unwrap_or_default().into(),
            name: meta.name.unwrap_or_default().into(),
            uid: Uid::of(&meta.uid.unwrap_or_default()),
            labels: labels.map(|(k, v)| (k.into(), v.into())).collect(),
            selectable: selectable.clone(),
            fields: found.into(),
            owners: meta.owner_references.iter().flatten().filter_map(|o| o.uid.as_deref()).map(Uid::of).collect(),
            deleting: meta.deletion_timestamp.is_some(),
            collected: meta.finalizers.iter().flatten().any(|f| is_of_the_collector(f)),
        })
    }
}

/// What is read of `metadata`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OfMeta {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<String>,
    finalizers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Owner {
    uid: Option<String>,
}

/// What a walk through an object has found.
struct Walk {
    /// Selectable fields by their number.
    found: Vec<Option<Box<str>>>,
    meta: OfMeta,
}

/// One value on the way: the rests of the selectable paths that lead through it, with their numbers. An empty rest is
/// a path that ends here.
struct Pick<'a, 'p> {
    walk: &'a mut Walk,
    wanted: Vec<(&'p str, usize)>,
    top: bool,
}

impl Pick<'_, '_> {
    fn text(self, text: &str) {
        for (rest, at) in self.wanted {
            if rest.is_empty() {
                self.walk.found[at] = Some(text.into());
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Pick<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.wanted.is_empty() && !self.top {
            return IgnoredAny::deserialize(from).map(drop);
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.text(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.text(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.text(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("not a number"))?;
        self.text(&number.to_string());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.text(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, wanted, top } = self;
        while let Some(key) = map.next_key_seed(Key)? {
            if top && key == "metadata" {
                walk.meta = map.next_value()?;
                continue;
            }
            let wanted = wanted.iter().filter_map(|&(path, at)| Some((beneath(path, &key)?, at))).collect();
            map.next_value_seed(Pick { walk: &mut *walk, wanted, top: false })?;
        }
        Ok(())
    }
}

/// What is left of a path after this key; nothing where the path does not lead through it.
fn beneath<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    // What can be selected of a struct at a path's end is its component: an Event's source.
    if path.is_empty() {
        return (key == "component").then_some("");
    }
    let rest = path.strip_prefix(key)?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('.') }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bytes_say_what_the_parsed_form_says() {
        let paths = ["spec.nodeName", "spec.hostNetwork", "status.phase", "status.replicas", "source", "type", "a.b.c"];
        let selectable = paths.map(str::to_owned).into();
        let meta = json!({"name": "p", "namespace": "n", "uid": "3f0e8e0a-95a3-4b43-8c31-0a4a6b2d9c11", "generation": 2,
            "labels": {"b": "2", "a": "1"}, "annotations": {"x": "{\"spec\":1}"}, "finalizers": ["f", "orphan"],
            "ownerReferences": [{"kind": "K", "name": "o", "uid": "u", "controller": true}]});
        let going = json!({"name": "é\"", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []});
        for object in [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": "here", "hostNetwork": true,
                "containers": [{"status": {"phase": "no"}}]}, "status": {"phase": "Running", "replicas": 3}}),
            json!({"metadata": going, "source": {"component": "c", "host": {"component": "no"}}, "type": "Normal"}),
            json!({"metadata": {"name": "x"}, "source": "plain", "a": {"b": {"c": 1.5}}, "spec": null, "status": []}),
            json!({"metadata": {}, "a": {"b": {"c": {"component": "deep"}}}, "status": {"phase": {"x": 1}}}),
            json!({"spec": {"nodeName": null}}),
        ] {
            let read = Meta::read(object.to_string().as_bytes(), &selectable).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Meta::of(&object, &selectable)), "{object}");
        }
        assert!(Meta::read(b"{\"metadata\":{}", &selectable).is_err());
    }
}
