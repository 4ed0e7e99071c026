//! Training without labels.
//!
//! True pairs hide among the compared pairs; what tells them apart is how often each pattern would occur if
//! nobody were there twice. Those counts, the *background*, come from the data itself:
//!
//! - linking two sources: pairs inside one source, found by the same keys. They hold relatives and namesakes in
//!   the right proportions, with all dependencies between family name, phone, place and mother.
//! - one source: pairs whose names agree although their birth dates lie more than ten years apart are relatives
//!   and namesakes too. How they would spread over the other levels of the birth date is told by the pairs of
//!   the same kind of household whose given names differ.
//!
//! The weights are the additive function `w` for which `background x (1 + 2^w)` fits the compared pairs best,
//! found by expectation and maximisation; each maximisation is a penalised logistic regression.
//!
//! Guarantees: no label is read; the same people in any order and on any number of threads give the same model.

#![allow(clippy::indexing_slicing, reason = "levels, classes and parameters are bounded by their tables")]

use crate::birth::Heaped;
use crate::block::{Wanted, visit_pairs};
use crate::compare::Comparer;
use crate::levels::*;
use crate::logit::{self, Map, Prior, Sample};
use crate::model::*;
use crate::pool::mix;
use crate::table::Table;
use std::collections::BTreeMap;

/// How training works. The defaults serve; `threads` is taken from the machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads to use; the result is the same for any number.
    pub threads: usize,
    /// Records that may share a key before it is narrowed.
    pub cap: usize,
    /// Pairs to learn from; more are thinned out.
    pub sample: usize,
    /// Rounds of expectation and maximisation.
    pub rounds: usize,
}

impl Default for Options {
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Options { threads, cap: 120, sample: 400_000, rounds: 10 }
    }
}

/// A compared pair of the sample.
#[derive(Clone, Copy)]
struct Pair {
    order: (u32, u32),
    features: Features,
    weight: f32,
    /// Whether a key without the birth date found it, so that all birth dates had the same chance.
    undated: bool,
    /// 0 across the sources (or in the only one), 1 within the first, 2 within the second.
    within: u8,
}

/// Learns a model from a canonical table. With `Purpose::Link` the two sources of the table are linked.
pub(crate) fn train(table: &Table, purpose: Purpose, options: &Options) -> Model {
    let heaped = Heaped::learn((0..table.len() as u32).map(|r| table.birth(r)));
    let reference_year = reference_year(table);
    let mut model = blank(table, purpose, &heaped, reference_year);
    let rarity = Rarity::new(&model.frequencies, &table.layout);
    let mut rarities = Vec::with_capacity(table.pools.names.len());
    rarity.extend(&table.pools, 0, &mut rarities);
    let pairs = sample(table, purpose, options, &heaped, reference_year, &rarities);
    let map = Map::new(&table.layout, model.field_count());
    let theta = match purpose {
        Purpose::Dedupe => fit_within(&map, &pairs, table, options),
        Purpose::Link => fit_across(&map, &pairs, table, options),
    };
    fill(&mut model, &map, &theta);
    model.relatives = tells_households(&pairs);
    let share: f64 = pairs.iter().filter(|p| p.within == 0).map(|p| f64::from(p.weight)).sum();
    model.trained_on = Training {
        records: table.len() as u64,
        pairs: share as u64,
        expected_matches: pairs
            .iter()
            .filter(|p| p.within == 0)
            .map(|p| f64::from(p.weight) * odds(map.logit(&theta, &p.features)))
            .sum(),
    };
    model
}

