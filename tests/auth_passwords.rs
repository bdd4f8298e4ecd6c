//! pool_passwd: nothing in it is too strange, and what is written properly is read as meant (auth 4).

use pgpool::auth::passwords::{Entry, Table};
use proptest::prelude::*;

fn escaped(text: &[u8]) -> Vec<u8> {
    text.iter().flat_map(|byte| if matches!(byte, b':' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] }).collect()
}

/// Any bytes that a line can hold.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b':'), Just(b'\\'), any::<u8>()].prop_filter("one line", |byte| *byte != b'\n');
    prop::collection::vec(byte, 1..20)
}

proptest! {
    #[test]
    fn escaped_entries_are_read_as_meant(lines in prop::collection::vec((word(), word()), 1..10)) {
        let mut content = Vec::new();
        for (user, password) in &lines {
            content.extend(escaped(user));
            content.push(b':');
            content.extend(escaped(password));
            content.push(b'\n');
        }
        let table = Table::parse(&content);
        for (user, _) in &lines {
            let first = lines.iter().find(|(other, _)| other == user).map(|(_, password)| password.as_slice());
            prop_assert_eq!(table.get(user).map(|text| text.bytes()), first);
        }
    }

    #[test]
    fn garbage_is_read_without_harm(content in prop::collection::vec(prop_oneof![Just(b':'), Just(b'\n'), Just(b'\\'), any::<u8>()], 0..200)) {
        let table = Table::parse(&content);
        prop_assert!(table.len() <= content.split(|byte| *byte == b'\n').count());
    }

    #[test]
    fn no_text_is_too_strange_for_an_entry(prefix in "(|AES|md5|TEXT|SCRAM-SHA-256\\$)", rest in prop::collection::vec(any::<u8>(), 0..60)) {
        let text = [prefix.as_bytes(), &rest].concat();
        let entry = Entry::new(&text, |_| None);
        prop_assert!(entry.is_there());
        // Whatever it is, the empty password is not right.
        prop_assert!(entry.is_of(b"", b"u") != Some(true));
    }
}
