//! Several texts as one sequence of bytes, for what is published: the length of each in front of it.

/// The parts as bytes.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    // At once as large as it will be: what grows leaves copies behind, and some of it is secret.
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| LENGTH + part.len()).sum());
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// The parts of what [`join`] has made. `None`: the bytes are something else.
pub fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        parts.push(part);
        bytes = rest;
    }
    Some(parts)
}

const LENGTH: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let parts: [&[u8]; 3] = [b"one", b"", b"three"];
        let bytes = join(&parts);
        assert_eq!(split(&bytes).as_deref(), Some(&parts[..]));
        assert_eq!(bytes.capacity(), bytes.len());
        assert!((1..bytes.len()).all(|end| split(&bytes[..end]).as_deref() != Some(&parts[..])));
        assert_eq!(split(&[255; 40]), None);
    }
}