fn odds(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The year in which ages are counted: the latest in which people are born, leaving out the two in a thousand
/// whose year is a slip into the future.
fn reference_year(table: &Table) -> u32 {
    let mut years: Vec<u32> =
        (0..table.len() as u32).map(|r| table.birth(r).year()).filter(|y| *y > 0).collect();
    years.sort_unstable_by(|x, y| y.cmp(x));
    years.get(years.len() / 500).copied().unwrap_or(0)
}

fn blank(table: &Table, purpose: Purpose, heaped: &Heaped, reference_year: u32) -> Model {
    let layout = table.layout.clone();
    let fields = FIXED + layout.places + layout.identifiers.len();
    Model {
        format: FORMAT,
        purpose,
        prior_bits: 0.0,
        fields: (0..fields)
            .map(|i| FieldBits {
                field: Model::field_name(&layout, i),
                levels: kind(i, layout.places)
                    .levels
                    .iter()
                    .map(|l| LevelBits { level: (*l).to_owned(), bits: 0.0 })
                    .collect(),
                rarity: 0.0,
            })
            .collect(),
        one_to_one_bits: 0.0,
        relatives: false,
        household_bits: Vec::new(),
        closeness_bits: Vec::new(),
        frequencies: frequencies(table),
        estimated_days: heaped.to_days(),
        reference_year,
        thresholds: Thresholds { matched: 0.5, review: 0.1, margin_bits: 3.0 },
        trained_on: Training::default(),
        layout,
    }
}

const COMMON: u64 = 10;
const MOST_COMMON: usize = 5_000;

fn frequencies(table: &Table) -> BTreeMap<String, Frequencies> {
    let mut out = BTreeMap::new();
    for (field, column) in RARE {
        let mut counts = vec![0_u64; table.pools.names.len()];
        for r in 0..table.len() as u32 {
            counts[table.row(r)[column] as usize] += 1;
        }
        counts[0] = 0;
        let mut common: Vec<(u64, u32)> =
            counts.iter().enumerate().filter(|(_, c)| **c >= COMMON).map(|(i, c)| (*c, i as u32)).collect();
        common.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        common.truncate(MOST_COMMON);
        out.insert(
            Model::field_name(&table.layout, field),
            Frequencies {
                records: counts.iter().sum(),
                distinct: counts.iter().filter(|c| **c > 0).count() as u64,
                common: common.into_iter().map(|(c, i)| (table.pools.names.text(i).to_owned(), c)).collect(),
            },
        );
    }
    out
}

/// Draws the pairs to learn from, by a hash of their content. Pairs that look like strangers are drawn more
/// rarely and weigh more.
fn sample(
    table: &Table,
    purpose: Purpose,
    options: &Options,
    heaped: &Heaped,
    reference_year: u32,
    rarities: &[[f32; 4]],
) -> Vec<Pair> {
    let prints = table.fingerprints();
    let expected = table.len() as f64 * 12.0;
    let rate = (options.sample as f64 / expected).min(1.0);
    let limit = |rate: f64| (rate * u64::MAX as f64) as u64;
    let draw = |a: u32, b: u32| mix(prints[a as usize].wrapping_add(prints[b as usize]) ^ 0x5bd1);
    let coarse = limit(rate);
    let (states, _) = visit_pairs(
        table,
        options.cap,
        options.threads,
        Wanted::All,
        |a, b| draw(a, b) <= coarse,
        || {
            let comparer = Comparer::new(table.texts(), &table.layout, heaped, reference_year);
            (Featurer::new(comparer, rarities, &[]), Vec::new())
        },
        |(featurer, out), a, b, undated| {
            let features = featurer.features(table.row(a), table.row(b));
            let share = if features.levels.0[F_GIVEN] >= LIKE70
                || features.closeness(&table.layout) == CLOSENESS - 1
            {
                STRANGERS
            } else {
                1.0
            };
            if draw(a, b) > limit(rate * share) {
                return;
            }
            let (sa, sb) = (table.sources[a as usize], table.sources[b as usize]);
            let within = if purpose == Purpose::Dedupe || sa != sb { 0 } else { sa + 1 };
            let weight = 1.0 / (rate * share);
            out.push(Pair { order: (a, b), features, weight: weight as f32, within, undated });
        },
    );
    let mut pairs: Vec<Pair> = states.into_iter().flat_map(|(_, out)| out).collect();
    pairs.sort_unstable_by_key(|p| p.order);
    pairs
}

/// Share of the pairs with different given names, or of people far from each other, that are drawn.
const STRANGERS: f64 = 0.25;

/// Whether the given names say that these are two people.
fn disagree(f: &Features) -> bool {
    f.levels.0[F_GIVEN] >= NAME_ELSE
}

/// The kind of household two records share, as far as it bears on ages.
fn class(f: &Features, table: &Table) -> usize {
    let l = &f.levels.0;
    f.context(&table.layout) / 3 * 2 + usize::from(l[F_SEX] == 1)
}

const CLASSES: usize = 54;

/// Fits one source.
fn fit_within(map: &Map, pairs: &[Pair], table: &Table, options: &Options) -> Vec<f64> {
    let dated = pairs.iter().filter(|p| p.features.levels.0[F_BIRTH] < BIRTH_ONE).count();
    let (names, births) = strangers(table);
    let kin = tells_households(pairs);
    let background = |posterior: &[f64], free: &[f64]| -> Vec<Sample> {
        if !kin {
            let rest = pairs
                .iter()
                .zip(free)
                .map(|(pair, p)| negative(pair.features, f64::from(pair.weight) * (1.0 - p)));
            return rest.collect();
        }
        let spread = if dated * 4 > pairs.len() { Some(spread(pairs, free, table, &births)) } else { None };
        let mut out = Vec::new();
        for (pair, p) in pairs.iter().zip(posterior) {
            let own = f64::from(pair.weight) * (1.0 - p);
            if disagree(&pair.features) || !pair.undated {
                out.push(negative(pair.features, own));
                if spread.is_none() && pair.undated && pair.features.levels.0[F_GIVEN] == NAME_ELSE {
                    let rest = names[usize::from(NAME_ELSE)];
                    for (level, share) in names.iter().enumerate().take(usize::from(NAME_ELSE)) {
                        let mut f = pair.features;
                        f.levels.0[F_GIVEN] = level as Level;
                        out.push(negative(f, own * share / rest));
                    }
                }
            } else if let Some(spread) = &spread
                && pair.features.levels.0[F_BIRTH] == BIRTH_FAR
            {
                let class = &spread[class(&pair.features, table)];
                for (level, share) in class.iter().enumerate() {
                    let weight = own * share / class[usize::from(BIRTH_FAR)];
                    if weight > 1e-3 {
                        let mut f = pair.features;
                        f.levels.0[F_BIRTH] = level as Level;
                        out.push(negative(f, weight));
                    }
                }
            }
        }
        out
    };
    let own = vec![true; pairs.len()];
    expect_and_maximise(map, pairs, &own, table, options, background)
}

/// Whether the people have phones, mothers or households: without these, relatives look like strangers, and the
/// textbook's independence serves better than a background of relatives.
fn tells_households(pairs: &[Pair]) -> bool {
    let known = |l: &[Level; MAX_FIELDS]| {
        l[F_PHONE] < PHONE_ONE || l[F_MOTHER] < NEAR_ONE || l[F_HOUSEHOLD] < NEAR_ONE
    };
    pairs.iter().filter(|p| known(&p.features.levels.0)).count() * 20 > pairs.len()
}

fn negative(features: Features, weight: f64) -> Sample {
    Sample { features, positive: 0.0, negative: weight as f32 }
}

/// How the birth dates of two people with different given names compare, by kind of household. Kinds with few
/// pairs lean on their closeness, and that on people picked at random.
fn spread(
    pairs: &[Pair],
    posterior: &[f64],
    table: &Table,
    strangers: &[f64; MAX_LEVELS],
) -> Vec<[f64; MAX_LEVELS]> {
    let mut counts = vec![[0.0; MAX_LEVELS]; CLASSES];
    for (pair, p) in
        pairs.iter().zip(posterior).filter(|(p, _)| p.undated && p.features.levels.0[F_GIVEN] == NAME_ELSE)
    {
        counts[class(&pair.features, table)][usize::from(pair.features.levels.0[F_BIRTH])] += 1.0 - p;
    }
    let mut pooled = [[0.0; MAX_LEVELS]; CLOSENESS];
    for (class, row) in counts.iter().enumerate() {
        pooled[class_closeness(class)].iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
    }
    for (closeness, row) in pooled.iter_mut().enumerate() {
        if closeness == CLOSENESS - 1 {
            *row = *strangers;
        } else {
            smooth(row, strangers);
        }
    }
    for (class, row) in counts.iter_mut().enumerate() {
        smooth(row, &pooled[class_closeness(class)]);
    }
    counts
}

/// The closeness of a kind of household, as far as the kind tells it.
fn class_closeness(class: usize) -> usize {
    let (family, phone, place) = (class / 18, class / 6 % 3, class / 2 % 3);
    if phone == 0 {
        0
    } else if family == 0 && place == 0 {
        1
    } else {
        2
    }
}

fn smooth(counts: &mut [f64; MAX_LEVELS], towards: &[f64; MAX_LEVELS]) {
    let n: f64 = counts.iter().sum();
    for (slot, share) in counts.iter_mut().zip(towards) {
        *slot = (*slot + SMOOTH * share) / (n + SMOOTH);
    }
}

const SMOOTH: f64 = 100.0;

/// The features of people picked at random.
fn random_pairs(table: &Table) -> Vec<Features> {
    let heaped = Heaped::learn((0..table.len() as u32).map(|r| table.birth(r)));
    let comparer = Comparer::new(table.texts(), &table.layout, &heaped, reference_year(table));
    let mut featurer = Featurer::new(comparer, &[], &[]);
    let n = table.len() as u64;
    (0..RANDOM_PAIRS)
        .map(|i| ((mix(i * 2 + 1) % n.max(1)) as u32, (mix(i * 2 + 2) % n.max(1)) as u32))
        .filter(|(a, b)| a != b)
        .map(|(a, b)| Features { rarity: [0.0; 4], ..featurer.features(table.row(a), table.row(b)) })
        .collect()
}

const RANDOM_PAIRS: u64 = 50_000;

/// How the given names of two people of the same sex picked at random compare, and how their birth dates do.
fn strangers(table: &Table) -> ([f64; NAME_ELSE as usize + 1], [f64; MAX_LEVELS]) {
    let mut names = [0.5; NAME_ELSE as usize + 1];
    let mut births = [0.0; MAX_LEVELS];
    births[..BIRTH.levels.len()].fill(0.01);
    for f in random_pairs(table) {
        let l = f.levels.0;
        if l[F_SEX] != 1 && l[F_GIVEN] <= NAME_ELSE {
            names[usize::from(l[F_GIVEN])] += 1.0;
        }
        births[usize::from(l[F_BIRTH])] += 1.0;
    }
    let (sum, total): (f64, f64) = (names.iter().sum(), births.iter().sum());
    (names.map(|c| c / sum), births.map(|c| c / total))
}

/// Fits two sources: what lies within them is the background of what lies across.
fn fit_across(map: &Map, pairs: &[Pair], table: &Table, options: &Options) -> Vec<f64> {
    let strangers = |p: &&Pair| p.features.levels.0[F_GIVEN] == NAME_ELSE;
    let weigh = |within: bool| -> f64 {
        pairs.iter().filter(|p| (p.within > 0) == within).filter(strangers).map(|p| f64::from(p.weight)).sum()
    };
    let scale = weigh(false) / weigh(true).max(1.0);
    let background = |_: &[f64], _: &[f64]| -> Vec<Sample> {
        pairs
            .iter()
            .filter(|p| p.within > 0)
            .map(|p| negative(p.features, f64::from(p.weight) * scale))
            .collect()
    };
    let own: Vec<bool> = pairs.iter().map(|p| p.within == 0).collect();
    expect_and_maximise(map, pairs, &own, table, options, background)
}

/// The rounds. `own` marks the pairs among which true ones are sought; `background` gives the false ones for
/// the present posteriors.
fn expect_and_maximise(
    map: &Map,
    pairs: &[Pair],
    own: &[bool],
    table: &Table,
    options: &Options,
    background: impl Fn(&[f64], &[f64]) -> Vec<Sample>,
) -> Vec<f64> {
    let mut posterior = first_guess(map, pairs, own, table);
    let mut free = posterior.clone();
    let bounded = tells_households(pairs);
    if bounded {
        bound(&mut posterior, pairs, table);
    }
    let mut prior: Option<Prior> = None;
    let mut theta = Vec::new();
    for round in 0..options.rounds {
        let mut samples = background(&posterior, &free);
        let prior = prior.get_or_insert_with(|| {
            let prior = start(map, &samples, table);
            theta.clone_from(&prior.mean);
            prior
        });
        for (i, pair) in pairs.iter().enumerate() {
            posterior[i] = if own[i] { odds(map.logit(&theta, &pair.features)) } else { 0.0 };
        }
        free.clone_from(&posterior);
        if bounded {
            bound(&mut posterior, pairs, table);
        }
        samples.extend(pairs.iter().zip(&posterior).filter(|(_, p)| **p > 1e-4).map(|(pair, p)| Sample {
            features: pair.features,
            positive: (*p * f64::from(pair.weight)) as f32,
            negative: 0.0,
        }));
        let steps = if round == 0 { 3 } else { 1 };
        let before = theta.clone();
        for _ in 0..steps {
            logit::step(map, &samples, prior, &mut theta, options.threads);
        }
        clamp_missing(map, &mut theta, table);
        let change = before.iter().zip(&theta).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()));
        if change < 0.02 && round > 3 {
            break;
        }
    }
    theta
}

