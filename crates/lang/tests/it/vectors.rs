use windlass_lang::tags::Evaluated;
use windlass_lang::{expr, when};

#[test]
fn conditions_come_out_right() {
    for (text, truth) in [
        ("heads == heads", Some(true)),
        ("\"heads\" == 'heads'", Some(true)),
        ("heads == tails || 1 < 2", Some(true)),
        ("a in (a, b)", Some(true)),
        ("a in ('b', c)", Some(false)),
        ("!true", Some(false)),
        ("!(a == b)", Some(true)),
        ("'2024-01-01' < '2024-01-02'", Some(true)),
        ("'main' =~ '^m'", Some(true)),
        ("refs/heads/main == x", None),
        ("'refs/heads/main' == 'refs/heads/main'", Some(true)),
        ("my-branch == my-branch", None),
        ("v1.2 == v1.2", None),
        ("[my-branch] == 'my-branch'", Some(true)),
        (" == a", None),
        ("", None),
        ("a", None),
        ("1 - 2 - 3 == -4", Some(true)),
        ("2 ** 3 ** 2 == 64", Some(true)),
        ("true ? a == a : b", Some(true)),
        ("(a == a) (b == c)", Some(true)),
        ("a==b&&!c", None),
        ("'it\\'s' == \"it\\'s\"", Some(true)),
        ("() == a", Some(false)),
        ("(a,b) in ((a,b), c)", Some(false)),
    ] {
        assert_eq!(when::evaluate(text).ok(), truth, "{text}");
    }
}

#[test]
fn faults_say_where() {
    for (text, at, word) in [
        ("refs/heads/main == x", 0..20, "modifier"),
        ("a = b", 2..3, "Invalid token"),
        ("a == ", 2..4, "Unexpected end"),
        ("(a == b", 0..1, "Unbalanced"),
        ("'a == b", 0..1, "quote"),
    ] {
        let fault = when::evaluate(text).unwrap_err();
        assert!(fault.message.contains(word), "{text}: {}", fault.message);
        if word != "modifier" {
            assert_eq!(fault.range, at, "{text}");
        }
    }
}

#[test]
fn expressions_come_out_right() {
    let mut env = expr::Env::default();
    env.set("inputs.parameters.n", expr::Value::from("3"));
    env.set_path(&["steps", "a-b", "outputs", "result"], expr::Value::from("[1,2,3]"));
    env.set("gone", expr::Value::Null);
    for (text, result) in [
        ("asInt(inputs.parameters.n) + 1", Some("4")),
        ("inputs.parameters.n + 'x'", Some("3x")),
        ("toJson(filter(fromJSON(steps['a-b'].outputs.result), # > 1))", Some("[2,3]")),
        ("sprig.upper('a') | trim()", Some("A")),
        ("let x = 2; x ** 3", Some("8")),
        ("1 < 2 < 3 ? 'yes' : 'no'", Some("yes")),
        ("{'a': {'b': 1.5}}.a.b", Some("1.5")),
        ("gone ?? 'none'", Some("none")),
        ("gone?.x ?? 'none'", Some("none")),
        ("map([{'v': 1}], {.v})", Some("[1]")),
        ("1..3", Some("[1,2,3]")),
        ("'a' not in ['b']", Some("true")),
        ("gone", None),
        ("1 +", None),
        ("sprig.now()", None),
        ("sprig.mustFirst([1, 2])", Some("1")),
        // There are no such twins; asking for them was a panic.
        ("sprig.mustJoin()", None),
        ("sprig.mustTernary(true)", None),
        ("now()", None),
        ("true || 1", None),
    ] {
        let found = expr::evaluate_tag(text, &env);
        match result {
            Some(result) => assert_eq!(found, Evaluated::Text(result.to_owned()), "{text}"),
            None => assert!(matches!(found, Evaluated::Failed(_)), "{text}: {found:?}"),
        }
    }
    assert_eq!(expr::evaluate_tag("tasks.x.outputs.result", &env), Evaluated::Unknown);
}
