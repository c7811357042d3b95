//! The past of figures, for those who draw graphs: `lengths_age`, `lengths_incr` and their kin in a query bring `samples`, `avg` and
//! `avg_rate` beside each rate.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::listing::Row;
use super::reply::ApiError;
use super::request::Request;
use super::views::RetentionView;
use crate::clock;
use crate::metrics::history::{Figures, History, Period, Range};
use crate::metrics::past::{Figure, Kind, PERIODS, PERIODS_OF_BROKER, WHOLE, names, values};

/// A query asks for so many samples at the most, as in RabbitMQ.
const SAMPLES_MAX: u64 = 500;
/// Where figures and their rates may stand.
const PLACES: [&str; 3] = ["message_stats", "queue_totals", "churn_rates"];

/// The ranges that a query asks for.
pub struct Ranges {
    lengths: Option<Range>,
    messages: Option<Range>,
    octets: Option<Range>,
}

impl Ranges {
    /// None if the query asks for no past, or for no figures at all.
    pub fn of(request: &Request) -> Result<Option<Ranges>, ApiError> {
        let now = clock::unix_time().as_secs();
        let ranges = Ranges {
            // The newest lengths may be of this moment, what is added up in a step must be over.
            lengths: range(request, "lengths", |step| now.div_ceil(step) * step)?,
            messages: range(request, "msg_rates", |step| now / step * step)?,
            octets: range(request, "data_rates", |step| now / step * step)?,
        };
        let asked = [ranges.lengths, ranges.messages, ranges.octets];
        let is_asked = asked.iter().any(Option::is_some) && !request.without_figures();
        Ok(is_asked.then_some(ranges))
    }

    fn of_kind(&self, kind: Kind) -> Option<Range> {
        match kind {
            Kind::Lengths => self.lengths,
            Kind::Messages => self.messages,
            Kind::Octets => self.octets,
        }
    }
}

/// What is no number asks for nothing, as in RabbitMQ.
fn range(request: &Request, name: &str, last: impl FnOnce(u64) -> u64) -> Result<Option<Range>, ApiError> {
    let number = |end: &str| request.query(&format!("{name}_{end}"))?.parse::<i64>().ok();
    let (Some(age), Some(step)) = (number("age"), number("incr")) else {
        return Ok(None);
    };
    let invalid = || ApiError::bad(format!("Invalid range parameters: age {age}, incr {step}"));
    let (age, step_seconds) = (positive(age).ok_or_else(invalid)?, positive(step).ok_or_else(invalid)?);
    if age / step_seconds > SAMPLES_MAX {
        return Err(invalid());
    }
    let last = last(step_seconds);
    Ok(Some(Range {
        first: last.saturating_sub(age),
        last,
        step_seconds,
    }))
}

/// Above 0, and small enough to count with.
fn positive(number: i64) -> Option<u64> {
    let number = u32::try_from(number).ok()?;
    (number > 0).then_some(number.into())
}

/// How far back samples go.
pub fn retention() -> RetentionView {
    let seconds = |periods: &[Period]| periods.iter().map(|period| period.seconds).collect();
    RetentionView {
        global: seconds(&PERIODS_OF_BROKER),
        basic: seconds(&PERIODS),
        detailed: seconds(&PERIODS),
    }
}

/// An object with the past of its figures.
#[derive(Serialize)]
#[serde(transparent)]
pub struct WithPast(Value);

impl Row for WithPast {
    fn name(&self) -> &str {
        self.0["name"].as_str().unwrap_or_default()
    }
}

impl WithPast {
    /// The whole broker.
    pub fn of_broker(request: &Request, view: impl Serialize, ranges: &Ranges) -> WithPast {
        let mut view = serde_json::to_value(view).unwrap_or_default();
        let names = names(&WHOLE);
        request
            .broker
            .past
            .of_broker(|history| add(&mut view, &names, history, ranges));
        WithPast(view)
    }

    /// An object, which is watched from now on; `key` tells it from others.
    pub fn of<S>(
        request: &Request,
        view: impl Serialize,
        ranges: &Ranges,
        key: String,
        figures: &'static [Figure<S>],
        look: impl Fn() -> Option<S> + Send + Sync + 'static,
    ) -> WithPast {
        let mut view = serde_json::to_value(view).unwrap_or_default();
        let probe = move || -> Option<Figures> { Some(values(figures, &look()?)) };
        let now = (clock::now(), clock::unix_time().as_secs());
        let names = names(figures);
        request.broker.past.of(key, Arc::new(probe), now, |history| {
            add(&mut view, &names, history, ranges);
        });
        WithPast(view)
    }
}

fn add(view: &mut Value, names: &[(&str, Kind)], history: &History, ranges: &Ranges) {
    for kind in [Kind::Lengths, Kind::Messages, Kind::Octets] {
        let Some(range) = ranges.of_kind(kind) else { continue };
        let samples = history.samples(range);
        for (at, (name, of)) in names.iter().enumerate() {
            if let Some(details) = details_of(view, name).filter(|_| *of == kind) {
                let known = samples
                    .iter()
                    .filter_map(|(time, figures)| Some((*time, *figures.get(at)?)));
                put(details, &known.collect::<Vec<_>>());
            }
        }
    }
}

/// The object beside a figure that has its rate.
fn details_of<'a>(view: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    let details = format!("{name}_details");
    let place = PLACES.iter().find(|place| view[**place].get(&details).is_some());
    let holder = match place {
        Some(place) => view.get_mut(*place)?,
        None => view,
    };
    holder.get_mut(&details)?.as_object_mut()
}

fn put(details: &mut Map<String, Value>, samples: &[(u64, u64)]) {
    if let ([(newest, last), .., (oldest, first)], count) = (samples, samples.len() as f64) {
        let sum: u64 = samples.iter().map(|(_, value)| value).sum();
        let rate = (*last as f64 - *first as f64) / newest.saturating_sub(*oldest).max(1) as f64;
        details.insert("avg".to_owned(), (sum as f64 / count).into());
        details.insert("avg_rate".to_owned(), rate.into());
    }
    let samples = samples
        .iter()
        .map(|(seconds, value)| json!({ "sample": value, "timestamp": seconds * 1000 }));
    details.insert("samples".to_owned(), samples.collect());
}