/// First posteriors, as textbooks have them: every field for itself, against people picked at random.
fn first_guess(map: &Map, pairs: &[Pair], own: &[bool], table: &Table) -> Vec<f64> {
    let random: Vec<Sample> = random_pairs(table).into_iter().map(|f| negative(f, 1.0)).collect();
    let mut theta = start(map, &random, table).mean;
    let n = table.len() as f64;
    theta[0] = (0.2 / n.max(1.0)).ln();
    let odds = |pair: &Pair| odds(map.logit(&theta, &pair.features));
    pairs.iter().zip(own).map(|(pair, own)| if *own { odds(pair) } else { 0.0 }).collect()
}

/// First weights: what common sense expects of true pairs against what the background shows.
fn start(map: &Map, background: &[Sample], table: &Table) -> Prior {
    let fields = FIXED + table.layout.places + table.layout.identifiers.len();
    let mut mean = vec![0.0; map.len()];
    let mut precision = vec![1.0; map.len()];
    let total: f64 = background.iter().map(|s| f64::from(s.negative)).sum::<f64>().max(1.0);
    for field in 0..fields {
        let kind = kind(field, table.layout.places);
        let mut counts = vec![0.0; kind.levels.len()];
        for s in background {
            counts[usize::from(s.features.levels.0[field])] += f64::from(s.negative);
        }
        let mut most = 7.0;
        for (level, count) in counts.iter().enumerate() {
            let u = (count + 0.5) / (total + 0.5 * counts.len() as f64);
            let at = map.level(field, level);
            let last = level + 3 == counts.len();
            mean[at] = if is_missing(kind, level as Level) {
                0.0
            } else if *count < SEEN {
                (kind.expected[level] / u).ln().clamp(-5.0, if last { 0.0 } else { most })
            } else {
                (kind.expected[level] / u).ln().clamp(-5.0, 7.0)
            };
            if level == 0 {
                most = mean[at].max(1.0);
            }
            precision[at] = if is_missing(kind, level as Level) { 4.0 } else { 1.0 };
        }
    }
    for i in 0..RARE.len() {
        mean[map.rarity(i)] = std::f64::consts::LN_2 * 0.5;
        precision[map.rarity(i)] = 20.0;
    }
    for slot in &mut precision[map.context(0)..] {
        *slot = STIFF;
    }
    mean[0] = (0.1 * table.len() as f64 / total).ln();
    precision[0] = 0.01;
    Prior { mean, precision }
}

