//! What changed in OpenMRS: a rolling full pass, a look at `_lastUpdated`, and encounters as hints.
//!
//! The stamp of a patient moves for gender, birth date, death and void only, so the pass is the main reader. All three go
//! forward by `_lastUpdated` as a key. Within one search they page by its number and an offset, each page beginning with
//! the last row of the one before: if it is not there, rows have shifted or the search has expired, and the reader starts
//! again from that row's second. Seconds are read whole (`ge`), so rows of one second are never parted.
//!
//! A row that makes its page a 400 is found by halving and stepped over; nothing else is. A search that begins with such a
//! row gives no number to page by: then its second is found by counting, and the rest of that second read from the end.

use connector_core::change::RecordId;
use connector_core::connector::{Fault, Page, Unreadable};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::OpenMrs;
use crate::client::Answer;
use crate::fhir::{Bundle, FhirHead, FhirMeta, FhirReference};

/// The rolling pass over all patients.
pub const PASS: &str = "pass";
/// New patients, and those whose stamp moved.
pub const CHANGED: &str = "changed";
/// Encounters: each is a hint that its patient may have changed.
pub const ENCOUNTERS: &str = "encounters";

/// Longest page that FHIR2 gives.
const LONGEST: usize = 100;
/// Searches begun anew within one poll before the feed pauses.
const RESTARTS: usize = 3;

/// Where a reader stands.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Cursor {
    /// Second of the row read last, or where the round began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Number of the search that is being paged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    search: Option<String>,
    /// Rows of it that are behind.
    #[serde(default, skip_serializing_if = "is_zero")]
    offset: usize,
    /// The row before the offset, unless it was stepped over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
    /// Where the next round begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_round: Option<String>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Cursor {
    fn at(from: Option<String>) -> Self {
        Self { from, ..Self::default() }
    }

    fn restart(&mut self) {
        (self.search, self.offset, self.last) = (None, 0, None);
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A row of a page.
struct Row {
    id: String,
    second: Option<String>,
    /// The server's day when it was read.
    today: Option<String>,
    resource: Box<RawValue>,
}

/// What reading from a cursor gave.
enum Window {
    /// Rows after the cursor, the number of the search, and whether there are more.
    Rows(Vec<Row>, Option<String>, bool),
    /// The row at the cursor makes its page a 400.
    Unreadable,
    /// The search is gone, or its rows have shifted.
    Gone,
}

/// Which resource a feed reads, and which of them.
struct Kind<'a> {
    resource: &'a str,
    filter: Vec<(&'a str, &'a str)>,
}

impl OpenMrs {
    /// Where a feed stands now.
    pub(crate) async fn here(&self, feed: &str) -> Result<Option<String>, Fault> {
        if feed == PASS {
            return Ok(None);
        }
        let types = self.config.encounter_types.join(",");
        let (_, now) = self.count(&kind(feed, &types)?, None).await?;
        Ok(Some(Cursor::at(Some(self.overlapped(now))).text()))
    }

    fn overlapped(&self, now: Timestamp) -> String {
        let overlap = i64::try_from(self.config.overlap_seconds).unwrap_or(i64::MAX);
        second(now.saturating_sub(SignedDuration::from_secs(overlap)).unwrap_or(Timestamp::MIN))
    }

