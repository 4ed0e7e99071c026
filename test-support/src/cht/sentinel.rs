//! Sentinel handles one change after the other: it gives shortcodes in a second revision, runs the transitions on
//! reports that came past the api, and keeps an infodoc for every document.

use serde_json::{Value, json};

use super::{state::State, store::Json, time, transitions};

/// Handles the change `seq` of a document as of `now`.
pub(super) fn handle(state: &mut State, id: &str, seq: u64, now: i64) {
    if id.starts_with("_design/") || id.ends_with("-info") {
        return;
    }
    let Some(mut doc) = state.medic.json(id) else { return };
    let last_rev = doc.get("_rev").cloned().unwrap_or_default();
    let mut ran = Vec::new();
    if state.settings.transition("generate_shortcode_on_contacts") && give_shortcode(state, &mut doc) {
        ran.push("generate_shortcode_on_contacts");
    }
    let handled =
        state.sentinel.get(&format!("{id}-info")).is_some_and(|info| info.json().contains_key("transitions"));
    if !handled {
        ran.extend(transitions::run(state, &mut doc, now));
    }
    let changed = !ran.is_empty();
    let at = state.seq_text(seq);
    note(state, id, now, |_| {});
    if changed || !handled {
        note(state, id, now, |info| {
            let runs = info.entry("transitions").or_insert_with(|| json!({}));
            for name in &ran {
                runs[*name] =
                    json!({ "last_rev": last_rev, "seq": at, "ok": true, "run_date": time::iso(now) });
            }
        });
    }
    if changed {
        object_contact(state, &mut doc);
        let _ = state.put(doc, now);
    }
}

/// Digits for persons and places that have none; says whether it gave some.
fn give_shortcode(state: &mut State, doc: &mut Json) -> bool {
    let field = match () {
        () if state.settings.is_person(doc) => "patient_id",
        () if state.settings.is_place(doc) => "place_id",
        () => return false,
    };
    if doc.get(field).is_some_and(|value| value != "" && !value.is_null()) {
        return false;
    }
    let code = shortcode(state);
    doc.insert(field.into(), code.into());
    true
}

/// A place made with the id of a contact holds it as text until it is written again.
fn object_contact(state: &State, doc: &mut Json) {
    if let Some(id) = doc.get("contact").and_then(Value::as_str)
        && let Some(chain) = super::lineage::chain(state, id)
    {
        doc.insert("contact".into(), chain);
    }
}

/// A shortcode that no contact has: random digits and a check digit, longer once the short ones get rare.
pub(super) fn shortcode(state: &mut State) -> String {
    loop {
        for _ in 0..5 {
            let drawn = state.draw();
            let length = state.shortcode_length;
            let digits: Vec<u64> = (0..length as u32 - 1).map(|at| drawn / 10_u64.pow(at) % 10).collect();
            let code = with_check_digit(&digits);
            let taken = |field| state.index.exact(field, &code).is_some_and(|ids| !ids.is_empty());
            if !taken("patient_id") && !taken("place_id") {
                return code;
            }
        }
        state.shortcode_length = (state.shortcode_length + 1).min(13);
    }
}

fn with_check_digit(digits: &[u64]) -> String {
    let weights = (2..=digits.len() as u64 + 1).rev();
    let check = match digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum::<u64>() % 11 {
        10 => 0,
        digit => digit,
    };
    digits.iter().chain([&check]).map(u64::to_string).collect()
}

/// Edits the infodoc of a document, making it when there is none.
pub(super) fn note(state: &mut State, id: &str, now: i64, edit: impl FnOnce(&mut Json)) {
    let info_id = format!("{id}-info");
    let current = state.sentinel.get(&info_id).map(|info| (info.rev, info.json()));
    let (base, mut info) = match current {
        Some((rev, info)) => (Some(rev), info),
        None => {
            let mut info = Json::new();
            info.insert("type".into(), "info".into());
            info.insert("doc_id".into(), id.into());
            info.insert("initial_replication_date".into(), "unknown".into());
            info.insert("latest_replication_date".into(), "unknown".into());
            (None, info)
        }
    };
    edit(&mut info);
    info.remove("_id");
    info.remove("_rev");
    state.sentinel.put(&info_id, base, false, &info, now);
}

/// The api notes when a document came in through it: ISO text under `/medic`, a number for records.
pub(super) fn note_arrival(state: &mut State, id: &str, date: &Value, now: i64) {
    note(state, id, now, |info| {
        if info.get("initial_replication_date") == Some(&json!("unknown")) {
            info.insert("initial_replication_date".into(), date.clone());
        }
        info.insert("latest_replication_date".into(), date.clone());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_agree_with_shortcodes_that_a_real_server_gave() {
        for code in ["25677", "09477", "88845", "12439", "75980", "67556", "22860", "06154", "29944", "90694"]
        {
            let digits: Vec<u64> = code[..4].chars().map(|c| u64::from(c.to_digit(10).unwrap())).collect();
            assert_eq!(with_check_digit(&digits), code);
        }
    }
}
