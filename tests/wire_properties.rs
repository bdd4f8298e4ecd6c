//! Properties of the wire decoder: no bytes make it panic or leave its input, and what is written is read back.

use pgpool::report::{Report, SqlState};
use pgpool::wire::backend::{self, Authentication, ErrorFields};
use pgpool::wire::frontend::{self, Object};
use pgpool::wire::startup::{self, Request};
use pgpool::wire::{Cursor, HEADER_LENGTH, Header, MAX_MESSAGE_LENGTH, TransactionStatus, write};
use proptest::prelude::*;

/// Whether `part` lies in `whole`: views must not show anything else.
fn lies_in(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty()
        || whole.as_ptr_range().start <= part.as_ptr() && part.as_ptr_range().end <= whole.as_ptr_range().end
}

/// Everything that a decoder finds in `content`, whichever message it is taken for.
fn views(content: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    found.extend(frontend::query(content));
    found.extend(frontend::execute(content));
    found.extend(frontend::parse(content).into_iter().flat_map(|parse| [parse.statement, parse.query]));
    found.extend(frontend::bind(content).into_iter().flat_map(|bind| [bind.portal, bind.statement]));
    if let Ok(Object::Statement(name) | Object::Portal(name)) = frontend::object(content, "Close") {
        found.push(name);
    }
    found.extend(backend::parameter_status(content).into_iter().flat_map(|(name, value)| [name, value]));
    found.extend(backend::backend_key_data(content).map(|(_, key)| key));
    if let Ok(Authentication::Method(_, rest)) = backend::authentication(content) {
        found.push(rest);
    }
    let fields = ErrorFields::new(content);
    found.extend((0..=u8::MAX).filter_map(|tag| fields.get(tag)));
    found.extend([fields.severity(), fields.code()]);
    match startup::read(content) {
        Ok(Request::Startup(startup)) => {
            found.extend(startup.parameters.iter().flat_map(|(name, value)| [*name, *value]));
            found.extend(startup.get("user"));
        }
        Ok(Request::Cancel { key, .. }) => found.push(key),
        _ => {}
    }
    found
}

