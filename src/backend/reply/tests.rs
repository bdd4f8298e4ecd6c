use super::Awaited::*;
use super::*;

fn queue(sent: &[Awaited]) -> ReplyQueue {
    let mut queue = ReplyQueue::default();
    sent.iter().for_each(|awaited| assert!(queue.sent(*awaited, Deliver::Client)));
    queue
}

fn feed(queue: &mut ReplyQueue, kinds: &[u8]) {
    for kind in kinds {
        assert!(queue.received(*kind).is_ok_and(|step| step.deliver), "{:?}", *kind as char);
    }
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let mut queue = queue(&[Parse, Bind, Describe, Execute, Close, Sync, Query]);
    feed(&mut queue, b"12TDDC3ZTDCZ");
    assert!(queue.is_settled());
}

#[test]
fn an_error_drops_the_answers_up_to_sync() {
    let mut queue = queue(&[Parse, Bind, Execute, Parse, Execute, Sync, Parse, Sync]);
    feed(&mut queue, b"12EZ1Z");
    assert!(queue.is_settled());
}

#[test]
fn after_an_error_nothing_counts_until_sync_is_sent() {
    let mut queue = queue(&[Parse]);
    feed(&mut queue, b"E");
    assert!(queue.is_empty() && !queue.is_settled());
    queue.sent(Bind, Deliver::Client);
    queue.sent(Query, Deliver::Client);
    assert!(queue.is_empty());
    queue.sent(Sync, Deliver::Client);
    feed(&mut queue, b"Z");
    assert!(queue.is_settled());
}

#[test]
fn syncs_sent_before_and_during_copy_in_are_not_answered() {
    let mut queue = queue(&[Bind, Execute, Sync]);
    feed(&mut queue, b"2G");
    queue.sent(Sync, Deliver::Client);
    queue.copy_in_ended();
    queue.sent(Sync, Deliver::Client);
    feed(&mut queue, b"CZ");
    assert!(queue.is_settled());
}

#[test]
fn copy_data_may_be_sent_ahead() {
    // Extended: everything in one write.
    let mut ahead = queue(&[Parse, Bind, Execute]);
    ahead.copy_in_ended();
    ahead.sent(Sync, Deliver::Client);
    feed(&mut ahead, b"12GCZ");
    assert!(ahead.is_settled());
    // Simple: a Sync in front of the data's end is ignored, one behind it is answered.
    let mut ahead = queue(&[Query, Sync]);
    ahead.copy_in_ended();
    ahead.sent(Sync, Deliver::Client);
    feed(&mut ahead, b"GCZZ");
    assert!(ahead.is_settled());
    // The statement fails before it asks for data.
    let mut ahead = queue(&[Query]);
    ahead.copy_in_ended();
    ahead.sent(Query, Deliver::Client);
    feed(&mut ahead, b"EZTCZ");
    assert!(ahead.is_settled());
}

#[test]
fn a_flush_makes_the_server_answer() {
    let mut queue = queue(&[Parse, Describe]);
    assert!(!queue.will_answer() && !queue.is_working());
    queue.flush_sent();
    assert!(queue.will_answer());
    queue.sent(Bind, Deliver::Client);
    assert!(!queue.will_answer() && queue.is_working());
    feed(&mut queue, b"1n");
    assert!(!queue.is_working());
    queue.sent(Sync, Deliver::Client);
    queue.sent(Parse, Deliver::Client);
    assert!(!queue.will_answer() && queue.is_working());
}

#[test]
fn messages_are_numbered() {
    let mut queue = queue(&[Parse, Execute]);
    let execute = queue.last_number();
    queue.sent(Sync, Deliver::Client);
    assert_eq!(queue.received(b'1').map(|step| step.number), Ok(execute - 1));
    assert_eq!(queue.received(b'E').map(|step| (step.number, step.failed)), Ok((execute, 1)));
    feed(&mut queue, b"Z");
}

#[test]
fn a_failing_copy_in_skips_to_the_sync_behind_it() {
    let mut queue = queue(&[Execute]);
    feed(&mut queue, b"GE");
    queue.copy_in_ended();
    queue.sent(Sync, Deliver::Client);
    feed(&mut queue, b"Z");
    assert!(queue.is_settled());
}

#[test]
fn our_own_messages_stay_hidden_except_for_their_errors() {
    let mut queue = ReplyQueue::default();
    queue.sent(Parse, Deliver::Nobody);
    queue.sent(Bind, Deliver::Client);
    assert_eq!(queue.received(b'1').map(|step| (step.deliver, step.finished)), Ok((false, Some(Parse))));
    feed(&mut queue, b"2");
    queue.sent(Query, Deliver::Silent);
    assert_eq!(queue.received(b'E').map(|step| (step.deliver, step.failed)), Ok((false, 1)));
    assert_eq!(queue.received(b'Z').map(|step| (step.deliver, step.finished)), Ok((false, Some(Query))));
}

#[test]
fn what_no_rule_allows_is_an_error() {
    assert_eq!(queue(&[Query]).received(b'1'), Err(Unexpected { kind: b'1', awaited: Some(Query) }));
    assert_eq!(queue(&[]).received(b'Z'), Err(Unexpected { kind: b'Z', awaited: None }));
    assert_eq!(queue(&[]).received(b'E').map(|step| step.deliver), Ok(true));
    assert_eq!(queue(&[Parse]).received(b'Z'), Err(Unexpected { kind: b'Z', awaited: Some(Parse) }));
}
