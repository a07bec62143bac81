//! Node tables that do not fit into an object even packed: their rows lie on pages, ConfigMaps beside the workflow, and the
//! status names the pages in `offloadNodeStatusVersion`, the field in which Argo (v4.1) names a version in its database. A
//! page is written once and under a name that nobody has had, so whoever reads a status reads the table of that moment or
//! misses a page, and a crash between the pages and the status leaves the old table. Only a page with a row that has
//! changed is written again. Pure: no request is made here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::{labels, packed};

/// A page takes no further row once it has so many bytes of JSON: what a small change costs to write.
const PAGE_BYTES: usize = 512 << 10;

/// So many bytes may the data of a ConfigMap have (1 MiB), its other fields left out.
const PACKED_BYTES_MAX: usize = (1 << 20) - 4096;

/// What every page's name begins with.
const PREFIX: &str = "node-table-";

/// The one entry of a page's `binaryData`.
const ENTRY: &str = "nodes.json.gz";

/// What a version of ours begins with; those of Argo's database begin with `fnv:`.
const SCHEME: &str = "pages:";

/// Rows as they are written, and how the page is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    key: String,
    packed: String,
}

/// What has to be written for a change, and what nobody will name once the status names the new version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// Before the status.
    pub pages: Vec<Page>,
    /// The names of those that may go after it.
    pub stale: Vec<String>,
}

/// The names of the pages that a version names, in order; nothing where the version is not one of ours.
#[must_use]
pub fn names(version: &str) -> Option<Vec<String>> {
    let keys = version.strip_prefix(SCHEME)?.split(',').filter(|key| !key.is_empty());
    Some(keys.map(name).collect())
}

fn name(key: &str) -> String {
    format!("{PREFIX}{key}")
}

impl Page {
    /// The ConfigMap: `workflow` is the metadata of the workflow whose page it is.
    #[must_use]
    pub fn object(&self, workflow: &Value) -> Value {
        let mut labelled = Map::from_iter([(labels::NODE_TABLE.to_owned(), json!("true"))]);
        // A controller looks after the pages of the workflows that are its own.
        if let Some(instance) = workflow["labels"][labels::INSTANCE].as_str() {
            labelled.insert(labels::INSTANCE.to_owned(), json!(instance));
        }
        let of = workflow["name"].as_str().or(workflow["generateName"].as_str()).unwrap_or_default();
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name(&self.key), "labels": labelled, "annotations": {labels::WORKFLOW: of}},
            "immutable": true,
            "binaryData": {ENTRY: self.packed},
        })
    }
}

/// The rows on a page, as the API has it; the error says what is wrong with it.
pub fn rows(page: &Value) -> Result<Map<String, Value>, String> {
    let told = |what: &str| format!("ConfigMap {}: {what}", page["metadata"]["name"].as_str().unwrap_or_default());
    if page["metadata"]["labels"][labels::NODE_TABLE] != "true" {
        return Err(told(&format!("it has no label {}", labels::NODE_TABLE)));
    }
    let text = page["binaryData"][ENTRY].as_str().ok_or_else(|| told(&format!("there is no {ENTRY} in it")))?;
    packed::unpack(text).map_err(|e| told(&e))
}

/// Which row lies on which page, for as long as somebody holds the table.
#[derive(Debug, Default)]
pub struct Book {
    sheets: Vec<Sheet>,
    home: HashMap<String, usize>,
    /// Pages of an earlier holder.
    foreign: Vec<String>,
}

#[derive(Debug, Default)]
struct Sheet {
    /// How the page was called when it was written last.
    key: Option<String>,
    ids: Vec<String>,
    /// Bytes of JSON when it was written last, and more for what was put on since.
    bytes: usize,
}

impl Book {
    /// Of a table that somebody else has written as this version: it is written anew as a whole.
    #[must_use]
    pub fn after(version: &str) -> Self {
        Self { foreign: names(version).unwrap_or_default(), ..Self::default() }
    }

