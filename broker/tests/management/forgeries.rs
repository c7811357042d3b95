//! What a page of another site has a browser send, and what is meant to fill the log.

use super::api::{Api, basic};

/// A request of a browser that is logged in as guest.
fn from_a_page(api: &Api, method: &str, path: &str, kind: &str, body: &str) -> u16 {
    let kind = match kind {
        "" => String::new(),
        kind => format!("Content-Type: {kind}\r\n"),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nOrigin: http://elsewhere.example\r\n{kind}Connection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        api.address,
        basic("guest:guest"),
        body.len()
    );
    api.send(request.as_bytes()).status
}

#[test]
fn a_browser_that_is_logged_in_changes_nothing_for_pages_of_other_sites() {
    let api = Api::start();
    let publish = "/api/exchanges/%2F/amq.default/publish";
    let message = r#"{"routing_key":"q","payload":"","payload_encoding":"string","properties":{}}"#;
    // All that forms, and scripts that may not read the answer, can send without asking the broker first.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
    ] {
        assert_eq!(from_a_page(&api, "POST", publish, kind, message), 400, "{kind}");
        assert_eq!(from_a_page(&api, "DELETE", "/api/vhosts/%2F", kind, ""), 400, "{kind}");
    }
    assert_eq!(from_a_page(&api, "GET", "/api/whoami", "", ""), 200);
    // Whoever may send this has been asked about: the broker says no to all other sites, and yes to its own pages.
    assert_eq!(from_a_page(&api, "POST", publish, "application/json", message), 200);
    let asked = format!(
        "OPTIONS {publish} HTTP/1.1\r\nHost: {}\r\nOrigin: http://elsewhere.example\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: content-type\r\nConnection: close\r\n\r\n",
        api.address
    );
    let answer = api.send(asked.as_bytes());
    assert!(
        !answer.head.to_ascii_lowercase().contains("access-control-allow"),
        "{answer:?}"
    );
    // Tools tell no origin, and curl calls its JSON a form.
    api.expect(200, "POST", publish, message);
}

#[test]
fn a_name_of_many_megabytes_is_not_repeated_whole() {
    let api = Api::start();
    let name = "é".repeat(4 << 20);
    let file = format!(r#"{{"vhosts":[{{"name":"{name}"}}]}}"#);
    let answer = api.expect(400, "POST", "/api/definitions", &file);
    assert!(
        answer.body.chars().count() < 2100 && answer.body.contains("éé…"),
        "{}",
        answer.body.len()
    );
}
