//! `windlass cache list` and `clear`: outputs that are remembered in our own cache, through the door of the cluster.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;

use crate::archived::ask;
use crate::cli::{CacheVerb, Format};
use crate::connect::connect_kept;
use crate::print;
use crate::start::Session;

pub(super) async fn run(session: &Session, verb: CacheVerb) -> Result<ExitCode> {
    let c = connect_kept(&session.global).await?;
    let namespace: String = url::form_urlencoded::byte_serialize(c.namespace.as_bytes()).collect();
    let path = format!("/api/v1/windlass/remembered/{namespace}");
    match verb {
        CacheVerb::List(args) => {
            let all: Value = ask(&c, "GET", &path).await?;
            match args.output {
                Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&all["items"])?),
                Some(Format::Yaml) => print!("{}", print::yaml(&all["items"])?),
                other => print!("{}", table(&all["items"], other == Some(Format::Name))),
            }
        }
        CacheVerb::Clear(args) => {
            let mut words = url::form_urlencoded::Serializer::new(String::new());
            words.extend_pairs(args.cache.map(|cache| ("cache", cache)));
            words.extend_pairs(args.key.map(|key| ("key", key)));
            let done: Value = ask(&c, "DELETE", &format!("{path}?{}", words.finish())).await?;
            println!("{} remembered outputs forgotten", done["forgotten"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(all: &Value, keys: bool) -> String {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let rows = all.as_array().into_iter().flatten();
    if keys {
        return rows.map(|row| format!("{}\n", text(&row["key"]))).collect();
    }
    let mut lines = vec![["CACHE", "KEY", "BYTES", "WRITTEN"].map(str::to_owned).to_vec()];
    lines.extend(rows.map(|row| ["cache", "key", "bytes", "written"].map(|field| text(&row[field])).to_vec()));
    match lines.len() {
        1 => "Nothing is remembered\n".to_owned(),
        _ => print::columns(&lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table() {
        let all = json!([{"cache": "windlass.dev/cache", "key": "k", "bytes": 7, "written": "2026-01-01T00:00:00Z"}]);
        insta::assert_snapshot!(table(&all, false), @r"
        CACHE               KEY  BYTES  WRITTEN
        windlass.dev/cache  k    7      2026-01-01T00:00:00Z
        ");
        assert_eq!(table(&all, true), "k\n");
        assert_eq!(table(&json!([]), false), "Nothing is remembered\n");
    }
}
