//! What holds for any text (`invariants`), asked with texts made of the languages' own pieces.

use proptest::prelude::*;

use crate::invariants;

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
        Just("sprig."),
        Just("jsonpath(js, '$."),
        Just("[?(@."),
        Just("date('2024-02-30')"),
        Just("duration('1h')"),
        Just("semverCompare("),
        Just("wrap("),
        Just("b32dec("),
        Just("urlParse("),
        Just("ünï"),
        Just("-9223372036854775808"),
        Just("1e308"),
        Just("nil"),
        Just("#"),
        Just("."),
        Just("?."),
    ];
    prop::collection::vec(prop_oneof![9 => piece.prop_map(str::to_owned), 1 => ".{0,3}"], 0..40)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn yaml_never_panics_and_places_are_in_the_text(text in soup()) {
        invariants::yaml(&text);
    }

    #[test]
    fn tags_never_panic_and_ranges_hold_braces(text in soup()) {
        invariants::tags(&text);
    }

    #[test]
    fn when_never_panics_and_faults_are_in_the_text(text in soup()) {
        invariants::when(&text);
    }

    #[test]
    fn depends_never_panics_and_faults_are_in_the_text(text in soup()) {
        invariants::depends(&text);
    }

    #[test]
    fn expressions_never_panic_and_faults_are_in_the_text(text in soup()) {
        invariants::expression(&text);
    }

    #[test]
    fn functions_take_anything(name in function(), arguments in prop::collection::vec(argument(), 0..4)) {
        invariants::expression(&format!("{name}({})", arguments.join(", ")));
    }

    #[test]
    fn paths_into_json_take_anything(path in "[$@.a-c\\[\\]*?()'0-9:<>=!&|, -]{0,30}") {
        invariants::expression(&format!("jsonpath(js, {:?})", format!("${path}")));
    }

    #[test]
    fn operators_answer_alike_either_way(a in argument(), b in argument()) {
        for sign in ["==", "!=", "+", "*", "&&", "||"] {
            let (left, right) = (format!("{a} {sign} {b}"), format!("{b} {sign} {a}"));
            let (left, right) = (invariants::value(&left), invariants::value(&right));
            // Texts are put together in their order; and `true || 1` does not come to its right side.
            let is_text = |t: &str| t.starts_with('"') || t == "js";
            let text = is_text(&a) && is_text(&b) && sign == "+";
            if !text && !matches!(sign, "&&" | "||") {
                prop_assert_eq!(left, right, "{} {} {}", a, sign, b);
            }
        }
    }

    #[test]
    fn times_come_back_as_they_were_written(seconds in -60_000_000_000i64..250_000_000_000) {
        let layouts = ["2006-01-02T15:04:05Z07:00", "Mon, 02 Jan 2006 15:04:05 -0700", "2006-002 3:04:05PM"];
        for layout in layouts {
            let text = format!("sprig.date({layout:?}, {seconds})");
            let again = format!("date({text}, {layout:?}).Unix()");
            prop_assert_eq!(invariants::value(&again), Some(seconds.to_string()), "{}", again);
        }
    }

    #[test]
    fn durations_come_back_as_they_were_written(nanos in any::<i32>(), hours in -1000i64..1000) {
        let text = format!("duration(string(duration('{hours}h') + duration('{nanos}ns'))).Nanoseconds()");
        let wanted = hours * 3_600_000_000_000 + i64::from(nanos);
        prop_assert_eq!(invariants::value(&text), Some(wanted.to_string()), "{}", text);
    }

    #[test]
    fn versions_are_in_one_order(a in version(), b in version()) {
        let fits = |sign: &str| invariants::value(&format!("sprig.semverCompare('{sign}{a}-0', '{b}')"));
        let order = invariants::value(&format!("sprig.semver('{b}').Compare(sprig.semver('{a}-0'))"));
        let truth = |wanted: &[&str]| Some(wanted.contains(&order.as_deref().unwrap()).to_string());
        prop_assert_eq!(fits(">"), truth(&["1"]));
        prop_assert_eq!(fits(">="), truth(&["1", "0"]));
        prop_assert_eq!(fits("<"), truth(&["-1"]));
        prop_assert_eq!(fits("!="), truth(&["-1", "1"]));
    }

    #[test]
    fn bytes_come_back_from_their_codes(text in ".{0,20}") {
        for code in ["b32", "b64"] {
            let again = format!("sprig.{code}dec(sprig.{code}enc({text:?})) == {text:?}");
            // Escapes that Rust writes and the language does not know are no question.
            if let Some(answer) = invariants::value(&again) {
                prop_assert_eq!(answer, "true", "{}", again);
            }
        }
    }
}

fn version() -> impl Strategy<Value = String> {
    (0u8..3, 0u8..3, 0u8..3).prop_map(|(a, b, c)| format!("{a}.{b}.{c}"))
}

/// The name of a function that there is: those of the answers that were recorded.
fn function() -> impl Strategy<Value = String> {
    let names: std::collections::BTreeSet<String> = include_str!("../../src/expr/sprig.rs")
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("(\"")?.split_once("\", ")?.0))
        .map(|name| format!("sprig.{name}"))
        .chain(include_str!("../../src/expr/builtin.rs").split('"').skip(1).step_by(2).map(str::to_owned))
        .filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.') && !name.is_empty())
        .collect();
    assert!(names.len() > 150, "{names:?}");
    prop::sample::select(names.into_iter().collect::<Vec<_>>())
}

fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-20i64..20).prop_map(|n| n.to_string()),
        (-1e9..1e9f64).prop_map(|n| n.to_string()),
        "[a-zA-Zü:/.,%=0-9 -]{0,12}".prop_map(|t| format!("{t:?}")),
        Just("true".to_owned()),
        Just("nil".to_owned()),
        Just("[3, 1, 2]".to_owned()),
        Just("[\"b\", nil, [1]]".to_owned()),
        Just("{\"k\": 1, \"m\": {\"x\": []}}".to_owned()),
        Just("date(\"2024-02-29\")".to_owned()),
        Just("duration(\"-90m\")".to_owned()),
        Just("sprig.semver(\"1.2.3-a\")".to_owned()),
        Just("js".to_owned()),
    ]
}
