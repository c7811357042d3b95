//! What is printed in the end: text for people, JSON for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Measured;

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub p99_9_us: f64,
    pub max_us: f64,
}

impl Latency {
    /// Nothing if nothing was measured.
    pub fn of(nanos: &Histogram<u64>) -> Option<Latency> {
        if nanos.is_empty() {
            return None;
        }
        let micros = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1000.0;
        Some(Latency {
            count: nanos.len(),
            p50_us: micros(0.5),
            p95_us: micros(0.95),
            p99_us: micros(0.99),
            p99_9_us: micros(0.999),
            max_us: nanos.max() as f64 / 1000.0,
        })
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99, p99_9, max] =
            [self.p50_us, self.p95_us, self.p99_us, self.p99_9_us, self.max_us].map(millis);
        write!(f, "p50 {p50}  p95 {p95}  p99 {p99}  p99.9 {p99_9}  max {max} ms")
    }
}

fn millis(micros: f64) -> String {
    format!("{:.3}", micros / 1000.0)
}

/// What the broker took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BrokerCost {
    pub cpu_seconds: f64,
    /// CPU time per message, of the larger of published and received.
    pub cpu_us_per_message: Option<f64>,
    pub peak_memory_bytes: u64,
}

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Octets of each body.
    pub body_bytes: usize,
    pub seconds: f64,
    pub published: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub received: u64,
    pub published_per_second: f64,
    pub confirmed_per_second: f64,
    pub received_per_second: f64,
    /// From the time a message was written, or should have been at a fixed rate, until a consumer read it.
    pub latency: Option<Latency>,
    /// The same until the broker confirmed it.
    pub confirm_latency: Option<Latency>,
    /// How often the broker announced that it blocks publishers.
    pub blocked: u64,
    pub broker: Option<BrokerCost>,
    /// CPU time of the load generator per message.
    pub own_cpu_us_per_message: Option<f64>,
}

impl Report {
    pub fn of(measured: &Measured) -> Report {
        let counts = measured.counts;
        let seconds = measured.elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                (count as f64 / seconds).round()
            } else {
                0.0
            }
        };
        let messages = counts.published.max(counts.received);
        Report {
            body_bytes: measured.size,
            seconds,
            published: counts.published,
            confirmed: counts.confirmed,
            nacked: counts.nacked,
            received: counts.received,
            published_per_second: per_second(counts.published),
            confirmed_per_second: per_second(counts.confirmed),
            received_per_second: per_second(counts.received),
            latency: Latency::of(&measured.latency),
            confirm_latency: Latency::of(&measured.confirm_latency),
            blocked: counts.blocked,
            broker: measured.broker.map(|usage| BrokerCost {
                cpu_seconds: usage.cpu.as_secs_f64(),
                cpu_us_per_message: per_message(usage.cpu, messages),
                peak_memory_bytes: usage.peak_bytes,
            }),
            own_cpu_us_per_message: per_message(measured.own_cpu, messages),
        }
    }
}

impl Report {
    /// The bodies' octets at a rate of messages.
    fn megabytes(&self, per_second: f64) -> String {
        format!("{:.1} MB/s", per_second * self.body_bytes as f64 / 1e6)
    }
}

/// Microseconds.
fn per_message(cpu: Duration, messages: u64) -> Option<f64> {
    (messages > 0).then(|| (cpu.as_secs_f64() * 1e9 / messages as f64).round() / 1000.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seconds          {:.3}", self.seconds)?;
        writeln!(
            f,
            "published        {} ({}/s, {})",
            self.published,
            self.published_per_second,
            self.megabytes(self.published_per_second)
        )?;
        if self.confirmed + self.nacked > 0 {
            writeln!(
                f,
                "confirmed        {} ({}/s), nacked {}",
                self.confirmed, self.confirmed_per_second, self.nacked
            )?;
        }
        writeln!(
            f,
            "received         {} ({}/s, {})",
            self.received,
            self.received_per_second,
            self.megabytes(self.received_per_second)
        )?;
        if let Some(latency) = self.latency {
            writeln!(f, "latency          {latency}")?;
        }
        if let Some(latency) = self.confirm_latency {
            writeln!(f, "confirm latency  {latency}")?;
        }
        if self.blocked > 0 {
            writeln!(f, "blocked          {} times by the broker", self.blocked)?;
        }
        if let Some(broker) = self.broker {
            write!(f, "broker           ")?;
            if let Some(cost) = broker.cpu_us_per_message {
                write!(f, "{cost:.3} us CPU per message, ")?;
            }
            writeln!(f, "peak memory {}", Mebibytes(broker.peak_memory_bytes))?;
        }
        if let Some(cost) = self.own_cpu_us_per_message {
            writeln!(f, "load generator   {cost:.3} us CPU per message")?;
        }
        Ok(())
    }
}

/// Octets, shown in MiB.
pub struct Mebibytes(pub u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / (1024.0 * 1024.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Counts;
    use super::super::process::Usage;
    use super::super::worker::histogram;
    use super::*;

    fn measured() -> Measured {
        let mut latency = histogram().unwrap();
        for micros in 1..=1000 {
            latency.record(micros * 1000).unwrap();
        }
        Measured {
            size: 100,
            elapsed: Duration::from_secs(2),
            counts: Counts {
                published: 1000,
                confirmed: 0,
                nacked: 0,
                received: 4000,
                blocked: 0,
            },
            latency,
            confirm_latency: histogram().unwrap(),
            broker: Some(Usage {
                cpu: Duration::from_millis(8),
                resident_bytes: 1,
                peak_bytes: 3 << 20,
            }),
            own_cpu: Duration::from_millis(2),
        }
    }

    #[test]
    fn rates_and_costs_are_per_second_and_per_message_published_or_received() {
        let report = Report::of(&measured());
        assert_eq!(
            (report.published_per_second, report.received_per_second),
            (500.0, 2000.0)
        );
        assert_eq!(report.broker.unwrap().cpu_us_per_message, Some(2.0));
        assert_eq!(report.own_cpu_us_per_message, Some(0.5));
        assert_eq!(report.confirm_latency, None);
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let latency = Report::of(&measured()).latency.unwrap();
        let near = |value: f64, wanted: f64| assert!((value / wanted - 1.0).abs() < 0.002, "{value} {wanted}");
        near(latency.p50_us, 500.0);
        near(latency.p99_us, 990.0);
        near(latency.max_us, 1000.0);
        assert_eq!(latency.count, 1000);
    }

    #[test]
    fn both_forms_name_the_figures() {
        let report = Report::of(&measured());
        let text = report.to_string();
        assert!(text.contains("received         4000 (2000/s, 0.2 MB/s)"), "{text}");
        assert!(text.contains("2.000 us CPU per message, peak memory 3.0 MiB"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["broker"]["peak_memory_bytes"], 3 << 20);
        assert!(json["latency"]["p99_9_us"].is_number());
    }
}
