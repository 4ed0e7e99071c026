//! A report that a person would rather look at than read numbers: one HTML file without any outside part.

use crate::decide::Outcome;
use crate::explain::{Explanation, explain};
use crate::matching::{Matching, Pair};
use std::fmt::Write;

/// The report of an answer.
pub fn html(matching: &Matching) -> String {
    let mut out = String::with_capacity(1 << 16);
    let s = matching.summary();
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Patient matching</title><style>{STYLE}</style>\
         <h1>Patient matching</h1><p class=\"note\">Model {}. This page shows personal data: treat it as such.</p>\
         <section class=\"cards\">{}{}{}{}{}</section>",
        matching.model.id(),
        card("records", &s.records.to_string()),
        card("matches", &s.matches.to_string()),
        card("for review", &s.review.to_string()),
        card("estimated precision", &format!("{:.1} %", s.stated_precision * 100.0)),
        card("records in review", &format!("{:.1} %", s.records_in_review * 100.0)),
    );
    histogram(&mut out, matching);
    blocking(&mut out, matching);
    waterfalls(&mut out, matching);
    weights(&mut out, matching);
    out.push_str("</html>\n");
    out
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b2733}\
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem}.note{color:#5b6b7a}.cards{display:flex;gap:.8rem;flex-wrap:wrap}\
.card{border:1px solid #d5dde5;border-radius:.6rem;padding:.6rem 1rem;min-width:8rem}.card b{display:block;font-size:1.3rem}\
table{border-collapse:collapse;width:100%}td{padding:.15rem .4rem;border-bottom:1px solid #eef2f5;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}details{margin:.4rem 0;border:1px solid #d5dde5;border-radius:.6rem;padding:.5rem .9rem}\
summary{cursor:pointer}.up{fill:#2f7d4f}.down{fill:#b4453a}.mid{fill:#c98a1b}.off{fill:#b8c4cf}svg text{font:11px system-ui,sans-serif;fill:#33424f}";

fn card(what: &str, value: &str) -> String {
    format!("<div class=\"card\"><b>{value}</b>{what}</div>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const LOW: f64 = -8.0;
const STEP: f64 = 1.0;
const BARS: usize = 40;

/// How the pairs spread over the weights, in the colours of their outcomes.
fn histogram(out: &mut String, matching: &Matching) {
    let mut bars = vec![[0_usize; 3]; BARS];
    let slot = |w: f64| (((w - LOW) / STEP).max(0.0) as usize).min(BARS - 1);
    for pair in &matching.pairs {
        if let Some(bar) = bars.get_mut(slot(pair.weight))
            && let Some(n) = bar.get_mut(usize::from(pair.outcome == Outcome::Review))
        {
            *n += 1;
        }
    }
    let decided: usize = bars.iter().flatten().sum();
    let _ = write!(
        out,
        "<h2>Scores of the pairs</h2><p class=\"note\">Each bar is one bit wide; green: match ({}), amber: review; \
        {} more pairs were scored and left apart.</p><svg viewBox=\"0 0 900 220\" role=\"img\" aria-label=\"histogram of weights\">",
        matching.summary().matches,
        matching.scored.len().saturating_sub(decided)
    );
    let top = bars.iter().map(|b| b.iter().sum::<usize>()).max().unwrap_or(0).max(1) as f64;
    for (i, bar) in bars.iter().enumerate() {
        let mut y = 190.0;
        for (count, class) in bar.iter().zip(["up", "mid", "off"]) {
            let height = (*count as f64 / top) * 180.0;
            y -= height;
            let x = i as f64 * 22.0 + 8.0;
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{y:.1}\" width=\"20\" height=\"{height:.1}\"><title>{count}</title></rect>"
            );
        }
        if i % 4 == 0 {
            let _ = write!(
                out,
                "<text x=\"{:.0}\" y=\"206\">{:+.0}</text>",
                i as f64 * 22.0 + 8.0,
                LOW + STEP * i as f64
            );
        }
    }
    out.push_str("</svg>");
}

fn blocking(out: &mut String, matching: &Matching) {
    let b = &matching.blocking;
    let _ = write!(
        out,
        "<h2>Which keys found the pairs</h2><p class=\"note\">{} pairs compared, {:.1} a record.</p><table>",
        b.pairs,
        matching.summary().candidates_per_record
    );
    let top = b.by_key.iter().map(|k| k.1).max().unwrap_or(1).max(1);
    for (key, count) in &b.by_key {
        let width = *count as f64 / top as f64 * 400.0;
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{count}</td><td><svg width=\"410\" height=\"12\"><rect class=\"off\" width=\"{width:.0}\" height=\"12\"/></svg></td></tr>",
            escape(key)
        );
    }
    out.push_str("</table>");
    for dropped in &b.dropped {
        let _ = write!(out, "<p>Warning: {}.</p>", escape(&dropped.to_string()));
    }
}

/// The pairs nearest to the two thresholds: where a person's eye is worth most.
fn waterfalls(out: &mut String, matching: &Matching) {
    let t = matching.model.thresholds;
    for (title, limit) in
        [("Nearest to the match threshold", t.matched), ("Nearest to the review threshold", t.review)]
    {
        let _ = write!(out, "<h2>{title} (p = {limit:.2})</h2>");
        let mut near: Vec<&Pair> = matching.pairs.iter().collect();
        near.sort_by(|x, y| {
            (x.probability - limit)
                .abs()
                .total_cmp(&(y.probability - limit).abs())
                .then((x.a, x.b).cmp(&(y.a, y.b)))
        });
        for pair in near.into_iter().take(8) {
            let plain = explain(&matching.model, &matching.table, pair.a, pair.b, 0.0);
            let e = explain(&matching.model, &matching.table, pair.a, pair.b, pair.weight - plain.weight);
            waterfall(out, pair, &e);
        }
    }
}

fn waterfall(out: &mut String, pair: &Pair, e: &Explanation) {
    let _ = write!(
        out,
        "<details><summary><b>{}</b>, p = {:.3}, {:+.1} bits. {}</summary><table>",
        pair.outcome.word(),
        pair.probability,
        pair.weight,
        escape(&e.reason)
    );
    let mut sum = 0.0;
    for line in &e.lines {
        let bits = line.bits + line.rarity_bits;
        let (from, to) = (scale(sum), scale(sum + bits));
        sum += bits;
        let class = if bits >= 0.0 { "up" } else { "down" };
        let [a, b] = &line.values;
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{} | {}</td><td class=\"n\">{bits:+.1}</td><td><svg width=\"230\" height=\"12\"><rect class=\"{class}\" x=\"{:.1}\" width=\"{:.1}\" height=\"12\"/></svg></td></tr>",
            escape(&line.field),
            escape(&line.level),
            escape(a),
            escape(b),
            from.min(to),
            (from - to).abs().max(1.0)
        );
    }
    out.push_str("</table></details>");
}

/// Bits between -20 and +30 on a line of 230 points.
fn scale(bits: f64) -> f64 {
    ((bits + 20.0) / 50.0 * 230.0).clamp(0.0, 230.0)
}

fn weights(out: &mut String, matching: &Matching) {
    out.push_str("<h2>What each agreement is worth</h2>");
    for field in &matching.model.fields {
        let _ = write!(
            out,
            "<details><summary>{} (rarity of the value: {:+.2} bits a doubling)</summary><table>",
            escape(&field.field),
            field.rarity
        );
        for level in &field.levels {
            let (from, to) = (scale(0.0), scale(level.bits));
            let class = if level.bits >= 0.0 { "up" } else { "down" };
            let _ = write!(
                out,
                "<tr><td>{}</td><td class=\"n\">{:+.1}</td><td><svg width=\"230\" height=\"12\"><rect class=\"{class}\" x=\"{:.1}\" width=\"{:.1}\" height=\"12\"/></svg></td></tr>",
                escape(&level.level),
                level.bits,
                from.min(to),
                (from - to).abs().max(1.0)
            );
        }
        out.push_str("</table></details>");
    }
}