    /// Whether nothing has been written from here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sheets.is_empty()
    }

    /// Lays the rows that have changed on their pages. `row` answers nothing for one that is gone; the new pages' names are
    /// made of `stamp`, which nobody has used yet. The error is for people: a row is too large for any page.
    pub fn write<'a, R: Serialize>(
        &mut self,
        changed: impl IntoIterator<Item = &'a str>,
        row: impl Fn(&str) -> Option<R>,
        stamp: &str,
    ) -> Result<Written, String> {
        let mut dirty: BTreeSet<usize> = changed.into_iter().map(|id| self.sheet_of(id)).collect();
        let mut written = Written::default();
        while let Some(at) = dirty.pop_first() {
            let Some(sheet) = self.sheets.get_mut(at) else { continue };
            written.stale.extend(sheet.key.take().as_deref().map(name));
            let (mut rows, mut bytes) = (BTreeMap::new(), 0);
            let mut ids = std::mem::take(&mut sheet.ids).into_iter();
            let mut full = Vec::new();
            for id in ids.by_ref() {
                let text = row(&id).map(|row| serde_json::value::to_raw_value(&row)).transpose();
                let Some(text) = text.map_err(|e| format!("node {id} cannot be written: {e}"))? else {
                    self.home.remove(&id);
                    continue;
                };
                if bytes > 0 && bytes + text.get().len() > PAGE_BYTES {
                    full.push(id);
                    break;
                }
                bytes += text.get().len();
                rows.insert(id, text);
            }
            full.extend(ids);
            sheet.bytes = bytes;
            sheet.ids = rows.keys().cloned().collect();
            if !rows.is_empty() {
                let key = format!("{stamp}-{at}");
                sheet.key = Some(key.clone());
                written.pages.push(Page { packed: packed_rows(&rows)?, key });
            }
            if !full.is_empty() {
                // Rows grow. What does not fit any more begins a page of its own.
                let next = self.sheets.len();
                self.home.extend(full.iter().map(|id| (id.clone(), next)));
                self.sheets.push(Sheet { ids: full, ..Sheet::default() });
                dirty.insert(next);
            }
        }
        written.stale.append(&mut self.foreign);
        Ok(written)
    }

    /// The pages that hold the table now, as the status names them.
    #[must_use]
    pub fn version(&self) -> String {
        let keys: Vec<&str> = self.sheets.iter().filter_map(|sheet| sheet.key.as_deref()).collect();
        format!("{SCHEME}{}", keys.join(","))
    }

    /// The page of a row; a new one goes on the last.
    fn sheet_of(&mut self, id: &str) -> usize {
        // What a row that nobody has written yet will take, about.
        const ROW: usize = 512;
        if let Some(at) = self.home.get(id) {
            return *at;
        }
        if self.sheets.last().is_none_or(|last| last.bytes >= PAGE_BYTES) {
            self.sheets.push(Sheet::default());
        }
        let at = self.sheets.len() - 1;
        if let Some(last) = self.sheets.last_mut() {
            last.ids.push(id.to_owned());
            last.bytes += ROW;
        }
        self.home.insert(id.to_owned(), at);
        at
    }
}

