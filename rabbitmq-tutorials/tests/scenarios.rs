//! Runs every tutorial for real, as the processes a reader of the tutorials would start, and checks what each receiver got.

#![allow(clippy::unwrap_used, reason = "test code, also outside of test functions")]

mod program;

use program::Scenario;

const SEND: &str = env!("CARGO_BIN_EXE_send");
const RECEIVE: &str = env!("CARGO_BIN_EXE_receive");
const NEW_TASK: &str = env!("CARGO_BIN_EXE_new_task");
const WORKER: &str = env!("CARGO_BIN_EXE_worker");
const EMIT_LOG: &str = env!("CARGO_BIN_EXE_emit_log");
const RECEIVE_LOGS: &str = env!("CARGO_BIN_EXE_receive_logs");
const EMIT_LOG_DIRECT: &str = env!("CARGO_BIN_EXE_emit_log_direct");
const RECEIVE_LOGS_DIRECT: &str = env!("CARGO_BIN_EXE_receive_logs_direct");
const EMIT_LOG_TOPIC: &str = env!("CARGO_BIN_EXE_emit_log_topic");
const RECEIVE_LOGS_TOPIC: &str = env!("CARGO_BIN_EXE_receive_logs_topic");
const RPC_SERVER: &str = env!("CARGO_BIN_EXE_rpc_server");
const RPC_CLIENT: &str = env!("CARGO_BIN_EXE_rpc_client");

const WAITING_FOR_MESSAGES: &str = " [*] Waiting for messages. To exit press CTRL+C";
const WAITING_FOR_LOGS: &str = " [*] Waiting for logs. To exit press CTRL+C";
const AWAITING_REQUESTS: &str = " [x] Awaiting RPC requests";

/// Seconds per dot of a worker that will not finish while the test runs.
const NEVER: &str = "100000";
const AT_ONCE: &str = "0";

#[test]
fn hello_world_reaches_a_receiver_started_before_or_after_the_sender() {
    let scenario = Scenario::start();
    assert_eq!(scenario.run(SEND, &[]), [" [x] Sent 'Hello World!'"]);

    let receiver = scenario.start_receiver(RECEIVE, &[], WAITING_FOR_MESSAGES);
    receiver.expect(&[" [x] Received 'Hello World!'"]);

    scenario.run(SEND, &[]);
    receiver.expect(&[" [x] Received 'Hello World!'", " [x] Received 'Hello World!'"]);
}

