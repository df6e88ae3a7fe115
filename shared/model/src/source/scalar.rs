//! Plain scalars of YAML, by the core schema of version 1.2 (section 10.3.2).

use serde_json::Number;

use super::Content;

/// What a plain scalar is; an error says why JSON has no such value.
pub(super) fn resolve(text: &str) -> Result<Content, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Ok(Content::Null),
        "true" | "True" | "TRUE" => Ok(Content::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Content::Bool(false)),
        _ => match number(text)? {
            Some(number) => Ok(Content::Number(number)),
            None => Ok(Content::String(text.to_owned())),
        },
    }
}

fn number(text: &str) -> Result<Option<Number>, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} is no number that JSON has"));
    }
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            let value = u64::from_str_radix(digits, radix).map_err(|_| format!("the number {text} is too large"))?;
            return Ok(Some(Number::from(value)));
        }
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !is_decimal(unsigned) {
        return Ok(None);
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Ok(value) = digits.parse::<i64>() {
        return Ok(Some(Number::from(value)));
    }
    if let Ok(value) = digits.parse::<u64>() {
        return Ok(Some(Number::from(value)));
    }
    let value = digits.parse::<f64>().ok().and_then(Number::from_f64);
    value.map(Some).ok_or_else(|| format!("the number {text} is too large"))
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_has_digits = !whole.is_empty() || (mantissa.contains('.') && !fraction.is_empty());
    digits(whole) && digits(fraction) && mantissa_has_digits && exponent.is_none_or(|e| !e.is_empty() && digits(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match resolve(text) {
            Ok(Content::Null) => "null".to_owned(),
            Ok(Content::Bool(value)) => value.to_string(),
            Ok(Content::Number(number)) => number.to_string(),
            Ok(Content::String(text)) => format!("{text:?}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => error,
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn words_of_other_yaml_versions_are_strings() {
        for word in
            ["on", "off", "yes", "No", "y", "1_000", "12:30", "2026-11-20", "0b1", "1.0.0", "e3", ".", "-", "0x"]
        {
            check(word, &format!("{word:?}"));
        }
    }

    #[test]
    fn numbers_are_those_of_the_core_schema() {
        check("12", "12");
        check("+12", "12");
        check("-0", "0");
        check("007", "7");
        check("0o17", "15");
        check("0xfF", "255");
        check("1.", "1.0");
        check(".5", "0.5");
        check("-1.5e-3", "-0.0015");
        check("18446744073709551615", "18446744073709551615");
        check("18446744073709551616", "1.8446744073709552e+19");
    }

    #[test]
    fn numbers_that_json_lacks_are_refused() {
        check("1e999", "the number 1e999 is too large");
        check("0xffffffffffffffffff", "the number 0xffffffffffffffffff is too large");
        check("-.inf", "-.inf is no number that JSON has");
        check(".nan", ".nan is no number that JSON has");
    }

    #[test]
    fn null_and_booleans_have_three_spellings() {
        check("", "null");
        check("~", "null");
        check("NULL", "null");
        check("True", "true");
        check("FALSE", "false");
        check("nUll", "\"nUll\"");
    }
}
