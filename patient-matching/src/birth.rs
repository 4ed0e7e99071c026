//! Birth dates as communities keep them: estimated, heaped, swapped, or impossible, and still evidence.
//!
//! Guarantees: a date packs into 32 bits and back without loss; placeholders are missing; a date that the
//! calendar does not know (FEBRL has them) keeps its digits, because a copy may repeat them.

/// A birth date with what is known about its precision. `Birth::MISSING` is the default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Birth(u32);

impl Birth {
    /// No date.
    pub const MISSING: Birth = Birth(0);

    /// Reads `YYYY-MM-DD`, `YYYYMMDD`, `YYYY-MM`, `YYYY`, `DD/MM/YYYY` or `DD-MM-YYYY`. `estimated` marks a
    /// date that was told as an age. Anything else, 1900-01-01 and years outside 1850..=2150 are missing.
    pub fn parse(raw: &str, estimated: bool) -> Birth {
        let raw = raw.trim();
        let date = raw.split(['T', ' ']).next().unwrap_or_default();
        let mut parts = [0_u32; 3];
        let mut count = 0;
        let mut widths = [0_usize; 3];
        for part in date.split(['-', '/', '.']) {
            let (Ok(value), Some(slot), Some(width)) =
                (part.parse(), parts.get_mut(count), widths.get_mut(count))
            else {
                return Birth::MISSING;
            };
            *slot = value;
            *width = part.len();
            count += 1;
        }
        let [p, q, r] = parts;
        let (year, month, day) = match (count, widths) {
            (1, [8, ..]) => (p / 10_000, p / 100 % 100, p % 100),
            (1, [4, ..]) => (p, 0, 0),
            (2, [4, ..]) => (p, q, 0),
            (3, [4, ..]) => (p, q, r),
            (3, [_, _, 4]) => (r, q, p),
            _ => return Birth::MISSING,
        };
        Birth::new(year, month, day, estimated)
    }

    /// A date from its parts; month and day 0 stand for "not known".
    pub fn new(year: u32, month: u32, day: u32, estimated: bool) -> Birth {
        if !(1850..=2150).contains(&year) || month > 99 || day > 99 || (year, month, day) == (1900, 1, 1) {
            return Birth::MISSING;
        }
        Birth((u32::from(estimated) << 28) | (year << 14) | (month << 7) | day)
    }

    /// Whether there is no date.
    pub fn is_missing(self) -> bool {
        self.0 == 0
    }

    /// The year.
    pub fn year(self) -> u32 {
        (self.0 >> 14) & 0x3fff
    }

    /// The month, 0 when not known.
    pub fn month(self) -> u32 {
        (self.0 >> 7) & 0x7f
    }

    /// The day, 0 when not known.
    pub fn day(self) -> u32 {
        self.0 & 0x7f
    }

    /// Whether the source said that the date is estimated, or its day is not known.
    pub fn is_estimated(self) -> bool {
        self.0 >> 28 != 0 || self.day() == 0
    }

    /// Year, month and day as one number, without the precision.
    pub(crate) fn digits(self) -> u32 {
        self.0 & 0x0fff_ffff
    }

    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    pub(crate) fn from_bits(bits: u32) -> Birth {
        Birth(bits)
    }

    /// Whether this day lies after `limit`.
    pub(crate) fn is_after(self, limit: Birth) -> bool {
        !self.is_missing() && !limit.is_missing() && self.digits() > limit.digits()
    }

    /// The date as `YYYY-MM-DD`, shorter when parts are not known.
    pub fn display(self) -> String {
        match (self.year(), self.month(), self.day()) {
            (0, ..) => String::new(),
            (y, 0, _) => format!("{y}"),
            (y, m, 0) => format!("{y}-{m:02}"),
            (y, m, d) => format!("{y}-{m:02}-{d:02}"),
        }
    }
}

/// Days of the year on which more people are "born" than chance allows: survey days and the first of January
/// or July, given to people who only know their age.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Heaped {
    days: Vec<u16>,
}

impl Heaped {
    /// The days that customs make (1 January, 1 and 30 June, 1 July) and those that the given dates show to
    /// be at least four times as frequent as an ordinary day.
    pub fn learn(dates: impl Iterator<Item = Birth>) -> Heaped {
        let mut counts = vec![0_u32; 13 * 32];
        let mut total = 0_u32;
        for date in dates {
            if let Some(slot) = counts.get_mut((date.month() * 32 + date.day()) as usize)
                && (1..=31).contains(&date.day())
                && (1..=12).contains(&date.month())
            {
                *slot += 1;
                total += 1;
            }
        }
        let limit = (f64::from(total) / 365.0 * 4.0).max(20.0);
        let customary = [32 + 1, 6 * 32 + 30, 7 * 32 + 1];
        let days = (0..13 * 32_u16)
            .filter(|&d| {
                customary.contains(&d) || counts.get(usize::from(d)).is_some_and(|&c| f64::from(c) > limit)
            })
            .collect();
        Heaped { days }
    }

    /// From month-day pairs as the model file lists them ("06-30").
    pub fn from_days(days: &[String]) -> Heaped {
        let mut days: Vec<u16> = days
            .iter()
            .filter_map(|d| {
                let (month, day) = d.split_once('-')?;
                Some(month.parse::<u16>().ok()?.min(99) * 32 + day.parse::<u16>().ok()?.min(31))
            })
            .collect();
        days.sort_unstable();
        Heaped { days }
    }

    /// The days as month-day pairs ("06-30").
    pub fn to_days(&self) -> Vec<String> {
        self.days.iter().map(|d| format!("{:02}-{:02}", d / 32, d % 32)).collect()
    }

    /// Whether the date is one that people are given rather than born on.
    pub fn is_soft(&self, date: Birth) -> bool {
        date.is_estimated() || self.days.binary_search(&((date.month() * 32 + date.day()) as u16)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_usual_forms() {
        for (raw, out) in [
            ("1984-03-02", "1984-03-02"),
            ("19840302", "1984-03-02"),
            ("02/03/1984", "1984-03-02"),
            ("1984", "1984"),
            ("1984-03", "1984-03"),
            ("1984-03-02T00:00:00Z", "1984-03-02"),
            ("1900-01-01", ""),
            ("abc", ""),
            ("19841399", "1984-13-99"),
            ("0000-00-00", ""),
            ("99999999999", ""),
            ("1-2-3-4", ""),
        ] {
            assert_eq!(Birth::parse(raw, false).display(), out, "{raw}");
        }
        assert!(Birth::parse("1984", false).is_estimated());
    }

    #[test]
    fn finds_survey_days() {
        let mut dates = vec![Birth::new(1990, 6, 14, false); 100];
        dates.extend((1..=28).flat_map(|d| (1..=12).map(move |m| Birth::new(2000, m, d, false))));
        let heaped = Heaped::learn(dates.into_iter());
        assert!(heaped.is_soft(Birth::new(1980, 6, 14, false)));
        assert!(heaped.is_soft(Birth::new(1980, 1, 1, false)));
        assert!(!heaped.is_soft(Birth::new(1980, 6, 15, false)));
        assert_eq!(Heaped::from_days(&heaped.to_days()), heaped);
    }
}