/// A level of fewer false pairs is worth no more than the same value is, and a difference nothing.
const SEEN: f64 = 3.0;

/// How firmly corrections for households are held towards nothing, in pairs.
const STIFF: f64 = 20.0;

/// Holds the share of unlikely levels among true pairs below what common sense allows.
fn bound(posterior: &mut [f64], pairs: &[Pair], table: &Table) {
    let fields = FIXED + table.layout.places + table.layout.identifiers.len();
    let mut sums = vec![[0.0; MAX_LEVELS]; fields];
    let mut total = 0.0;
    for (pair, p) in pairs.iter().zip(posterior.iter()) {
        let p = p * f64::from(pair.weight);
        total += p;
        for (sum, &level) in sums.iter_mut().zip(&pair.features.levels.0) {
            sum[usize::from(level)] += p;
        }
    }
    for (field, sum) in sums.iter_mut().enumerate() {
        for (slot, most) in sum.iter_mut().zip(kind(field, table.layout.places).bound) {
            *slot = if *slot > most * total { most * total / *slot } else { 1.0 };
        }
    }
    for (pair, p) in pairs.iter().zip(posterior) {
        let factor: f64 =
            sums.iter().zip(&pair.features.levels.0).map(|(s, &l)| s[usize::from(l)]).fold(1.0, f64::min);
        *p *= factor;
    }
}

