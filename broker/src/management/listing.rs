//! Lists: filter by name, sort, page, and choose columns, as RabbitMQ's tools ask for them in the query.
//!
//! What is not shown is not serialised: of ten thousand rows a page of a hundred costs a hundred.

use std::cmp::Ordering;

use regex::RegexBuilder;
use serde::Serialize;
use serde_json::{Map, Value};

use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::PageView;

/// Rows of a page unless the query says otherwise.
const PAGE_SIZE_DEFAULT: usize = 100;
/// Most rows of a page.
const PAGE_SIZE_MAX: usize = 500;
/// Most memory that a pattern for names may take.
const NAME_PATTERN_BYTES_MAX: usize = 1 << 20;

/// One row of a list.
pub trait Row: Serialize {
    /// What the `name` of the query is compared with.
    fn name(&self) -> &str;

    /// A column that can be told without serialising the whole row, by its path such as `message_stats.publish`.
    fn column(&self, _path: &str) -> Option<Value> {
        None
    }
}

/// Answers with the rows that the query asks for; they come in the order that it does not override.
pub fn list<R: Row>(request: &Request, mut rows: Vec<R>) -> Outcome {
    let page = Page::of(request)?;
    let total = rows.len();
    if let Some(wanted) = request.query("name").filter(|name| !name.is_empty()) {
        filter(&mut rows, wanted, request.query_flag("use_regex"))?;
    }
    if let Some(column) = request.query("sort").filter(|column| !column.is_empty()) {
        sort(&mut rows, column);
    }
    if request.query_flag("sort_reverse") {
        rows.reverse();
    }
    let columns = columns(request);
    let Some(page) = page else {
        return match columns {
            None => Reply::json(&rows),
            Some(columns) => Reply::json(&rows.iter().map(|row| select(row, &columns)).collect::<Vec<_>>()),
        };
    };
    let filtered = rows.len();
    let shown = page.cut(&rows)?;
    let view = |items| PageView {
        filtered_count: filtered,
        item_count: shown.len(),
        items,
        page: page.number,
        page_count: page.count(filtered),
        page_size: page.size,
        total_count: total,
    };
    match columns {
        None => Reply::json(&view(Items::Whole(shown))),
        Some(columns) => {
            let chosen = shown.iter().map(|row| select(row, &columns)).collect();
            Reply::json(&view(Items::Chosen(chosen)))
        }
    }
}

/// Answers with one object, of which the query may choose columns.
pub fn object<R: Row>(request: &Request, row: &R) -> Outcome {
    match columns(request) {
        None => Reply::json(row),
        Some(columns) => Reply::json(&select(row, &columns)),
    }
}

/// Rows as they are, or cut down to columns.
#[derive(Serialize)]
#[serde(untagged)]
enum Items<'a, R> {
    Whole(&'a [R]),
    Chosen(Vec<Value>),
}

struct Page {
    number: usize,
    size: usize,
}

impl Page {
    fn of(request: &Request) -> Result<Option<Page>, ApiError> {
        if request.query("pagination") == Some("false") {
            return Ok(None);
        }
        let whole = |name| match request.query(name) {
            None => Ok(None),
            Some(text) => text.parse::<i64>().map(Some).map_err(|_| invalid()),
        };
        let (number, size) = (whole("page")?, whole("page_size")?);
        let size = size.unwrap_or(PAGE_SIZE_DEFAULT as i64);
        let Some(number) = number else { return Ok(None) };
        if number < 1 || !(1..=PAGE_SIZE_MAX as i64).contains(&size) {
            return Err(ApiError::InvalidPages(format!(
                "Invalid pagination parameters: page number {number}, page size {size}"
            )));
        }
        Ok(Some(Page {
            number: usize::try_from(number).unwrap_or(usize::MAX),
            size: size as usize,
        }))
    }

    fn count(&self, rows: usize) -> usize {
        rows.div_ceil(self.size).max(1)
    }

    fn cut<'a, R>(&self, rows: &'a [R]) -> Result<&'a [R], ApiError> {
        if self.number > self.count(rows.len()) {
            let reason = format!(
                "Page out of range, page: {} page size: {}, len: {}",
                self.number,
                self.size,
                rows.len()
            );
            return Err(ApiError::PageOutOfRange(reason));
        }
        let from = (self.number - 1) * self.size;
        let to = rows.len().min(from + self.size);
        Ok(rows.get(from..to).unwrap_or_default())
    }
}

fn invalid() -> ApiError {
    ApiError::bad("Pagination parameters are invalid")
}

/// Keeps the rows whose name contains the text or matches the pattern, whatever the case of the letters.
fn filter<R: Row>(rows: &mut Vec<R>, wanted: &str, is_pattern: bool) -> Result<(), ApiError> {
    let pattern = if is_pattern {
        wanted.to_owned()
    } else {
        regex::escape(wanted)
    };
    let pattern = RegexBuilder::new(&pattern)
        .case_insensitive(true)
        .size_limit(NAME_PATTERN_BYTES_MAX)
        .build()
        .map_err(|_| invalid())?;
    rows.retain(|row| pattern.is_match(row.name()));
    Ok(())
}

