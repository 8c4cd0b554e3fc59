//! The ring against a model: a queue of messages and a count of bytes.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use idc::record::Kind;
use idc::ring::{Consumer, Producer, RingMemory};
use idc::setup::{PAGE_SIZE, control};
use idc::shm::Memory;
use proptest::collection::vec;
use proptest::prelude::*;

/// Words that two sides share.
#[derive(Clone, Debug)]
struct Words(Arc<[AtomicU64]>);

impl Words {
    fn pages(count: usize) -> Words {
        Words((0..count * PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Memory for Words {
    fn size(&self) -> usize {
        self.0.len() * 8
    }

    fn load(&self, offset: usize, order: Ordering) -> u64 {
        self.0[offset / 8].load(order)
    }

    fn store(&self, offset: usize, word: u64, order: Ordering) {
        self.0[offset / 8].store(word, order);
    }
}

fn ring(pages: usize) -> (Producer<Words>, Consumer<Words>, Words) {
    ring_of(pages, 0, 0)
}

/// With slots of so many bytes, and pool pages.
fn ring_of(pages: usize, slot: usize, pool: usize) -> (Producer<Words>, Consumer<Words>, Words) {
    let (writer, reader) = (Words::pages(pages + 1), Words::pages(1));
    let pool = (pool > 0).then(|| Words::pages(pool));
    let memory = || RingMemory {
        writer: writer.clone(),
        control: 0,
        data: PAGE_SIZE,
        capacity: pages * PAGE_SIZE,
        slot,
        reader: reader.clone(),
        pool: pool.clone(),
    };
    (Producer::new(memory()), Consumer::new(memory()), writer.clone())
}

#[derive(Clone, Debug)]
enum Op {
    /// A message of so many 10,000ths of the longest, with or without a prefix.
    Push(usize, bool),
    Flush,
    Pop,
    Publish,
    /// The writer asks for room for so much and goes to sleep.
    WriterSleeps(usize),
    ReaderSleeps,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (prop_oneof![0usize..=20, 0usize..=10_000], any::<bool>()).prop_map(|(len, p)| Op::Push(len, p)),
        2 => Just(Op::Flush),
        5 => Just(Op::Pop),
        2 => Just(Op::Publish),
        1 => (0usize..=10_000).prop_map(Op::WriterSleeps),
        1 => Just(Op::ReaderSleeps),
    ]
}

fn geometry() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        3 => (1usize..=3).prop_map(|pages| (pages, 0, 0)),
        1 => (1usize..=3, 1usize..=9).prop_map(|(pages, pool)| (pages, 0, pool)),
        1 => (0usize..3, 0usize..=9).prop_map(|(slots, pool)| (1, PAGE_SIZE / [8, 32, 128][slots], pool)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// What is pushed is popped, in order and unchanged; a push fails only when the ring is nearly full; and an
    /// event is owed exactly when the other side sleeps and its condition has come true.
    #[test]
    fn behaves_like_a_queue((pages, slot, pool) in geometry(), ops in vec(op(), 1..400)) {
        let (mut producer, mut consumer, _) = ring_of(pages, slot, pool);
        let capacity = pages * PAGE_SIZE;
        let longest = producer.max_payload();
        let mut queue: VecDeque<(bool, Vec<u8>)> = VecDeque::new();
        let mut seed = 0u8;
        // Who sleeps, and for how much room the writer waits.
        let (mut reader_sleeps, mut writer_sleeps) = (false, None);
        let (mut reader_arms, mut writer_arms, mut reader_events, mut writer_events) = (0, 0, 0, 0);
        for op in ops {
            match op {
                Op::Push(share, prefixed) if pool > 0 && share % 3 == 0 => {
                    let len = 1 + (producer.max_pooled() - 1) * share / 10_000;
                    let message: Vec<u8> = (0..len).map(|at| seed ^ (at as u8)).collect();
                    seed = seed.wrapping_add(41);
                    let prefix = prefixed.then_some(u64::from(seed) << 40 | 5);
                    let kind = if prefixed { Kind::First } else { Kind::Data };
                    if producer.try_push(kind, prefix, &message, true).unwrap() {
                        let word = prefix.map(u64::to_le_bytes).unwrap_or_default();
                        queue.push_back((prefixed, [&word[..if prefixed { 8 } else { 0 }], &message].concat()));
                    }
                }
                Op::Push(share, prefixed) => {
                    let room = longest - if prefixed { 8 } else { 0 };
                    let len = room * share / 10_000;
                    let message: Vec<u8> = (0..len).map(|at| seed ^ (at as u8)).collect();
                    seed = seed.wrapping_add(41);
                    let prefix = prefixed.then_some(u64::from(seed) << 40 | 5);
                    let kind = if prefixed { Kind::First } else { Kind::Data };
                    let free = producer.free().unwrap();
                    if producer.try_push(kind, prefix, &message, false).unwrap() {
                        queue.push_back((prefixed, [prefix.map(u64::to_le_bytes).unwrap_or_default()
                            [..if prefixed { 8 } else { 0 }].to_vec(), message].concat()));
                    } else {
                        // At most a filler, the record and the next header were lacking.
                        prop_assert!(free <= 2 * (longest + 24), "{free} bytes were free");
                    }
                }
                Op::Flush => {
                    let owed = producer.flush().unwrap();
                    if reader_sleeps && !queue.is_empty() {
                        prop_assert!(owed, "the reader would sleep for ever");
                        reader_sleeps = false;
                    }
                    reader_events += usize::from(owed);
                    prop_assert!(reader_events <= reader_arms, "a sleep costs one event at most");
                }
                Op::Pop => {
                    let found = consumer.peek().unwrap();
                    prop_assert_eq!(found.is_some(), !queue.is_empty());
                    if let (Some(record), Some((prefixed, message))) = (found, queue.pop_front()) {
                        prop_assert_eq!(record.kind, if prefixed { Kind::First } else { Kind::Data });
                        // In the pool the prefix is not part of the payload.
                        let message = if record.pooled && prefixed { &message[8..] } else { &message[..] };
                        prop_assert_eq!(record.len, message.len());
                        let mut copy = vec![0; record.len];
                        consumer.read(0, &mut copy);
                        prop_assert_eq!(&copy[..], message);
                        if prefixed {
                            prop_assert_eq!(consumer.first_word() & 0xff, 5);
                        }
                        consumer.pop();
                        reader_sleeps = false;
                    }
                }
                Op::Publish => {
                    let owed = consumer.publish().unwrap();
                    if let Some(len) = writer_sleeps && producer.has_room_for(len).unwrap() && queue.is_empty() {
                        // Everything has been given back, so the writer's condition is true, and was not before.
                        prop_assert!(owed, "the writer would sleep for ever");
                    }
                    if owed {
                        writer_sleeps = None;
                        writer_events += 1;
                    }
                    prop_assert!(writer_events <= writer_arms, "a sleep costs one event at most");
                }
                Op::WriterSleeps(share) => {
                    let len = longest * share / 10_000;
                    writer_arms += 1;
                    producer.arm(len);
                    writer_sleeps = (!producer.has_room_for(len).unwrap()).then_some(len);
                }
                Op::ReaderSleeps => {
                    // As before a sleep: everything is given back first.
                    if consumer.publish().unwrap() {
                        writer_sleeps = None;
                        writer_events += 1;
                    }
                    reader_arms += 1;
                    consumer.arm();
                    reader_sleeps = consumer.peek().unwrap().is_none();
                }
            }
            prop_assert!(producer.free().unwrap() <= capacity);
        }
        // Whatever happened: the rest comes out, and then the ring is empty and takes the longest message.
        while let Some((prefixed, message)) = queue.pop_front() {
            let record = consumer.peek().unwrap().expect("a message that was pushed");
            let prefix = if record.pooled && prefixed { 8 } else { 0 };
            prop_assert_eq!(record.len + prefix, message.len());
            consumer.pop();
        }
        prop_assert_eq!(consumer.peek().unwrap(), None);
        consumer.publish().unwrap();
        prop_assert!(producer.drained().unwrap());
        prop_assert!(producer.try_push(Kind::Data, None, &vec![1; longest], false).unwrap());
        if pool > 0 {
            let longest = producer.max_pooled();
            prop_assert!(producer.try_push(Kind::Data, None, &vec![1; longest], true).unwrap());
        }
    }

    /// Whatever a writer stores in its pages, the reader judges it or reads inside the ring; it never loops.
    #[test]
    fn any_data_is_judged(
        (pages, slot, pool) in geometry(),
        words in vec((0usize..512, plausible_header()), 1..40),
        rounds in 1usize..600,
    ) {
        let (_, mut consumer, writer) = ring_of(pages, slot, pool);
        for (at, word) in words {
            let start = if slot == 0 { PAGE_SIZE } else { control::SLOTS };
            let at = PAGE_SIZE.checked_div(slot).map_or(at, |slots| at % slots);
            writer.store(start + at * 8, word, Ordering::Relaxed);
        }
        for _ in 0..rounds {
            match consumer.peek() {
                Ok(Some(record)) => {
                    let mut copy = vec![0; record.len];
                    consumer.read(0, &mut copy);
                    consumer.pop();
                    let _ = consumer.publish();
                }
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fn plausible_header() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..5000, 0u64..8).prop_map(|(len, kind)| len | kind << 32),
        (0u64..40_000, 0u64..8).prop_map(|(len, kind)| len | kind << 32 | 1 << 40),
        (0u64..512).prop_map(|at| (4096 - at * 8 - 8) | 2 << 32),
    ]
}

#[test]
fn a_message_fits_at_every_offset() {
    for pages in [1, 2, 5, 64] {
        let (mut producer, mut consumer, _) = ring(pages);
        let longest = producer.max_payload();
        // Steps of eight bytes through the whole ring, with the longest message at each.
        for step in 0..pages * PAGE_SIZE / 8 {
            assert!(producer.try_push(Kind::Data, None, &[], false).unwrap(), "step {step}");
            assert!(producer.try_push(Kind::Data, None, &vec![7; longest], false).unwrap(), "step {step}");
            for len in [0, longest] {
                let record = consumer.peek().unwrap().expect("a message");
                assert_eq!(record.len, len);
                consumer.pop();
            }
            consumer.publish().unwrap();
            if pages == 64 && step > 2000 {
                break;
            }
        }
    }
}

#[test]
fn only_the_header_word_publishes() {
    let (mut producer, mut consumer, writer) = ring(1);
    assert_eq!(consumer.peek(), Ok(None));
    assert!(producer.try_push(Kind::Data, None, b"abc", false).unwrap());
    assert_eq!(writer.load(PAGE_SIZE, Ordering::Relaxed), 3 | 1 << 32);
    // The rest of the last word is zero, and so is the next header.
    assert_eq!(writer.load(PAGE_SIZE + 8, Ordering::Relaxed), u64::from_le_bytes(*b"abc\0\0\0\0\0"));
    assert_eq!(writer.load(PAGE_SIZE + 16, Ordering::Relaxed), 0);
    assert_eq!(consumer.peek().unwrap().unwrap().len, 3);
}

#[test]
fn a_header_is_loaded_once() {
    let (mut producer, mut consumer, writer) = ring(1);
    assert!(producer.try_push(Kind::Data, None, b"abc", false).unwrap());
    assert_eq!(consumer.peek().unwrap().unwrap().len, 3);
    // The peer changes its mind between the look and the copy.
    writer.store(PAGE_SIZE, 4000 | 1 << 32, Ordering::Relaxed);
    assert_eq!(consumer.peek().unwrap().unwrap().len, 3);
    consumer.pop();
    assert_eq!(consumer.peek(), Ok(None));
}

#[test]
fn a_sleeping_reader_costs_one_event() {
    let (mut producer, consumer, _) = ring(1);
    consumer.arm();
    assert!(producer.try_push(Kind::Data, None, b"1", false).unwrap());
    assert!(producer.try_push(Kind::Data, None, b"2", false).unwrap());
    assert!(producer.flush().unwrap());
    assert!(!producer.flush().unwrap());
    assert!(producer.try_push(Kind::Data, None, b"3", false).unwrap());
    assert!(!producer.flush().unwrap(), "the reader has been woken and has not slept again");
}
