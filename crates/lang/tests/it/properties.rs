use proptest::prelude::*;
use windlass_lang::{Sources, depends::Depends, expr, render, tags, when, yaml};

/// Text made of the pieces that the small languages are made of.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{{"),
        Just("}}"),
        Just("{{="),
        Just("a"),
        Just("b-c"),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just("&&"),
        Just("||"),
        Just("!"),
        Just("=="),
        Just("=~"),
        Just("in"),
        Just(","),
        Just("1"),
        Just("0x"),
        Just("1.5"),
        Just("-"),
        Just("?"),
        Just(":"),
        Just("??"),
        Just(" "),
        Just("\n"),
        Just("  "),
        Just("- "),
        Just("a: "),
        Just("&x "),
        Just("*x"),
        Just("<<: "),
        Just("|\n"),
        Just("---\n"),
        Just("é"),
        Just("."),
        Just(".Succeeded"),
        Just("true"),
        Just("#"),
        Just("%"),
        Just("**"),
        Just("<<"),
        Just("/"),
        Just("|"),
        Just("let x = "),
        Just(";"),
        Just("filter("),
        Just(".."),
    ];
    prop::collection::vec(prop_oneof![9 => piece.prop_map(str::to_owned), 1 => ".{0,3}"], 0..40)
        .prop_map(|pieces| pieces.concat())
}

struct Twice;

impl tags::Resolve for Twice {
    fn name(&self, name: &str) -> tags::Lookup<'_> {
        if name.is_empty() { tags::Lookup::Unknown } else { tags::Lookup::Text(format!("{{{{{name}").into()) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn yaml_never_panics_and_places_are_in_the_text(text in soup()) {
        let mut sources = Sources::default();
        let id = sources.add("x.yaml", text.clone());
        let loaded = yaml::load(&sources, id);
        for diagnostic in &loaded.diagnostics {
            for label in &diagnostic.labels {
                prop_assert!(label.span.end <= text.len(), "{:?}", label);
                prop_assert!(text.get(label.span.range()).is_some(), "{:?}", label);
            }
        }
        let _ = render(&loaded.diagnostics, &sources, false);
        let _ = render(&loaded.diagnostics, &sources, true);
        for document in yaml::flatten(loaded.documents) {
            let _ = document.key_span("/a/0/b-c");
            let _ = document.text_span(&sources, "/a", 0..1);
        }
    }

    #[test]
    fn tags_never_panic_and_ranges_hold_braces(text in soup()) {
        let mut last = 0;
        for tag in tags::find(&text) {
            let part = &text[tag.range.clone()];
            prop_assert!(part.starts_with("{{") && part.ends_with("}}") && tag.range.start >= last);
            last = tag.range.end;
        }
        let _ = tags::substitute(&text, &Twice, &tags::Options::default());
        let _ = tags::substitute(&text, &Twice, &tags::Options { strict: &["a"], strict_all: true });
    }

    #[test]
    fn when_never_panics_and_faults_are_in_the_text(text in soup()) {
        if let Err(fault) = when::evaluate(&text) {
            prop_assert!(text.get(fault.range.clone()).is_some(), "{:?}", fault);
        }
    }

    #[test]
    fn depends_never_panics_and_faults_are_in_the_text(text in soup()) {
        match Depends::parse(&text) {
            Err(fault) => prop_assert!(text.get(fault.range.clone()).is_some(), "{:?}", fault),
            Ok(depends) => {
                depends.evaluate(|r| r.task.len() % 2 == 0);
            }
        }
    }

    #[test]
    fn expressions_never_panic_and_faults_are_in_the_text(text in soup()) {
        let mut env = expr::Env::default();
        env.set("a", expr::Value::Int(1));
        let fault = match expr::Expression::parse(&text) {
            Err(fault) => Some(fault),
            Ok(expression) => expression.evaluate(&env).err(),
        };
        if let Some(fault) = fault {
            prop_assert!(text.get(fault.range.clone()).is_some(), "{:?}", fault);
        }
    }
}
