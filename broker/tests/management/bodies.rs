//! Bodies that nobody would send: of every resource that takes one, many from a seeded generator, whole and broken.

use leveret::management::{ROUTES, Verb};
use serde_json::{Map, Number, Value};

use super::api::Api;

/// `FUZZ_SEED` in the environment is another.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// `FUZZ_BODIES` in the environment is another number.
const BODIES_PER_RESOURCE: u64 = 40;

/// Names that mean something to some resource.
const FIELDS: [&str; 37] = [
    "name",
    "value",
    "vhost",
    "vhosts",
    "users",
    "user",
    "password",
    "password_hash",
    "hashing_algorithm",
    "tags",
    "configure",
    "write",
    "read",
    "exchange",
    "pattern",
    "definition",
    "priority",
    "apply-to",
    "arguments",
    "durable",
    "auto_delete",
    "type",
    "routing_key",
    "properties",
    "payload",
    "payload_encoding",
    "headers",
    "count",
    "ackmode",
    "encoding",
    "truncate",
    "queues",
    "exchanges",
    "bindings",
    "permissions",
    "default_queue_type",
    "redeclare_rule",
];

/// Texts that mean something, or are too much.
const TEXTS: [&str; 16] = [
    "",
    "target",
    "x",
    "(",
    "^.*",
    "-1",
    "99999999999999999999",
    "true",
    "base64",
    "auto",
    "ack_requeue_true",
    "\u{0}",
    "ü\u{1f980}",
    "$argon2id$v=19$m=1,t=1,p=1$a$b",
    "topic",
    "all",
];

/// An xorshift generator: the same bodies every time.
struct Random(u64);

/// A number of the environment, for longer runs.
fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn text(&mut self) -> String {
        match self.below(8) {
            0 => "y".repeat(300),
            _ => TEXTS[self.below(TEXTS.len())].to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => [i64::MIN, -1, 0, 1, 256, i64::MAX][self.below(6)].into(),
            3 => u64::MAX.into(),
            4 => Number::from_f64([0.5, -1e300, 1e300][self.below(3)]).map_or(Value::Null, Value::Number),
            5 => self.text().into(),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.object(depth - 1)),
        }
    }

    fn object(&mut self, depth: usize) -> Map<String, Value> {
        let fields = self.below(12);
        let mut object = Map::new();
        for _ in 0..fields {
            object.insert(FIELDS[self.below(FIELDS.len())].to_owned(), self.value(depth));
        }
        object
    }

    /// A JSON object, or what is left of one.
    fn body(&mut self) -> Vec<u8> {
        let mut body = Value::Object(self.object(4)).to_string().into_bytes();
        if self.below(3) == 0 {
            let at = self.below(body.len());
            match self.below(2) {
                0 => body.truncate(at),
                _ => body[at] = u8::try_from(self.below(256)).unwrap(),
            }
        }
        body
    }
}

#[test]
fn no_body_is_too_strange_for_an_answer() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/target", "");
    let mut random = Random(from_environment("FUZZ_SEED", SEED).max(1));
    let bodies = from_environment("FUZZ_BODIES", BODIES_PER_RESOURCE);
    for route in ROUTES
        .iter()
        .filter(|route| [Verb::Put, Verb::Post].contains(&route.verb))
    {
        let path: String = route
            .path
            .split('{')
            .map(|part| match part.split_once('}') {
                Some(("kind", rest)) => format!("q{rest}"),
                Some((_, rest)) => format!("target{rest}"),
                None => part.to_owned(),
            })
            .collect();
        for _ in 0..bodies {
            let body = random.body();
            let head = format!(
                "{} {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                route.verb.as_str(),
                body.len()
            );
            let answer = api.send(&[head.as_bytes(), &body].concat());
            let shown = String::from_utf8_lossy(&body);
            assert!(
                answer.status < 500,
                "{} {path} {shown}: {answer:?}",
                route.verb.as_str()
            );
        }
    }
    api.expect(200, "GET", "/api/definitions", "");
    api.expect(200, "GET", "/api/overview", "");
}
