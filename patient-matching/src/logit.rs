//! Fitting additive weights: penalised logistic regression by Newton steps.
//!
//! Guarantees: the result does not depend on the number of threads; weights stay finite whatever the data.

#![allow(clippy::indexing_slicing, reason = "all indices come from the same parameter map")]

use crate::levels::{MAX_FIELDS, kind};
use crate::model::{CLOSE_FIELDS, CLOSENESS, CONTEXTS, Features, MAX_LEVELS, RARE};
use crate::table::Layout;

/// A pair with how much of it counts as a true pair and how much as a false one.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub features: Features,
    pub positive: f32,
    pub negative: f32,
}

/// Where each weight stands in the vector of parameters.
pub(crate) struct Map {
    offsets: [usize; MAX_FIELDS],
    fields: usize,
    rarity: usize,
    context: usize,
    close: usize,
    layout: Layout,
}

const MOST_ACTIVE: usize = MAX_FIELDS + 10;
const CHUNKS: usize = 16;

impl Map {
    pub fn new(layout: &Layout, fields: usize) -> Map {
        let mut offsets = [0; MAX_FIELDS];
        let mut at = 1;
        for (i, slot) in offsets.iter_mut().enumerate().take(fields) {
            *slot = at;
            at += kind(i, layout.places).levels.len();
        }
        let context = at + RARE.len();
        Map { offsets, fields, rarity: at, context, close: context + CONTEXTS, layout: layout.clone() }
    }

    pub fn len(&self) -> usize {
        self.close + CLOSE_FIELDS.len() * CLOSENESS * MAX_LEVELS
    }

    pub fn level(&self, field: usize, level: usize) -> usize {
        self.offsets[field] + level
    }

    pub fn rarity(&self, i: usize) -> usize {
        self.rarity + i
    }

    pub fn context(&self, i: usize) -> usize {
        self.context + i
    }

    /// The correction of the level of the `field`th close field.
    pub fn close(&self, field: usize, closeness: usize, level: usize) -> usize {
        self.close + (field * CLOSENESS + closeness) * MAX_LEVELS + level
    }

    fn active(&self, f: &Features, out: &mut [(usize, f64); MOST_ACTIVE]) -> usize {
        out[0] = (0, 1.0);
        let mut n = 1;
        for i in 0..self.fields {
            out[n] = (self.offsets[i] + usize::from(f.levels.0[i]), 1.0);
            n += 1;
        }
        for (i, &r) in f.rarity.iter().enumerate() {
            if r != 0.0 {
                out[n] = (self.rarity + i, f64::from(r));
                n += 1;
            }
        }
        out[n] = (self.context + f.context(&self.layout), 1.0);
        n += 1;
        let closeness = f.closeness(&self.layout);
        for (i, field) in CLOSE_FIELDS.into_iter().enumerate() {
            out[n] = (self.close(i, closeness, usize::from(f.levels.0[field])), 1.0);
            n += 1;
        }
        n
    }

    /// The natural logarithm of the odds of a pair.
    pub fn logit(&self, theta: &[f64], f: &Features) -> f64 {
        let mut active = [(0, 0.0); MOST_ACTIVE];
        let n = self.active(f, &mut active);
        active[..n].iter().map(|&(i, x)| theta[i] * x).sum()
    }
}

/// A Gaussian prior on the weights.
pub(crate) struct Prior {
    pub mean: Vec<f64>,
    pub precision: Vec<f64>,
}

/// One damped Newton step; returns the largest change of a weight.
pub(crate) fn step(map: &Map, samples: &[Sample], prior: &Prior, theta: &mut [f64], threads: usize) -> f64 {
    let p = map.len();
    let size = samples.len().div_ceil(CHUNKS).max(1);
    let chunks: Vec<&[Sample]> = samples.chunks(size).collect();
    let per_thread = chunks.len().div_ceil(threads.max(1)).max(1);
    let current: &[f64] = theta;
    let sums: Vec<Vec<(Vec<f64>, Vec<f64>)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = chunks
            .chunks(per_thread)
            .map(|own| scope.spawn(move || own.iter().map(|c| sums_of(map, c, current)).collect()))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or_default()).collect()
    });
    let mut gradient: Vec<f64> = (0..p).map(|i| prior.precision[i] * (prior.mean[i] - current[i])).collect();
    let mut hessian = vec![0.0; p * p];
    for (i, precision) in prior.precision.iter().enumerate() {
        hessian[i * p + i] = *precision;
    }
    for (g, h) in sums.into_iter().flatten() {
        gradient.iter_mut().zip(g).for_each(|(a, b)| *a += b);
        hessian.iter_mut().zip(h).for_each(|(a, b)| *a += b);
    }
    let Some(mut change) = solve(&mut hessian, gradient, p) else { return 0.0 };
    let most = change.iter().fold(0.0_f64, |m, d| m.max(d.abs()));
    if most > 2.0 {
        change.iter_mut().for_each(|d| *d *= 2.0 / most);
    }
    theta.iter_mut().zip(&change).for_each(|(t, d)| *t += d);
    most
}

fn sums_of(map: &Map, samples: &[Sample], theta: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let p = map.len();
    let mut gradient = vec![0.0; p];
    let mut hessian = vec![0.0; p * p];
    let mut active = [(0, 0.0); MOST_ACTIVE];
    for s in samples {
        let n = map.active(&s.features, &mut active);
        let active = &active[..n];
        let logit: f64 = active.iter().map(|&(i, x)| theta[i] * x).sum();
        let odds = 1.0 / (1.0 + (-logit).exp());
        let (positive, negative) = (f64::from(s.positive), f64::from(s.negative));
        let slope = positive * (1.0 - odds) - negative * odds;
        let curve = (positive + negative) * odds * (1.0 - odds);
        for (k, &(i, x)) in active.iter().enumerate() {
            gradient[i] += slope * x;
            let row = &mut hessian[i * p..(i + 1) * p];
            for &(j, y) in &active[..=k] {
                row[j] += curve * x * y;
            }
        }
    }
    (gradient, hessian)
}

/// Solves the symmetric positive system whose lower triangle is given, by Cholesky decomposition.
fn solve(a: &mut [f64], mut b: Vec<f64>, p: usize) -> Option<Vec<f64>> {
    for j in 0..p {
        for i in j..p {
            let mut sum = a[i * p + j];
            for k in 0..j {
                sum -= a[i * p + k] * a[j * p + k];
            }
            if i == j {
                if !(sum.is_finite() && sum > 0.0) {
                    return None;
                }
                a[j * p + j] = sum.sqrt();
            } else {
                a[i * p + j] = sum / a[j * p + j];
            }
        }
    }
    for i in 0..p {
        let known: f64 = (0..i).map(|k| a[i * p + k] * b[k]).sum();
        b[i] = (b[i] - known) / a[i * p + i];
    }
    for i in (0..p).rev() {
        let known: f64 = (i + 1..p).map(|k| a[k * p + i] * b[k]).sum();
        b[i] = (b[i] - known) / a[i * p + i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_a_small_system() {
        let mut a = vec![4.0, 0.0, 2.0, 3.0];
        let x = solve(&mut a, vec![10.0, 8.0], 2).unwrap();
        assert!((x[0] - 1.75).abs() < 1e-9 && (x[1] - 1.5).abs() < 1e-9, "{x:?}");
        assert!(solve(&mut [-1.0], vec![1.0], 1).is_none());
    }
}
