//! Numbers as Go prints them.

/// A float as Go's `%v` prints it: with an exponent below 1e-4 and from 1e6 on: `1e+06`, `2.5`, `59049`.
pub(crate) fn go_text(n: f64) -> String {
    form(n, -4, 6)
}

/// A float as Go's JSON has it: with an exponent below 1e-6 and from 1e21 on. Not a number or infinite: nothing.
pub(crate) fn json_text(n: f64) -> Option<String> {
    n.is_finite().then(|| {
        let text = form(n, -6, 21);
        // JSON drops the zero in front of a one-digit exponent: 1e-07 is 1e-7.
        match text.split_once("e-0") {
            Some((digits, exponent)) => format!("{digits}e-{exponent}"),
            None => text,
        }
    })
}

fn form(n: f64, least: i32, limit: i32) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{n:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n != 0.0 && (exponent < least || exponent >= limit) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_go() {
        for (n, text, json) in [
            (1.0, "1", "1"),
            (-0.0, "-0", "-0"),
            (2.5, "2.5", "2.5"),
            (1e6, "1e+06", "1000000"),
            (31744.0, "31744", "31744"),
            (6.6571993088e10, "6.6571993088e+10", "66571993088"),
            (3.3567184720217515e-05, "3.3567184720217515e-05", "0.000033567184720217515"),
            (1e-7, "1e-07", "1e-7"),
            (1e21, "1e+21", "1e+21"),
            (0.0001, "0.0001", "0.0001"),
        ] {
            assert_eq!((go_text(n), json_text(n)), (text.to_owned(), Some(json.to_owned())));
        }
        assert_eq!((go_text(f64::INFINITY), json_text(f64::NAN)), ("+Inf".to_owned(), None));
    }
}
