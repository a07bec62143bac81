//! Fields that are given twice. A JSON parser keeps the last one silently; this walk tells. Pure.

use crate::key::Key;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// The paths of fields that occur more than once, in order; empty for what is not JSON.
#[must_use]
pub fn duplicate_fields(json: &[u8]) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let mut reader = serde_json::Deserializer::from_slice(json);
    let _ = Walk { place: &Place::Top, found: &found }.deserialize(&mut reader);
    found.into_inner()
}

/// Where a walk is. It becomes text only for a finding: most bodies have none, and every new object is walked.
enum Place<'a> {
    Top,
    Field(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn text(&self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Field(Place::Top, name) => (*name).to_owned(),
            Self::Field(around, name) => format!("{}.{name}", around.text()),
            Self::Index(around, index) => format!("{}[{index}]", around.text()),
        }
    }
}

struct Walk<'a> {
    place: &'a Place<'a>,
    found: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let place = Place::Index(self.place, index);
            if seq.next_element_seed(Walk { place: &place, found: self.found })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Kept in order, so that a long map is not searched through for each of its keys.
        let mut seen: Vec<Cow<'de, str>> = Vec::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let place = Place::Field(self.place, &key);
            let known = seen.binary_search(&key);
            if known.is_ok() {
                self.found.borrow_mut().push(place.text());
            }
            map.next_value_seed(Walk { place: &place, found: self.found })?;
            if let Err(at) = known {
                seen.insert(at, key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::duplicate_fields;

    #[test]
    fn every_second_mention_is_told() {
        let json = br#"{"a":1,"b":[{"c":1,"c":{"d":1,"d":2}}],"a":null}"#;
        assert_eq!(duplicate_fields(json), ["b[0].c", "b[0].c.d", "a"]);
        assert!(duplicate_fields(br#"{"a":{"b":1},"c":{"b":1}}"#).is_empty());
        // Written otherwise, it is the same key.
        assert_eq!(duplicate_fields(br#"{"z":[[{"ab":1,"a\u0062":[]}]]}"#), ["z[0][0].ab"]);
        assert!(duplicate_fields(b"a: 1\na: 2").is_empty());
    }
}
