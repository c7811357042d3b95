//! Bodies of every resource of the management API that takes one: an answer below 500, and an API that goes on.
//!
//! The first octet of an input chooses the resource.

#![no_main]

use std::cell::RefCell;

use leveret::management::{ROUTES, Route, Verb};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../broker/tests/management/api.rs"]
mod api;

use api::{Api, basic};

/// What earlier inputs have made stays for so many.
const INPUTS_PER_API: u32 = 2000;

thread_local! {
    static API: RefCell<(Option<Api>, u32)> = const { RefCell::new((None, 0)) };
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else {
        return;
    };
    let takes_body = |route: &&Route| [Verb::Put, Verb::Post].contains(&route.verb);
    let routes: Vec<&Route> = ROUTES.iter().filter(takes_body).collect();
    let route = routes[usize::from(*choice) % routes.len()];
    API.with_borrow_mut(|(api, used)| {
        if *used % INPUTS_PER_API == 0 {
            let started = Api::start();
            started.expect(201, "PUT", "/api/vhosts/target", "");
            *api = Some(started);
        }
        *used += 1;
        let api = api.as_ref().unwrap();
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: h\r\nAuthorization: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            route.verb.as_str(),
            path(route),
            basic("guest:guest"),
            body.len()
        );
        let answer = api.send(&[head.as_bytes(), body].concat());
        assert!(
            answer.status < 500,
            "{} {}: {answer:?}",
            route.verb.as_str(),
            path(route)
        );
    });
});

/// The path with something in each of its variable parts.
fn path(route: &Route) -> String {
    let parts = route.path.split('{').map(|part| match part.split_once('}') {
        Some(("kind", rest)) => format!("q{rest}"),
        Some((_, rest)) => format!("target{rest}"),
        None => part.to_owned(),
    });
    parts.collect()
}