    /// The records of a feed after the cursor.
    pub(crate) async fn next_page(
        &self,
        feed: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let types = self.config.encounter_types.join(",");
        let kind = kind(feed, &types)?;
        let mut cursor: Cursor = match after {
            None => Cursor::default(),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| Fault::retry(format!("the cursor of `{feed}` does not parse")))?,
        };
        let mut page = Page::default();
        if feed != PASS && cursor.next_round.is_none() {
            let (total, now) = self.count(&kind, cursor.from.as_deref()).await?;
            cursor.next_round = Some(self.overlapped(now)).max(cursor.from.clone());
            if total == 0 {
                page.next = Cursor::at(cursor.next_round).text();
                return Ok(page);
            }
        }
        let begin = cursor.from.clone();
        let (mut restarts, mut rows) = (0, vec![]);
        loop {
            match self.window(&kind, &cursor, limit.clamp(1, LONGEST)).await? {
                Window::Gone if restarts == RESTARTS => {
                    return Err(Fault::retry("FHIR2 keeps no search long enough"));
                }
                Window::Gone => {
                    restarts += 1;
                    cursor.restart();
                    continue;
                }
                Window::Rows(read, search, more) => {
                    page.more = more;
                    cursor.offset += read.len();
                    if let Some(last) = read.last() {
                        cursor.from = last.second.clone().or(cursor.from);
                        cursor.last = Some(last.id.clone());
                    }
                    cursor.search = search;
                    rows.extend(read);
                }
                Window::Unreadable => {
                    self.report(feed, &cursor, &mut page);
                    if cursor.search.is_some() {
                        (cursor.offset, cursor.last, page.more) = (cursor.offset + 1, None, true);
                    } else {
                        rows.extend(self.step_over_first(&kind, feed, &mut cursor, &mut page).await?);
                    }
                }
            }
            // A search begun anew must get beyond the second that it began with, or the next poll may do no better.
            if restarts == 0 || !page.more || cursor.from != begin {
                break;
            }
        }
        self.take(feed, &rows, &mut page).await?;
        if !page.more && feed != PASS {
            cursor = Cursor::at(cursor.next_round);
        }
        page.next = cursor.text();
        Ok(page)
    }

    async fn take(&self, feed: &str, rows: &[Row], page: &mut Page) -> Result<(), Fault> {
        for row in rows {
            if feed == ENCOUNTERS {
                let subject = FhirHead::read(&row.resource).subject();
                let patient =
                    subject.as_ref().and_then(FhirReference::id).map(|id| RecordId::person(&self.name, id));
                page.refresh.extend(patient.filter(|id| !page.refresh.contains(id)));
            } else {
                page.records.extend(self.record_of(&row.resource, row.today.as_deref()).await?);
            }
        }
        Ok(())
    }

    /// The pass reports; the others read the same rows.
    fn report(&self, feed: &str, cursor: &Cursor, page: &mut Page) {
        if feed == PASS {
            let before = cursor.last.as_deref().unwrap_or("the first");
            page.unreadable.push(Unreadable {
                id: RecordId::person(&self.name, format!("after {before}")),
                reason: "a patient makes its FHIR2 page a 400, most often by a Boolean attribute that holds another text; \
                         its uuid is not to be had, the id names the patient before it in the order of _lastUpdated. \
                         Correct the value in OpenMRS"
                    .into(),
            });
        }
    }

    /// Rows after the cursor; a page that is a 400 is halved.
    async fn window(&self, kind: &Kind<'_>, cursor: &Cursor, wanted: usize) -> Result<Window, Fault> {
        let mut lead = usize::from(cursor.search.is_some() && cursor.last.is_some());
        let mut beyond = (wanted - lead).max(1);
        let mut halved = false;
        loop {
            let count = lead + beyond;
            let answer = match &cursor.search {
                Some(search) => self.page(search, cursor.offset.saturating_sub(lead), count).await?,
                None => self.search(kind, cursor.from.as_deref(), "_lastUpdated", count).await?,
            };
            match answer.status {
                200 => {
                    let (mut rows, search) = rows(&answer)?;
                    let more =
                        halved || (rows.len() >= count && (cursor.search.is_some() || search.is_some()));
                    if lead == 1 {
                        if rows.first().map(|row| &row.id) != cursor.last.as_ref() {
                            return Ok(Window::Gone);
                        }
                        rows.remove(0);
                    }
                    return Ok(Window::Rows(rows, cursor.search.clone().or(search), more));
                }
                404 | 410 if cursor.search.is_some() => return Ok(Window::Gone),
                400 if is_row(&answer) && beyond > 1 => (beyond, halved) = (beyond / 2, true),
                400 if is_row(&answer) && lead == 1 => (lead, halved) = (0, true),
                400 if is_row(&answer) => return Ok(Window::Unreadable),
                400 => {
                    return Err(Fault::Halt(
                        "FHIR2 does not serve the search of the reader; run `check`".into(),
                    ));
                }
                _ => return Err(answer.fault("a FHIR2 page")),
            }
        }
    }

    async fn page(&self, search: &str, offset: usize, count: usize) -> Result<Answer, Fault> {
        let (offset, count) = (offset.to_string(), count.to_string());
        let query = [
            ("_getpages", search),
            ("_getpagesoffset", &offset),
            ("_count", &count),
            ("_bundletype", "searchset"),
        ];
        Ok(self.client.fhir("", &query).await?)
    }

    async fn search(
        &self,
        kind: &Kind<'_>,
        from: Option<&str>,
        sort: &str,
        count: usize,
    ) -> Result<Answer, Fault> {
        let (from, count) = (from.map(|from| format!("ge{from}")), count.to_string());
        let mut query = kind.filter.clone();
        query.extend(from.as_deref().map(|from| ("_lastUpdated", from)));
        query.extend([("_sort", sort), ("_count", count.as_str())]);
        Ok(self.client.fhir(kind.resource, &query).await?)
    }

    /// How many there are from a second on, and the server's clock: asked without reading a row.
    async fn count(&self, kind: &Kind<'_>, from: Option<&str>) -> Result<(u64, Timestamp), Fault> {
        let answer = self.search(kind, from, "_lastUpdated", 0).await?;
        if answer.status != 200 {
            return Err(answer.fault("a FHIR2 count"));
        }
        let bundle: Bundle = answer.parse().map_err(Fault::retry)?;
        let now = instant(&bundle.meta).ok_or_else(|| Fault::retry("a FHIR2 page tells no time"))?;
        Ok((bundle.total.unwrap_or_default(), now))
    }

    /// The first row of a search is unreadable: goes on with the second after it, having read the rest of its second.
    async fn step_over_first(
        &self,
        kind: &Kind<'_>,
        feed: &str,
        cursor: &mut Cursor,
        page: &mut Page,
    ) -> Result<Vec<Row>, Fault> {
        let (total, now) = self.count(kind, cursor.from.as_deref()).await?;
        let begin = cursor.from.as_deref().and_then(|from| from.parse::<Timestamp>().ok());
        let (mut at, mut beyond) = (begin.map_or(0, |b| b.as_second()), now.as_second() + 1);
        while beyond - at > 1 {
            let middle = at + (beyond - at) / 2;
            let (left, _) = self.count(kind, Some(&seconds(middle))).await?;
            if left == total { at = middle } else { beyond = middle }
        }
        let (rest, _) = self.count(kind, Some(&seconds(at + 1))).await?;
        let mut rows = vec![];
        if total > rest + 1 {
            let newest = self.search(kind, Some(&seconds(at)), "-_lastUpdated", 1).await?;
            let search = if newest.status == 200 { self::rows(&newest)?.1 } else { None };
            match search {
                Some(search) => {
                    let (first, all) = (usize(rest), usize(total - rest));
                    rows = self.range(&search, first, all).await?;
                }
                None => self.report(feed, &Cursor { last: Some(seconds(at)), ..Cursor::default() }, page),
            }
        }
        cursor.restart();
        cursor.from = Some(seconds(at + 1));
        page.more = rest > 0;
        Ok(rows)
    }

    /// Every readable row of a stretch of a search.
    async fn range(&self, search: &str, first: usize, all: usize) -> Result<Vec<Row>, Fault> {
        let mut found = vec![];
        let mut open: Vec<(usize, usize)> =
            (0..all).step_by(LONGEST).map(|at| (first + at, LONGEST.min(all - at))).rev().collect();
        while let Some((offset, count)) = open.pop() {
            let answer = self.page(search, offset, count).await?;
            match answer.status {
                200 => found.extend(rows(&answer)?.0),
                400 if count == 1 => {}
                400 => open.extend([(offset + count / 2, count - count / 2), (offset, count / 2)]),
                _ => return Err(answer.fault("a FHIR2 page")),
            }
        }
        Ok(found)
    }
}