/// A missing value says little: at most one bit.
fn clamp_missing(map: &Map, theta: &mut [f64], table: &Table) {
    let fields = FIXED + table.layout.places + table.layout.identifiers.len();
    for field in 0..fields {
        let kind = kind(field, table.layout.places);
        for level in 0..kind.levels.len() {
            if is_missing(kind, level as Level) {
                let slot = &mut theta[map.level(field, level)];
                *slot = slot.clamp(-std::f64::consts::LN_2, std::f64::consts::LN_2);
            }
        }
    }
}

/// Writes the weights into the model, in bits.
fn fill(model: &mut Model, map: &Map, theta: &[f64]) {
    let bits = |i: usize| theta[i] / std::f64::consts::LN_2;
    model.prior_bits = bits(0);
    for (i, field) in model.fields.iter_mut().enumerate() {
        for (l, level) in field.levels.iter_mut().enumerate() {
            level.bits = bits(map.level(i, l));
        }
        if let Some(r) = RARE.iter().position(|(f, _)| *f == i) {
            field.rarity = bits(map.rarity(r));
        }
    }
    model.household_bits = (0..CONTEXTS)
        .map(|c| ContextBits { combination: context_words(c), bits: bits(map.context(c)) })
        .filter(|c| c.bits.abs() > 1e-9)
        .collect();
    for (f, field) in CLOSE_FIELDS.into_iter().enumerate() {
        for closeness in 0..CLOSENESS {
            let levels = kind(field, model.layout.places).levels.len();
            model.closeness_bits.push(ClosenessBits {
                field: kind(field, model.layout.places).name.to_owned(),
                closeness: closeness_word(closeness).to_owned(),
                bits: (0..levels).map(|l| bits(map.close(f, closeness, l))).collect(),
            });
        }
    }
}
