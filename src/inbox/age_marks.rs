//! Sampled receive times of records, which give the age of any record without reading it.

use std::collections::VecDeque;

use crate::domain::message::Offset;

/// Smallest spacing of two marks, in microseconds.
const MIN_SPACING_US: i64 = 1_000_000;

/// Maximum number of marks. Beyond it every second mark is dropped and the spacing doubles.
const MAX_MARKS: usize = 4_096;

/// Marks in the order of their offsets.
#[derive(Debug)]
pub(super) struct AgeMarks {
    marks: VecDeque<(Offset, i64)>,
    spacing_us: i64,
}

impl Default for AgeMarks {
    fn default() -> Self {
        Self { marks: VecDeque::new(), spacing_us: MIN_SPACING_US }
    }
}

impl AgeMarks {
    /// Notes the receive time of a record, in microseconds since 1970. Returns the time of the last mark and
    /// the spacing: records closer to that mark need no call.
    pub(super) fn received(&mut self, offset: Offset, at_us: i64) -> (i64, i64) {
        match self.marks.back() {
            Some((_, last)) if at_us.abs_diff(*last) < self.spacing_us.unsigned_abs() => {}
            _ => self.marks.push_back((offset, at_us)),
        }
        if self.marks.len() > MAX_MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
            self.spacing_us = self.spacing_us.saturating_mul(2);
        }
        (self.marks.back().map_or(at_us, |(_, at_us)| *at_us), self.spacing_us)
    }

    /// Returns the receive time of the record at `offset`, at most one spacing too early. Forgets the marks of
    /// earlier records.
    pub(super) fn received_at(&mut self, offset: Offset) -> Option<i64> {
        while self.marks.get(1).is_some_and(|(next, _)| *next <= offset) {
            self.marks.pop_front();
        }
        if self.marks.len() < MAX_MARKS / 2 {
            self.spacing_us = (self.spacing_us / 2).max(MIN_SPACING_US);
        }
        self.marks.front().map(|(_, at_us)| *at_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_comes_from_the_mark_before() {
        let mut marks = AgeMarks::default();
        for offset in 0..100 {
            marks.received(offset, i64::try_from(offset).unwrap_or(0) * 300_000);
        }
        for offset in 0..100 {
            let exact = i64::try_from(offset).unwrap_or(0) * 300_000;
            let found = marks.received_at(offset).unwrap_or(i64::MAX);
            assert!((exact - MIN_SPACING_US..=exact).contains(&found), "{offset}: {found}");
        }
    }

    #[test]
    fn lone_records_have_exact_ages() {
        let mut marks = AgeMarks::default();
        marks.received(7, 1_000_000_000);
        marks.received(8, 5_000_000_000);
        assert_eq!(marks.received_at(8), Some(5_000_000_000));
    }

    #[test]
    fn marks_of_a_long_backlog_are_bounded() {
        let mut marks = AgeMarks::default();
        let day_us = 24 * 3_600 * MIN_SPACING_US;
        let seconds = 24 * 3_600;
        for second in 0..seconds {
            marks.received(second, i64::try_from(second).unwrap_or(0) * MIN_SPACING_US);
        }
        assert!(marks.marks.len() <= MAX_MARKS);
        let spacing = marks.spacing_us;
        assert!(spacing < day_us / 1_000, "{spacing}");
        let half = marks.received_at(seconds / 2).unwrap_or(i64::MAX);
        assert!((day_us / 2 - spacing..=day_us / 2).contains(&half));
    }

    #[test]
    fn marks_follow_a_clock_set_back() {
        let mut marks = AgeMarks::default();
        marks.received(1, 5_000_000_000);
        marks.received(2, 1_000_000_000);
        assert_eq!(marks.received_at(2), Some(1_000_000_000));
    }
}
