//! Golden scripts for sessions: every file in `scripts/session` tells one story, named by what happens; a file that
//! shows a row of the error catalogue begins with its number.
//!
//! A script is a list of blocks: commands, a line of dashes, what the clients read (decoded by amq-protocol), an empty
//! line. There is no socket, no thread and no clock: the store commits when the script says so, and time passes when it
//! says so. `UPDATE_SCRIPTS=1` writes the answers anew, for a person to read before committing them.
//!
//! A client's line begins with its channel: `1 queue.declare q durable` comes from the connection without a name,
//! `b.1 ...` from the connection `b`. A connection that is not there yet connects as guest and opens channel 1, of which
//! nothing is shown. `& ` in front of a line sends it in one piece with the next.
//!
//! ```text
//! 1 publish EXCHANGE KEY BODY [persistent] [mandatory] [expiration=5] ...    x*1000 is a body of a thousand x
//! 1 qos N [global] | consume QUEUE TAG [no_ack] | get QUEUE | ack N [multiple] | nack N [requeue] | recover [requeue] ...
//! 1 queue.declare QUEUE [durable] [x-max-length=5] ... and so on for all classes, with the specification's names
//! 0 raw HEX | frame TYPE HEX | method CLASS METHOD HEX | protocol-header
//!
//! broker [max_message_size=N] [pending_bytes_max=N] ...    the first line, for other settings
//! accept NAME                              a client that says nothing yet
//! connect [name=NAME] [user=..] [heartbeat=..] [no_capabilities] ...
//! cut | stop-reading | read [name=NAME]    the line is cut; the client reads nothing for a while
//! hold-loads | load                        paged messages are not read for a while | are read
//! commit [lazily] | fail-syncs | crash [power] | advance 30s | alarm [memory] [disk] | status
//! deliver-due 30s (delayed messages that are due by then)
//! policy NAME PATTERN KEY=VALUE ... [priority=N] [apply-to=exchanges] [operator] | clear-policy NAME [operator]
//! vhost-limits max-queues=N ... | user-limits NAME max-channels=N ... | in-force QUEUE (what its policies come to)
//! redeclare-rule strict | warn | adopt (of the virtual host)
//! user NAME PASSWORD CONFIGURE WRITE READ [tags=A,B] | delete-user NAME | add-vhost NAME | close-connections "REASON"
//! ```
//!
//! Names that the broker makes up are shown as `$queue1`, `$tag1`, `$reply1`, and may be used so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a script that cannot be replayed fails its test"
)]

mod session_language;
mod virtual_broker;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn every_session_script_is_answered_as_it_tells() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/session");
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let script = fs::read_to_string(&path).unwrap();
        match catch_unwind(|| session_language::replay(&script)) {
            Ok(replayed) if update => fs::write(&path, &replayed).unwrap(),
            Ok(replayed) if script == replayed => {}
            Ok(replayed) => wrong.push(format!("{} differs; it should be:\n\n{replayed}", path.display())),
            Err(_) => wrong.push(format!(
                "{} cannot be replayed; the reason stands above",
                path.display()
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
