//! What holds for any text that the small languages are given: no panic, places that are in the text, the same answer
//! twice. The property tests ask it, and so do the fuzz targets of `fuzz/`.

use windlass_lang::{Sources, depends::Depends, expr, render, tags as find, when as conditions, yaml as reader};

/// YAML: places of diagnostics and of values.
pub(crate) fn yaml(text: &str) {
    let mut sources = Sources::default();
    let id = sources.add("x.yaml", text.to_owned());
    let loaded = reader::load(&sources, id);
    for diagnostic in &loaded.diagnostics {
        for label in &diagnostic.labels {
            assert!(label.span.end <= text.len(), "{label:?}");
            assert!(text.get(label.span.range()).is_some(), "{label:?}");
        }
    }
    let _ = render(&loaded.diagnostics, &sources, false);
    let _ = render(&loaded.diagnostics, &sources, true);
    for document in reader::flatten(loaded.documents) {
        let _ = document.key_span("/a/0/b-c");
        let _ = document.text_span(&sources, "/a", 0..1);
    }
}

struct Twice;

impl find::Resolve for Twice {
    fn name(&self, name: &str) -> find::Lookup<'_> {
        if name.is_empty() { find::Lookup::Unknown } else { find::Lookup::Text(format!("{{{{{name}").into()) }
    }
}

/// `{{tags}}`: found in order, with their braces.
pub(crate) fn tags(text: &str) {
    let mut last = 0;
    for tag in find::find(text) {
        let part = &text[tag.range.clone()];
        assert!(part.starts_with("{{") && part.ends_with("}}") && tag.range.start >= last);
        last = tag.range.end;
    }
    let _ = find::substitute(text, &Twice, &find::Options::default());
    let _ = find::substitute(text, &Twice, &find::Options { strict: &["a"], strict_all: true });
}

/// `when`.
pub(crate) fn when(text: &str) {
    if let Err(fault) = conditions::evaluate(text) {
        assert!(text.get(fault.range.clone()).is_some(), "{fault:?}");
    }
}

/// `depends`.
pub(crate) fn depends(text: &str) {
    match Depends::parse(text) {
        Err(fault) => assert!(text.get(fault.range.clone()).is_some(), "{fault:?}"),
        Ok(depends) => {
            depends.evaluate(|r| r.task.len() % 2 == 0);
        }
    }
}

fn env() -> expr::Env {
    let mut env = expr::Env::default();
    env.set("a", expr::Value::Int(1));
    env.set("js", expr::Value::from(r#"{"a":{"b":[1,2,{"c":"d"}]},"b":null,"c":[{"a":1},{"a":2.5}]}"#));
    env
}

/// An expression's value as JSON text.
pub(crate) fn value(text: &str) -> Option<String> {
    expr::Expression::parse(text).and_then(|e| e.evaluate(&env())).ok()?.json_text(false)
}

/// Expressions: faults are in the text; the answer is the same twice.
pub(crate) fn expression(text: &str) {
    let fault = match expr::Expression::parse(text) {
        Err(fault) => Some(fault),
        Ok(expression) => {
            let (first, again) = (expression.evaluate(&env()), expression.evaluate(&env()));
            assert_eq!(format!("{first:?}"), format!("{again:?}"));
            for name in expression.names() {
                assert!(text.get(name.range.clone()).is_some(), "{name:?}");
            }
            first.err()
        }
    };
    if let Some(fault) = fault {
        assert!(text.get(fault.range.clone()).is_some(), "{fault:?}");
    }
}
