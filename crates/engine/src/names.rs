//! Names and ids of nodes and pods, exactly as Argo makes them. Pure text; decides nothing.

use crate::loops::Item;

/// FNV-1a, 32 bits.
pub(crate) fn fnv32a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The id of the node of that full name: the workflow's name for the root, else that and a hash.
pub fn node_id(workflow: &str, node_name: &str) -> String {
    if node_name == workflow { workflow.to_owned() } else { format!("{workflow}-{}", fnv32a(node_name)) }
}

/// The name of a node's pod (Argo's version 2 form).
pub fn pod_name(workflow: &str, node_name: &str, template: &str) -> String {
    const LENGTH_MAX: usize = 253 - 11;
    if node_name == workflow {
        return workflow.to_owned();
    }
    let mut prefix = workflow.to_owned();
    if !template.is_empty() {
        prefix.push('-');
        prefix.push_str(template);
    }
    if prefix.len() > LENGTH_MAX {
        let mut cut = LENGTH_MAX;
        while !prefix.is_char_boundary(cut) {
            cut -= 1;
        }
        prefix.truncate(cut);
    }
    format!("{prefix}-{}", fnv32a(node_name))
}

/// The name for people: the node's name without its boundary's, without the step group and the dot.
pub(crate) fn display_name(node_name: &str, boundary_name: Option<&str>) -> String {
    let Some(boundary) = boundary_name else { return node_name.to_owned() };
    let Some(rest) = node_name.strip_prefix(boundary) else { return node_name.to_owned() };
    // `[0].step` → `step`, `[0]` → `[0]`, `.task` → `task`.
    if let Some(open) = rest.strip_prefix('[')
        && let Some(close) = open.find("].")
        && open[..close].bytes().all(|b| b.is_ascii_digit())
    {
        return open[close + 2..].to_owned();
    }
    rest.strip_prefix('.').unwrap_or(rest).to_owned()
}

/// The name of a loop's item: `name(index:description)`.
pub(crate) fn item_name(name: &str, index: usize, item: &Item) -> String {
    format!("{name}({index}:{})", item.description().replace(['(', ')'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_argos() {
        assert_eq!(node_id("graph-bptrd", "graph-bptrd"), "graph-bptrd");
        assert_eq!(node_id("graph-bptrd", "graph-bptrd.a"), "graph-bptrd-3681358147");
        assert_eq!(pod_name("w", "w.a", "t"), format!("w-t-{}", fnv32a("w.a")));
        assert_eq!(pod_name("w", "w", "t"), "w");
    }

    #[test]
    fn display_names_lose_their_boundary() {
        for (name, boundary, display) in [
            ("w", None, "w"),
            ("w[0]", Some("w"), "[0]"),
            ("w[0].a", Some("w"), "a"),
            ("w[0].a(0:x)", Some("w"), "a(0:x)"),
            ("w.a", Some("w"), "a"),
            ("w.a.onExit", Some("w"), "a.onExit"),
            ("w[0].a(1)", Some("w"), "a(1)"),
            ("w(0)", None, "w(0)"),
        ] {
            assert_eq!(display_name(name, boundary), display);
        }
    }

    #[test]
    fn items_are_described() {
        use serde_json::json;
        let named = |index: usize, item: serde_json::Value| item_name("s", index, &Item::from(&item));
        assert_eq!(named(0, json!("a (b)")), "s(0:a b)");
        assert_eq!(named(1, json!({"os": "x", "n": 1})), "s(1:n:1,os:x)");
        assert_eq!(named(2, json!([1, "b"])), "s(2:[1 b])");
        assert_eq!(named(3, json!(true)), "s(3:true)");
    }
}
