//! Reading `/metrics` as Prometheus does.

use prometheus_parse::{Sample, Scrape, Value};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One reading of all metrics.
#[derive(Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

impl Metrics {
    /// Fetches and parses `/metrics`.
    pub fn fetch(address: SocketAddr) -> Self {
        Self::fetch_page(address, "/metrics")
    }

    /// Fetches and parses another page of metrics.
    pub fn fetch_page(address: SocketAddr, path: &str) -> Self {
        let (head, body) = get(address, path);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let scrape = Scrape::parse(body.lines().map(|line| Ok(line.to_owned()))).expect("Prometheus text");
        Self {
            samples: scrape.samples,
        }
    }

    /// The sum of all samples of `name`, whatever their labels. Panics when there is none.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        let values: Vec<f64> = self.named(name).map(|sample| number(&sample.value)).collect();
        assert!(!values.is_empty(), "no metric {name}");
        values.iter().sum()
    }

    /// As [`Metrics::value`], and 0 for a metric that is not there, as counters are before they first count.
    pub fn value_or_zero(&self, name: &str) -> f64 {
        self.named(name).map(|sample| number(&sample.value)).sum()
    }

    /// A label of the first sample of `name`.
    #[track_caller]
    pub fn label(&self, name: &str, label: &str) -> String {
        let sample = self.named(name).next().unwrap_or_else(|| panic!("no metric {name}"));
        let value = sample.labels.get(label);
        value
            .unwrap_or_else(|| panic!("{name} has no label {label}"))
            .to_owned()
    }

    pub fn has(&self, name: &str) -> bool {
        self.named(name).next().is_some()
    }

    /// The sample of `name` with these labels and perhaps others. Panics when there is none.
    #[track_caller]
    pub fn value_of(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut samples = self.named(name);
        let sample = samples.find(|sample| {
            let mut wanted = labels.iter();
            wanted.all(|(label, value)| sample.labels.get(label) == Some(*value))
        });
        let sample = sample.unwrap_or_else(|| panic!("no {name} with {labels:?}"));
        number(&sample.value)
    }

    /// All samples of `name`.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.metric == name)
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => *number,
        Value::Histogram(_) | Value::Summary(_) => {
            panic!("a histogram or summary is not one number")
        }
    }
}

/// Sends `GET path` and returns the head and the body of the answer.
pub fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, "GET", path, "", "")
}

/// Sends a request with further header lines, each with its line break, and returns the head and the body of the answer.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::wait::DEADLINE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunk(body),
        false => body.to_owned(),
    };
    (head.to_owned(), body)
}

/// Joins the chunks of a chunked body.
fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).expect("a chunk length");
        if length == 0 {
            break;
        }
        body.push_str(&after[..length]);
        rest = after[length..].strip_prefix("\r\n").expect("the end of a chunk");
    }
    body
}
