//! What a client that has logged in sends: frames of any content, or something that is none. The session answers, closes its channel
//! or its connection; it never panics, and the broker goes on for others.
//!
//! An input is a row of pieces: an octet that says what it is, its length in two octets, and its content.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../broker/tests/virtual_broker/mod.rs"]
mod virtual_broker;

use virtual_broker::{Wire, World};

/// What earlier inputs have declared stays for so many.
const INPUTS_PER_WORLD: u32 = 200;
const FRAME_END: u8 = 0xCE;

thread_local! {
    static WORLD: RefCell<(Option<World>, u32)> = const { RefCell::new((None, 0)) };
}

fuzz_target!(|input: &[u8]| {
    WORLD.with_borrow_mut(|(world, used)| {
        if *used % INPUTS_PER_WORLD == 0 {
            *world = Some(World::new(World::config(), World::options()));
        }
        *used += 1;
        let world = world.as_mut().unwrap();
        let mut wires = [Wire::connected(world), Wire::connected(world)];
        let mut rest = input;
        while let [kind, high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
            let (content, after) = tail.split_at(length);
            rest = after;
            let wire = &mut wires[usize::from(kind >> 7)];
            match kind & 0x0f {
                // No frame at all.
                0 => wire.send(content),
                // Heartbeats and kinds that do not exist, and otherwise methods, headers and bodies of channels 0 to 3.
                piece @ 1..=8 => wire.send(&frame(piece, (kind >> 4) & 3, content)),
                // What is sent so far has its effects first.
                9..=11 => world.settle(&mut wires),
                _ => {
                    world.settle(&mut wires);
                    world.commit(true);
                }
            }
        }
        world.settle(&mut wires);
        world.commit(true);
        world.settle(&mut wires);
        // Whoever comes next is served.
        let mut other = Wire::connected(world);
        other.command(world, "queue.declare still-here");
    });
});

fn frame(kind: u8, channel: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, channel];
    frame.extend((content.len() as u32).to_be_bytes());
    frame.extend(content);
    frame.push(FRAME_END);
    frame
}
