//! Tests of flows whose earlier messages wait at another process.

use super::*;

fn queue_beside_others() -> DeliveryQueue {
    DeliveryQueue::new(OWN.into(), QueueLimits::default(), RetryRule { waits_for_others: true, ..rule() })
}

/// A queue that posts flow 1 from memory, up to the message 5.
fn in_memory() -> DeliveryQueue {
    let mut queue = queue_beside_others();
    queue.deliver(vec![item(1, 5, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [], "others may have earlier messages");
    queue.next_load(secs(0)).unwrap();
    assert!(!queue.loaded(1, loaded(vec![item(1, 5, 0)], true), secs(0)));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 5)]);
    let delivered = queue.was_posted(1, secs(0)).unwrap();
    queue.flushed(&[delivered], secs(0));
    queue
}

#[test]
fn first_message_of_all_needs_no_load() {
    let mut queue = queue_beside_others();
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 1)]);
}

#[test]
fn consecutive_messages_need_no_load() {
    let mut queue = in_memory();
    queue.deliver(vec![item(1, 6, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 6)]);
}

#[test]
fn gap_makes_the_flow_wait_for_others() {
    let mut queue = in_memory();
    queue.deliver(vec![item(1, 7, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [], "another process has numbered message 6");
    queue.next_load(secs(0)).unwrap();
    let behind = || LoadedFlow { is_behind: true, ..loaded(vec![item(1, 7, 0)], true) };
    assert!(queue.loaded(1, behind(), secs(0)), "said once");
    assert_eq!((numbers(&mut queue, secs(0)), queue.next_load(secs(0))), (vec![], None));
    assert_eq!(queue.next_wake(), Some(LOAD_DELAY));
    assert_eq!(queue.next_load(LOAD_DELAY).map(|order| order.max_messages), Some(1));
    assert!(!queue.loaded(1, behind(), LOAD_DELAY));
    let later = 2 * LOAD_DELAY;
    queue.next_load(later).unwrap();
    queue.loaded(1, loaded(vec![item(1, 7, 0)], true), later);
    assert_eq!(numbers(&mut queue, later), [(1, 7)]);
}

#[test]
fn earlier_messages_in_memory_are_posted_first() {
    let mut queue = in_memory();
    queue.deliver(vec![item(1, 6, 0), item(1, 8, 0)], secs(0));
    let order = queue.next_load(secs(0)).unwrap();
    assert_eq!(order.after, Some(6));
    queue.loaded(1, LoadedFlow { is_behind: true, ..loaded(vec![item(1, 8, 0)], true) }, secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 6)]);
    let delivered = queue.was_posted(1, secs(0)).unwrap();
    assert_eq!((numbers(&mut queue, secs(0)), queue.next_load(secs(0))), (vec![], None));
    queue.flushed(&[delivered], secs(0));
    assert_eq!(queue.next_load(secs(0)).map(|order| order.after), Some(None));
}
