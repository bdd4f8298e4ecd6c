//! A report as ErrorResponse or NoticeResponse (protocol 13.1, with a V field and without its length limit).

use super::{Report, Severity};

impl Report {
    /// Appends the report as one wire message: ErrorResponse from ERROR up, else NoticeResponse.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = if self.severity >= Severity::Error { b'E' } else { b'N' };
        out.push(kind);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut field = |tag: u8, text: &str| {
            out.push(tag);
            // A NUL would end the field early and desynchronise the client.
            out.extend(text.bytes().filter(|byte| *byte != 0));
            out.push(0);
        };
        field(b'S', self.severity.word());
        field(b'V', self.severity.word());
        field(b'C', self.code.as_str());
        field(b'M', &self.message);
        if let Some(detail) = &self.detail {
            field(b'D', detail);
        }
        if let Some(hint) = &self.hint {
            field(b'H', hint);
        }
        out.push(0);
        let length = u32::try_from(out.len() - length_at).unwrap_or(u32::MAX);
        out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Report, SqlState};

    #[test]
    fn error_response_has_the_fields_in_order_and_the_right_length() {
        let mut out = Vec::new();
        Report::fatal("m\0x").detail("d").hint("h").code(SqlState::ADMIN_SHUTDOWN).encode(&mut out);
        assert_eq!(&out[..5], &[b'E', 0, 0, 0, (out.len() - 1) as u8]);
        assert_eq!(&out[5..], b"SFATAL\0VFATAL\0C57P01\0Mmx\0Dd\0Hh\0\0");
    }

    #[test]
    fn below_error_it_is_a_notice() {
        let mut out = Vec::new();
        Report::warning("w").encode(&mut out);
        assert_eq!(out[0], b'N');
    }
}
