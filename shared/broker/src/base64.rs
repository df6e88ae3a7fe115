//! Base64 with padding (RFC 4648): as Go writes bytes in JSON, and as NATS writes object names.

/// Reads the standard alphabet (section 4).
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let length = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        let mut bits: u32 = 0;
        for place in 0..4 {
            let value = match group.get(place) {
                None => 0,
                Some(digit @ b'A'..=b'Z') => digit - b'A',
                Some(digit @ b'a'..=b'z') => digit - b'a' + 26,
                Some(digit @ b'0'..=b'9') => digit - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = (bits << 6) | u32::from(value);
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=length]);
    }
    Some(bytes)
}

/// Writes the URL-safe alphabet (section 5).
pub(crate) fn encode_url_safe(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("Zg==", "f"),
        ("Zm8=", "fo"),
        ("Zm9v", "foo"),
        ("Zm9vYg==", "foob"),
        ("Zm9vYmE=", "fooba"),
        ("Zm9vYmFy", "foobar"),
    ];

    #[test]
    fn the_test_vectors_of_the_specification_hold() {
        for (text, bytes) in VECTORS {
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()), "{text}");
            assert_eq!(encode_url_safe(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_alphabets_differ_in_two_digits() {
        assert_eq!(decode("+/8="), Some(vec![0xfb, 0xff]));
        assert_eq!(encode_url_safe(&[0xfb, 0xff]), "-_8=");
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        assert_eq!(decode("Z"), None);
        assert_eq!(decode("Z!=="), None);
    }
}
