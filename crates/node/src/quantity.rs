//! Kubernetes quantities (`500m`, `64Mi`, `1e3`) as whole numbers, rounded up as Kubernetes does. Pure; it never guesses
//! at a text it cannot read.

/// The value of `text` in thousandths, or `None` where it is not a quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (mantissa, scale) = decimal(number)?;
    // value = mantissa / 10^scale * factor; kept exact until the last division.
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    };
    let over = mantissa.checked_mul(numerator)?.checked_mul(1000)?;
    let under = denominator.checked_mul(10i128.checked_pow(scale)?)?;
    Some(ceil(over, under))
}

/// The value rounded up to whole units.
pub(crate) fn whole(text: &str) -> Option<i128> {
    milli(text).map(|value| ceil(value, 1000))
}

fn decimal(number: &str) -> Option<(i128, u32)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.trim_start_matches(['+', '-']).is_empty() && fraction.is_empty() {
        return None;
    }
    let joined = format!("{whole}{fraction}");
    Some((joined.parse().ok()?, u32::try_from(fraction.len()).ok()?))
}

fn ceil(over: i128, under: i128) -> i128 {
    let quotient = over / under;
    if over % under != 0 && (over > 0) == (under > 0) { quotient + 1 } else { quotient }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_reads() {
        for (text, want) in [
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("64Mi", 67_108_864_000),
            ("1e3", 1_000_000),
            ("2k", 2_000_000),
            ("100n", 1),
            (".5", 500),
        ] {
            assert_eq!(milli(text), Some(want), "{text}");
        }
        assert_eq!(whole("1500m"), Some(2));
        for bad in ["", "abc", "1Q", "--1", "."] {
            assert_eq!(milli(bad), None, "{bad}");
        }
    }
}
