//! Base64 as in pool_passwd and SCRAM: standard alphabet, padded, nothing else tolerated (auth 5.2).

/// Encodes.
pub fn encode(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes)
}

/// Decodes; `None` unless `text` is exactly what [`encode`] could have made, but for unused bits.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if !digits.iter().all(is_digit) {
        return None;
    }
    openssl::base64::decode_block(std::str::from_utf8(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_well_formed_is_decoded() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"\0\0", &[255; 100]] {
            assert_eq!(decode(encode(bytes).as_bytes()).as_deref(), Some(bytes));
        }
        for text in ["a", "ab", "abc", "ab=c", "====", "a===", "=abc", " YQ=", "YQ==\n", "YQ= =", "YW\0j", "YQ==YQ=="] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}