fn packed_rows(rows: &BTreeMap<String, Box<RawValue>>) -> Result<String, String> {
    let packed = packed::pack(rows);
    let bytes = packed.len() / 4 * 3;
    if bytes > PACKED_BYTES_MAX {
        let id = rows.keys().next().map(String::as_str).unwrap_or_default();
        return Err(format!(
            "the row of node {id} is too large to be kept: {bytes} bytes packed, at most {PACKED_BYTES_MAX}; give less \
             out as parameters and results (files go as artifacts)"
        ));
    }
    Ok(packed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The table that a version names, of pages that were written.
    fn read(version: &str, there: &HashMap<String, Value>) -> BTreeMap<String, Value> {
        names(version).unwrap().iter().flat_map(|name| rows(&there[name]).unwrap()).collect()
    }

    fn keep(there: &mut HashMap<String, Value>, written: &Written) {
        for page in &written.pages {
            let object = page.object(&json!({"name": "w"}));
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            assert!(there.insert(name, object).is_none(), "a page is written once");
        }
    }

    #[test]
    fn only_the_pages_of_what_has_changed_are_written_again() {
        let mut table: BTreeMap<String, Value> =
            (0..1000).map(|i| (format!("n{i}"), json!({"message": "x".repeat(2_000), "phase": "Running"}))).collect();
        let (mut book, mut there) = (Book::default(), HashMap::new());
        assert!(book.is_empty());
        let all: Vec<String> = table.keys().cloned().collect();
        let written = book.write(all.iter().map(String::as_str), |id| table.get(id), "1").unwrap();
        assert!(written.pages.len() >= 4 && written.stale.is_empty(), "{} pages", written.pages.len());
        keep(&mut there, &written);
        assert_eq!(read(&book.version(), &there), table);

        let before = names(&book.version()).unwrap();
        table.insert("n7".to_owned(), json!({"phase": "Succeeded"}));
        table.insert("late".to_owned(), json!({"phase": "Pending"}));
        table.remove("n8");
        let written = book.write(["n7", "n8", "late"], |id| table.get(id), "2").unwrap();
        assert!(written.pages.len() <= 3, "{} pages", written.pages.len());
        assert!(written.stale.iter().all(|name| before.contains(name)));
        keep(&mut there, &written);
        assert_eq!(read(&book.version(), &there), table);
        let named = names(&book.version()).unwrap();
        assert!(written.stale.iter().all(|name| !named.contains(name)));

        // Whoever takes it over writes it whole, and the pages of before are stale.
        let mut next = Book::after(&book.version());
        let written = next.write(table.keys().map(String::as_str), |id| table.get(id), "3").unwrap();
        assert_eq!(written.stale, named);
        keep(&mut there, &written);
        assert_eq!(read(&next.version(), &there), table);
    }

    #[test]
    fn rows_that_grow_get_a_page_of_their_own() {
        let small: BTreeMap<String, Value> = (0..500).map(|i| (format!("n{i}"), json!({}))).collect();
        let large: BTreeMap<String, Value> =
            small.keys().map(|id| (id.clone(), json!({"message": "y".repeat(5_000)}))).collect();
        let (mut book, mut there) = (Book::default(), HashMap::new());
        keep(&mut there, &book.write(small.keys().map(String::as_str), |id| small.get(id), "1").unwrap());
        let written = book.write(large.keys().map(String::as_str), |id| large.get(id), "2").unwrap();
        assert!(written.pages.len() >= 4, "{} pages", written.pages.len());
        keep(&mut there, &written);
        assert_eq!(read(&book.version(), &there), large);
        // All gone: no page is left.
        let ids: Vec<String> = small.into_keys().collect();
        let written = book.write(ids.iter().map(String::as_str), |_| None::<Value>, "3").unwrap();
        assert_eq!((written.pages.len(), book.version().as_str()), (0, "pages:"));
        assert_eq!(names(&book.version()), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_page_of_ours_is_told() {
        assert_eq!(names("fnv:123"), None);
        let secret = json!({"metadata": {"name": "settings"}, "binaryData": {ENTRY: packed::pack(&json!({}))}});
        assert_eq!(rows(&secret).unwrap_err(), "ConfigMap settings: it has no label windlass.dev/node-table");
        let empty = json!({"metadata": {"name": "node-table-1-0", "labels": {labels::NODE_TABLE: "true"}}});
        assert_eq!(rows(&empty).unwrap_err(), "ConfigMap node-table-1-0: there is no nodes.json.gz in it");
    }

    #[test]
    fn a_row_that_no_page_takes_is_refused_by_its_name() {
        // Nothing makes such a text shorter than base64 is.
        let mut state = 7_u64;
        let text: String = (0..2_000_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[(state >> 58) as usize])
            })
            .collect();
        let refused = Book::default().write(["big"], |_| Some(json!({"message": text})), "1").unwrap_err();
        assert!(refused.starts_with("the row of node big is too large to be kept: "), "{refused}");
    }
}