/// Sorts by one column; equal rows keep their order, and those without it come first.
fn sort<R: Row>(rows: &mut Vec<R>, column: &str) {
    let mut keyed: Vec<(Value, R)> = rows.drain(..).map(|row| (value_of(&row, column), row)).collect();
    keyed.sort_by(|(a, _), (b, _)| compare(a, b));
    rows.extend(keyed.into_iter().map(|(_, row)| row));
}

fn value_of<R: Row>(row: &R, column: &str) -> Value {
    row.column(column)
        .or_else(|| find(&serde_json::to_value(row).ok()?, column).cloned())
        .unwrap_or_default()
}

fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// The value at a path such as `message_stats.publish_details.rate`.
fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, part| value.get(part))
}

fn columns(request: &Request) -> Option<Vec<&str>> {
    let columns = request.query("columns")?;
    Some(columns.split(',').filter(|column| !column.is_empty()).collect())
}

/// The row with nothing but these columns.
fn select<R: Row>(row: &R, columns: &[&str]) -> Value {
    let mut whole = None;
    let mut chosen = Map::new();
    for path in columns {
        let value = row.column(path).or_else(|| {
            let whole = whole.get_or_insert_with(|| serde_json::to_value(row).unwrap_or_default());
            find(whole, path).cloned()
        });
        if let Some(value) = value {
            insert(&mut chosen, path, value);
        }
    }
    Value::Object(chosen)
}

/// Puts a value at a path, with the objects on the way.
fn insert(into: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            into.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::testing::request;
    use serde_json::json;

    #[derive(Clone, Serialize)]
    struct Fruit {
        name: &'static str,
        weight: u32,
        inside: Inside,
    }

    #[derive(Clone, Serialize)]
    struct Inside {
        seeds: u32,
    }

    impl Row for Fruit {
        fn name(&self) -> &str {
            self.name
        }
    }

    fn fruit() -> Vec<Fruit> {
        let fruit = |name, weight, seeds| Fruit {
            name,
            weight,
            inside: Inside { seeds },
        };
        vec![fruit("apple", 10, 8), fruit("Apricot", 9, 1), fruit("melon", 100, 300)]
    }

    fn listed(query: &str) -> Result<Value, ApiError> {
        let reply = list(&request("/api/fruit", query), fruit())?;
        Ok(serde_json::from_slice(reply.body()).unwrap())
    }

    fn names(query: &str) -> Vec<String> {
        let listed = listed(query).unwrap();
        let items = listed.get("items").unwrap_or(&listed).as_array().unwrap();
        items
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn without_a_query_all_rows_come_in_their_order() {
        assert_eq!(names(""), ["apple", "Apricot", "melon"]);
        assert_eq!(names("pagination=false&page=7"), ["apple", "Apricot", "melon"]);
    }

    #[test]
    fn rows_are_filtered_by_a_part_of_their_name_or_by_a_pattern() {
        assert_eq!(names("name=AP"), ["apple", "Apricot"]);
        assert_eq!(names("name=^a.*e$&use_regex=true"), ["apple"]);
        assert_eq!(names("name=^a.*e$"), Vec::<String>::new());
        let invalid = ApiError::bad("Pagination parameters are invalid");
        assert_eq!(listed("name=(&use_regex=true"), Err(invalid));
    }

    #[test]
    fn rows_are_sorted_by_numbers_texts_and_what_lies_within() {
        assert_eq!(names("sort=weight"), ["Apricot", "apple", "melon"]);
        assert_eq!(
            names("sort=inside.seeds&sort_reverse=true"),
            ["melon", "apple", "Apricot"]
        );
        assert_eq!(names("sort=nothing"), ["apple", "Apricot", "melon"]);
    }

    #[test]
    fn a_page_says_how_many_there_are() {
        let page = listed("page=2&page_size=1&name=ap&columns=name").unwrap();
        let expected = json!({
            "filtered_count": 2, "item_count": 1, "items": [{"name": "Apricot"}], "page": 2, "page_count": 2,
            "page_size": 1, "total_count": 3
        });
        assert_eq!(page, expected);
        let empty = listed("page=1&name=nothing").unwrap();
        assert_eq!((&empty["page_count"], &empty["items"]), (&json!(1), &json!([])));
    }

    #[test]
    fn pages_that_make_no_sense_are_refused() {
        for (query, page, size) in [
            ("page=0", 0, 100),
            ("page=-1", -1, 100),
            ("page=1&page_size=501", 1, 501),
            ("page=1&page_size=0", 1, 0),
        ] {
            let reason = format!("Invalid pagination parameters: page number {page}, page size {size}");
            assert_eq!(listed(query), Err(ApiError::InvalidPages(reason)), "{query}");
        }
        let invalid = ApiError::bad("Pagination parameters are invalid");
        assert_eq!(listed("page=x"), Err(invalid));
        let beyond = "Page out of range, page: 3 page size: 2, len: 3".to_owned();
        assert_eq!(listed("page=3&page_size=2"), Err(ApiError::PageOutOfRange(beyond)));
    }

    #[test]
    fn columns_keep_their_place_in_what_they_lie_within() {
        let chosen = listed("columns=inside.seeds,name,missing").unwrap();
        assert_eq!(chosen[0], json!({"inside": {"seeds": 8}, "name": "apple"}));
    }
}
