//! Kubernetes' quantities: `500m`, `2Gi`, `1e3`.

/// Returns thousandths of the unit, rounded up.
pub(crate) fn millis(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = factor_in_millis(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u128.pow(fraction.len().try_into().ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let total = whole.checked_mul(scale)?.checked_add(fraction)?.checked_mul(factor)?;
    total.div_ceil(scale).try_into().ok()
}

/// Returns whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<u64> {
    millis(text).map(|millis| millis.div_ceil(1000))
}

/// Writes bytes in the largest unit that leaves nothing over.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let (mut number, mut unit) = (bytes, 0);
    while number > 0 && number % 1024 == 0 && unit + 1 < units.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number}{}", units[unit])
}

fn factor_in_millis(suffix: &str) -> Option<u128> {
    let power = |base: u128, exponent: u32| Some(1000 * base.pow(exponent));
    match suffix {
        "m" => Some(1),
        "" => Some(1000),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        _ => {
            let exponent: u32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (exponent <= 15).then(|| 1000 * 10_u128.pow(exponent))
        }
    }
}

/// Text as a fuzzer writes it: what is read is the same however it is written.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let Some((millis, units)) = millis(text).zip(units(text)) else { return };
    assert_eq!(millis.div_ceil(1000), units);
    assert_eq!(self::units(&bytes(units)), (units <= u64::MAX / 1000).then_some(units));
    assert_eq!(self::millis(&format!("{millis}m")), Some(millis));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_kubernetes_does() {
        let all = [(0, "0"), (1000, "1000"), (1024, "1Ki"), (3 << 29, "1536Mi"), (2 << 30, "2Gi")];
        all.iter().for_each(|(number, text)| assert_eq!(bytes(*number), *text));
    }

    #[test]
    fn quantities_are_read_as_kubernetes_does() {
        for (text, expected) in [
            ("500m", 500),
            ("2", 2000),
            ("0.5", 500),
            (".5", 500),
            ("1.0005", 1001),
            ("1k", 1_000_000),
            ("1Ki", 1_024_000),
            ("2Gi", 2_147_483_648_000),
            ("1e3", 1_000_000),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for bad in ["", "x", "-1", "1.5.5", "1Qi", "m", "99999999999999999999P"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }
}