fn usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn kind<'a>(feed: &str, types: &'a str) -> Result<Kind<'a>, Fault> {
    match feed {
        PASS | CHANGED => Ok(Kind { resource: "Patient", filter: vec![] }),
        ENCOUNTERS => {
            let mut filter = vec![("_tag", "encounter")];
            filter.extend((!types.is_empty()).then_some(("type", types)));
            Ok(Kind { resource: "Encounter", filter })
        }
        _ => Err(Fault::Unsupported),
    }
}

fn rows(answer: &Answer) -> Result<(Vec<Row>, Option<String>), Fault> {
    let bundle: Bundle = answer.parse().map_err(Fault::retry)?;
    let (today, search) = (bundle.today(), bundle.search());
    let row = |resource: Box<RawValue>| {
        let head = FhirHead::read(&resource);
        Row {
            id: head.id().unwrap_or_default().to_owned(),
            second: head.meta().as_ref().and_then(instant).map(second),
            today: today.clone(),
            resource,
        }
    };
    Ok((bundle.into_resources().map(row).collect(), search))
}

fn instant(meta: &FhirMeta) -> Option<Timestamp> {
    meta.last_updated.as_deref()?.parse().ok()
}

fn second(at: Timestamp) -> String {
    seconds(at.as_second())
}

fn seconds(at: i64) -> String {
    Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Whether a 400 comes from a row and not from the request itself.
fn is_row(answer: &Answer) -> bool {
    !answer.text.contains("does not know how to handle") && !answer.text.contains("Invalid request")
}