/// Bytes in which messages are likely.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            &b"user\0u\0"[..],
            b"\0",
            b"\0\0\0\0",
            b"SFATAL\0",
            b"S\0\0\0\x04",
            b"P",
            b"\xff\xff\xff\xff"
        ])
        .prop_map(<[u8]>::to_vec),
        prop::sample::select(vec![
            196_608_u32,
            196_610,
            131_072,
            80_877_102,
            80_877_103,
            80_877_104,
            8,
            16,
            10_000,
            10_001
        ])
        .prop_map(|number| number.to_be_bytes().to_vec()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A text without zero, as names and values are.
fn text() -> impl Strategy<Value = String> {
    "[^\0]{1,20}"
}

/// The content of the one message in `bytes`.
fn content(bytes: &[u8], kind: u8) -> &[u8] {
    assert_eq!(Header::read(bytes, backend::name), Ok(Some(Header { kind, total: bytes.len() })));
    &bytes[HEADER_LENGTH..]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived_and_no_view_leaves_them(bytes in bytes()) {
        for view in views(&bytes) {
            prop_assert!(lies_in(view, &bytes));
        }
        let _ = (backend::ready_for_query(&bytes), ErrorFields::new(&bytes).message(), startup::length(&bytes));
        for names in [frontend::name, backend::name] {
            match Header::read(&bytes, names) {
                Ok(None) => prop_assert!(bytes.len() < HEADER_LENGTH),
                Ok(Some(header)) => {
                    prop_assert!((HEADER_LENGTH..=MAX_MESSAGE_LENGTH as usize + 1).contains(&header.total));
                    prop_assert_eq!(header.kind, bytes[0]);
                }
                Err(_) => prop_assert!(bytes.len() >= HEADER_LENGTH),
            }
        }
    }

    #[test]
    fn a_cursor_never_leaves_its_content(bytes in bytes(), steps in prop::collection::vec((0..5_u8, any::<usize>()), 0..20)) {
        let mut cursor = Cursor::new(&bytes);
        for (step, length) in steps {
            let before = cursor.rest().len();
            match step {
                0 => _ = cursor.u8(),
                1 => _ = cursor.u16(),
                2 => _ = cursor.u32(),
                3 => _ = cursor.text(),
                _ => _ = cursor.take(length % 40),
            }
            prop_assert!(cursor.rest().len() <= before && bytes.ends_with(cursor.rest()));
        }
        prop_assert!(cursor.take(usize::MAX).is_none());
    }

    #[test]
    fn startup_packets_are_read_back_in_one_order(pairs in prop::collection::vec((text(), text()), 0..10), minor in 0..3_u16) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut packet = Vec::new();
        write::startup(&mut packet, &pairs);
        prop_assert_eq!(startup::length(&packet), Ok(Some(packet.len())));
        let Ok(Request::Startup(startup)) = startup::read(&packet) else { panic!("not read: {packet:?}") };
        let written: Vec<_> = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        prop_assert_eq!(&startup.parameters, &written);
        let canonical = startup.canonical(minor);
        let Ok(Request::Startup(again)) = startup::read(&canonical) else { panic!("not read: {canonical:?}") };
        prop_assert!(again.minor == minor && again.parameters.is_sorted_by_key(|(name, _)| *name));
        prop_assert_eq!(again.canonical(minor), canonical);
    }

    #[test]
    fn cut_packets_are_no_packets(pairs in prop::collection::vec((text(), text()), 1..5), cut in 1..40_usize) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut packet = Vec::new();
        write::startup(&mut packet, &pairs);
        packet.truncate(packet.len() - cut.min(packet.len()));
        prop_assert!(startup::read(&packet).is_err());
    }

    #[test]
    fn cancel_requests_are_read_back(pid in any::<u32>(), key in prop::collection::vec(any::<u8>(), 1..257)) {
        let mut packet = Vec::new();
        write::cancel_request(&mut packet, pid, &key);
        prop_assert_eq!(startup::length(&packet), Ok(Some(packet.len())));
        prop_assert_eq!(startup::read(&packet), Ok(Request::Cancel { pid, key: &key }));
    }

    #[test]
    fn messages_are_read_back(name in text(), value in text(), pid in any::<u32>(), key in prop::collection::vec(any::<u8>(), 1..257)) {
        let write = |writer: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            writer(&mut bytes);
            bytes
        };
        let query = write(&|out| write::query(out, value.as_bytes()));
        prop_assert_eq!(frontend::query(content(&query, b'Q')), Ok(value.as_bytes()));
        let status = write(&|out| write::parameter_status(out, name.as_bytes(), value.as_bytes()));
        prop_assert_eq!(backend::parameter_status(content(&status, b'S')), Ok((name.as_bytes(), value.as_bytes())));
        let data = write(&|out| write::backend_key_data(out, pid, &key));
        prop_assert_eq!(backend::backend_key_data(content(&data, b'K')), Ok((pid, key.as_slice())));
        for status in [TransactionStatus::Idle, TransactionStatus::Open, TransactionStatus::Failed] {
            let ready = write(&|out| write::ready_for_query(out, status));
            prop_assert_eq!(backend::ready_for_query(content(&ready, b'Z')), Ok(status));
        }
        let error = write(&|out| Report::fatal(&value).detail(&name).code(SqlState::ADMIN_SHUTDOWN).encode(out));
        let fields = ErrorFields::new(content(&error, b'E'));
        prop_assert_eq!((fields.severity(), fields.code()), (&b"FATAL"[..], &b"57P01"[..]));
        prop_assert_eq!((fields.message(), fields.get(b'D')), (value, Some(name.as_bytes())));
    }
}