#[test]
fn a_busy_worker_gets_no_second_task_while_another_is_free() {
    let scenario = Scenario::start();
    let slow = scenario.start_receiver(WORKER, &[NEVER], WAITING_FOR_MESSAGES);
    scenario.run(NEW_TASK, &["long", "task."]);
    slow.expect(&[" [x] Received 'long task.'"]);

    let fast = scenario.start_receiver(WORKER, &[AT_ONCE], WAITING_FOR_MESSAGES);
    let mut expected = Vec::new();
    for number in 1..=6 {
        let task = format!("task {number}.");
        assert_eq!(scenario.run(NEW_TASK, &[&task]), [format!(" [x] Sent '{task}'")]);
        expected.push(format!(" [x] Received '{task}'"));
        expected.push(" [x] Done".to_owned());
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    fast.expect(&expected);
    assert_eq!(slow.printed(), [" [x] Received 'long task.'"]);

    // Leaves nothing behind on a broker that outlives the test.
    slow.kill();
    fast.wait_for(|lines| lines.len() == expected.len() + 3);
}

#[test]
fn the_task_of_a_killed_worker_goes_to_another() {
    let scenario = Scenario::start();
    let victim = scenario.start_receiver(WORKER, &[NEVER], WAITING_FOR_MESSAGES);
    scenario.run(NEW_TASK, &["precious", "task."]);
    victim.expect(&[" [x] Received 'precious task.'"]);

    let heir = scenario.start_receiver(WORKER, &[AT_ONCE], WAITING_FOR_MESSAGES);
    scenario.run(NEW_TASK, &["another", "task."]);
    heir.expect(&[" [x] Received 'another task.'", " [x] Done"]);

    victim.kill();
    heir.expect(&[
        " [x] Received 'another task.'",
        " [x] Done",
        " [x] Received 'precious task.'",
        " [x] Done",
    ]);
}

#[test]
fn every_subscriber_gets_every_log_line_sent_while_it_listens() {
    let scenario = Scenario::start();
    scenario.run(EMIT_LOG, &["info: nobody listens yet"]);

    let first = scenario.start_receiver(RECEIVE_LOGS, &[], WAITING_FOR_LOGS);
    assert_eq!(scenario.run(EMIT_LOG, &[]), [" [x] Sent 'info: Hello World!'"]);
    let second = scenario.start_receiver(RECEIVE_LOGS, &[], WAITING_FOR_LOGS);
    scenario.run(EMIT_LOG, &["warning:", "two", "listeners"]);

    first.expect(&[
        " [x] Received 'info: Hello World!'",
        " [x] Received 'warning: two listeners'",
    ]);
    second.expect(&[" [x] Received 'warning: two listeners'"]);
}

#[test]
fn routing_gives_each_receiver_the_severities_it_asked_for() {
    let scenario = Scenario::start();
    let errors = scenario.start_receiver(RECEIVE_LOGS_DIRECT, &["error"], WAITING_FOR_LOGS);
    let all = scenario.start_receiver(RECEIVE_LOGS_DIRECT, &["info", "warning", "error"], WAITING_FOR_LOGS);

    assert_eq!(scenario.run(EMIT_LOG_DIRECT, &[]), [" [x] Sent 'info':'Hello World!'"]);
    scenario.run(EMIT_LOG_DIRECT, &["warning", "getting", "full"]);
    scenario.run(EMIT_LOG_DIRECT, &["debug", "nobody", "asked"]);
    scenario.run(EMIT_LOG_DIRECT, &["error", "disk", "full"]);

    all.expect(&[
        " [x] Received 'info':'Hello World!'",
        " [x] Received 'warning':'getting full'",
        " [x] Received 'error':'disk full'",
    ]);
    errors.expect(&[" [x] Received 'error':'disk full'"]);
}

#[test]
fn topics_give_each_receiver_what_its_patterns_match() {
    let scenario = Scenario::start();
    let everything = scenario.start_receiver(RECEIVE_LOGS_TOPIC, &["#"], WAITING_FOR_LOGS);
    let kernel = scenario.start_receiver(RECEIVE_LOGS_TOPIC, &["kern.*"], WAITING_FOR_LOGS);
    let critical = scenario.start_receiver(RECEIVE_LOGS_TOPIC, &["*.critical"], WAITING_FOR_LOGS);
    let both = scenario.start_receiver(RECEIVE_LOGS_TOPIC, &["kern.*", "*.critical"], WAITING_FOR_LOGS);
    let deep = scenario.start_receiver(RECEIVE_LOGS_TOPIC, &["kern.#"], WAITING_FOR_LOGS);

    scenario.run(EMIT_LOG_TOPIC, &["kern.info", "one"]);
    scenario.run(EMIT_LOG_TOPIC, &["cron.critical", "two"]);
    scenario.run(EMIT_LOG_TOPIC, &["kern.disk.critical", "three"]);
    scenario.run(EMIT_LOG_TOPIC, &["kern", "four"]);
    assert_eq!(
        scenario.run(EMIT_LOG_TOPIC, &["kern.critical", "A", "critical", "kernel", "error"]),
        [" [x] Sent 'kern.critical':'A critical kernel error'"]
    );

    let one = " [x] Received 'kern.info':'one'";
    let two = " [x] Received 'cron.critical':'two'";
    let three = " [x] Received 'kern.disk.critical':'three'";
    let four = " [x] Received 'kern':'four'";
    let last = " [x] Received 'kern.critical':'A critical kernel error'";
    everything.expect(&[one, two, three, four, last]);
    kernel.expect(&[one, last]);
    critical.expect(&[two, last]);
    both.expect(&[one, two, last]);
    deep.expect(&[one, three, four, last]);
}

#[test]
fn several_callers_at_once_get_the_answers_to_their_own_requests() {
    let scenario = Scenario::start();
    let servers = [0, 1].map(|_| scenario.start_receiver(RPC_SERVER, &[], AWAITING_REQUESTS));

    // Every caller begins with its largest number, so that the later answers of the other server overtake it.
    let calls = [["24", "5", "6", "7"], ["23", "10", "11", "12"], ["22", "0", "1", "2"]];
    let answers = [
        ["46368", "5", "8", "13"],
        ["28657", "55", "89", "144"],
        ["17711", "0", "1", "1"],
    ];
    let clients: Vec<_> = calls
        .iter()
        .map(|numbers| scenario.spawn(RPC_CLIENT, numbers))
        .collect();

    for ((client, numbers), answers) in clients.into_iter().zip(calls).zip(answers) {
        let requests = numbers.iter().map(|number| format!(" [x] Requesting fib({number})"));
        let responses = answers.iter().map(|answer| format!(" [.] Got '{answer}'"));
        assert_eq!(client.finish(), requests.chain(responses).collect::<Vec<_>>());
    }

    let mut served: Vec<String> = servers.iter().flat_map(|server| server.printed()).collect();
    let mut requested: Vec<String> = calls
        .iter()
        .flatten()
        .map(|number| format!(" [.] fib({number})"))
        .collect();
    served.sort();
    requested.sort();
    assert_eq!(served, requested);
    for server in &servers {
        assert!(!server.printed().is_empty(), "each server takes its share");
    }
}

#[test]
fn the_rpc_client_asks_for_fib_of_30_by_default() {
    let scenario = Scenario::start();
    let server = scenario.start_receiver(RPC_SERVER, &[], AWAITING_REQUESTS);
    assert_eq!(
        scenario.run(RPC_CLIENT, &[]),
        [" [x] Requesting fib(30)", " [.] Got '832040'"]
    );
    server.expect(&[" [.] fib(30)"]);
}
