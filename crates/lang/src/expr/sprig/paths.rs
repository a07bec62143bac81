//! sprig's functions of slash-separated paths, by the rules of Go's `path`. Only text: no file is looked at.

use super::arguments::text;
use super::{Found, Value};

/// A function by name; nothing when it is none of paths.
pub(super) fn call(name: &str, v: &[Value]) -> Found {
    let out = |t: String| Value::Text(t);
    Ok(Some(match name {
        "base" | "osBase" => {
            let t = text(v, 0)?;
            let cut = t.trim_end_matches('/');
            Value::from(match (t, cut) {
                ("", _) => ".",
                (_, "") => "/",
                (_, cut) => cut.rsplit('/').next().unwrap_or(cut),
            })
        }
        "dir" | "osDir" => {
            let t = text(v, 0)?;
            out(clean(t.rfind('/').map_or("", |i| &t[..=i])))
        }
        "clean" | "osClean" => out(clean(text(v, 0)?)),
        "ext" | "osExt" => {
            let t = text(v, 0)?;
            let last = t.rsplit('/').next().unwrap_or("");
            Value::from(last.rfind('.').map_or("", |i| &last[i..]))
        }
        "isAbs" | "osIsAbs" => Value::Bool(text(v, 0)?.starts_with('/')),
        _ => return Ok(None),
    }))
}

/// Go's `path.Clean`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match (part, out.last()) {
            ("..", Some(last)) if *last != ".." => {
                out.pop();
            }
            ("..", None) if rooted => {}
            _ => out.push(part),
        }
    }
    match (rooted, out.is_empty()) {
        (true, _) => format!("/{}", out.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => out.join("/"),
    }
}
