//! A queue of numbers that mostly go on as they did: instants of scrapes, values of a counter, values of a gauge.
//!
//! What is kept is how far each number is from a line through them, in the smallest form that will do. Scrapes come at a
//! steady pace, so that one byte says when; a counter of a steady service takes one or two, anything at most eight.

/// A queue of numbers.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// The line: what is expected at the first place of the list, and how much more at each place after it.
    base: i64,
    slope: i32,
    /// Before this place of the list stands what was popped.
    start: u32,
    kept: Kept,
}

#[derive(Clone, Debug)]
enum Kept {
    In1(Vec<i8>),
    In2(Vec<i16>),
    In4(Vec<i32>),
    /// The numbers themselves.
    Whole(Vec<i64>),
}

/// The same for each form.
macro_rules! each {
    ($kept:expr, $list:ident => $result:expr) => {
        match $kept {
            Kept::In1($list) => $result,
            Kept::In2($list) => $result,
            Kept::In4($list) => $result,
            Kept::Whole($list) => $result,
        }
    };
}

/// A number that lies on no line, and costs no more than those that do.
pub(super) const MARKER: i64 = i64::MIN;

/// What a list that is full should have room for beside its `len`: a quarter more. By doubling, a third of what only
/// grows until it is full would be empty.
pub const fn quarter_more(len: usize) -> usize {
    len / 4 + 4
}

/// Makes room for one more in a list that is full.
pub fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(quarter_more(list.len()));
    }
}

impl Default for Column {
    fn default() -> Column {
        Column::new()
    }
}

impl Column {
    pub const fn new() -> Column {
        Column { base: 0, slope: 0, start: 0, kept: Kept::In1(Vec::new()) }
    }

    pub fn len(&self) -> usize {
        self.list_len() - self.start as usize
    }

    fn list_len(&self) -> usize {
        each!(&self.kept, list => list.len())
    }

    /// The oldest is at 0.
    pub fn get(&self, place: usize) -> Option<i64> {
        let place = place + self.start as usize;
        let (distance, marker) = match &self.kept {
            Kept::In1(list) => (i64::from(*list.get(place)?), i64::from(i8::MIN)),
            Kept::In2(list) => (i64::from(*list.get(place)?), i64::from(i16::MIN)),
            Kept::In4(list) => (i64::from(*list.get(place)?), i64::from(i32::MIN)),
            Kept::Whole(list) => return list.get(place).copied(),
        };
        Some(if distance == marker { MARKER } else { on_line(self.base, self.slope, place).wrapping_add(distance) })
    }

    pub fn push(&mut self, number: i64) {
        let is_full = each!(&self.kept, list => list.len() == list.capacity());
        if is_full {
            self.make_room();
        }
        if !self.append(number) {
            self.choose_with(number);
        }
    }

    /// The same as pushing each; takes no more room on the way.
    pub fn extend(&mut self, numbers: &[i64]) {
        if numbers.len() <= self.len() {
            for number in numbers {
                self.push(*number);
            }
            return;
        }
        let mut all: Vec<i64> = (0..self.len()).filter_map(|place| self.get(place)).collect();
        all.extend(numbers);
        *self = Column::of(&all);
    }

    pub fn pop(&mut self) -> Option<i64> {
        let first = self.get(0)?;
        self.start += 1;
        Some(first)
    }

    /// Returns whether the number fits the form.
    fn append(&mut self, number: i64) -> bool {
        /// The least number of a form stands for the marker.
        fn form<T: TryFrom<i64> + PartialEq>(distance: i64, is_marker: bool, least: T) -> Option<T> {
            if is_marker { Some(least) } else { T::try_from(distance).ok().filter(|distance| *distance != least) }
        }
        let distance = number.wrapping_sub(on_line(self.base, self.slope, self.list_len()));
        let is_marker = number == MARKER;
        match &mut self.kept {
            Kept::In1(list) => form(distance, is_marker, i8::MIN).map(|distance| list.push(distance)),
            Kept::In2(list) => form(distance, is_marker, i16::MIN).map(|distance| list.push(distance)),
            Kept::In4(list) => form(distance, is_marker, i32::MIN).map(|distance| list.push(distance)),
            Kept::Whole(list) => {
                list.push(number);
                Some(())
            }
        }
        .is_some()
    }

    /// What was popped goes where that is worth the copying.
    fn make_room(&mut self) {
        if self.start as usize > self.len() / 64 {
            let popped = std::mem::take(&mut self.start) as usize;
            each!(&mut self.kept, list => drop(list.drain(..popped)));
            self.base = on_line(self.base, self.slope, popped);
        } else {
            each!(&mut self.kept, list => grow(list));
        }
    }

    #[cold]
    fn choose_with(&mut self, number: i64) {
        let mut numbers: Vec<i64> = (0..self.len()).filter_map(|place| self.get(place)).collect();
        numbers.push(number);
        *self = Column::of(&numbers);
    }

    /// In the smallest form of which the distances need at most half: so far may they go on before it must be chosen
    /// anew.
    pub fn of(numbers: &[i64]) -> Column {
        let real = || numbers.iter().copied().enumerate().filter(|(_, number)| *number != MARKER);
        let (first, last) = (real().next().unwrap_or((0, 0)), real().next_back().unwrap_or((0, 0)));
        let slope = slope(first, last);
        let base = first.1.wrapping_sub(on_line(0, slope, first.0));
        let distances = || real().map(|(place, number)| number.wrapping_sub(on_line(base, slope, place)));
        let (lowest, highest) = (distances().min().unwrap_or(0), distances().max().unwrap_or(0));
        let spread = highest.checked_sub(lowest).unwrap_or(i64::MAX);
        // A window that only moves needs little: what was popped gives its room back.
        let room = numbers.len() + numbers.len() / 16 + 4;
        let kept = if spread <= i64::from(i8::MAX) {
            Kept::In1(Vec::with_capacity(room))
        } else if spread <= i64::from(i16::MAX) {
            Kept::In2(Vec::with_capacity(room))
        } else if spread <= i64::from(i32::MAX) {
            Kept::In4(Vec::with_capacity(room))
        } else {
            Kept::Whole(Vec::with_capacity(room))
        };
        let mut column = Column { base: base.wrapping_add(lowest).wrapping_add(spread / 2), slope, start: 0, kept };
        for number in numbers {
            let fits = column.append(*number);
            debug_assert!(fits, "half of a form is enough");
        }
        column
    }

    /// How many bytes each number takes.
    #[cfg(test)]
    pub fn width(&self) -> usize {
        match self.kept {
            Kept::In1(_) => 1,
            Kept::In2(_) => 2,
            Kept::In4(_) => 4,
            Kept::Whole(_) => 8,
        }
    }
}

fn on_line(base: i64, slope: i32, place: usize) -> i64 {
    base.wrapping_add(i64::from(slope).wrapping_mul(i64::try_from(place).unwrap_or(i64::MAX)))
}

/// Of the line from one number, given with its place, to another; rounded.
fn slope((from, first): (usize, i64), (to, last): (usize, i64)) -> i32 {
    let steps = i64::try_from(to.saturating_sub(from)).unwrap_or(i64::MAX).max(1);
    let rise = last.saturating_sub(first);
    let slope = rise.saturating_add(rise.signum() * (steps / 2)) / steps;
    i32::try_from(slope).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn step() -> impl Strategy<Value = i64> {
        prop_oneof![
            6 => -100i64..100,
            3 => -40_000i64..40_000,
            2 => any::<i32>().prop_map(i64::from),
            1 => any::<i64>(),
        ]
    }

    proptest! {
        /// Beside a queue of numbers as they are.
        #[test]
        fn what_is_read_is_what_was_pushed(
            first in prop_oneof![Just(0i64), Just(MARKER), Just(i64::MAX), Just(1_800_000_000_000)],
            pace in prop_oneof![Just(0i64), Just(1000), Just(1 << 40)],
            steps in prop::collection::vec((step(), 0u8..10, 0usize..4), 0..120),
        ) {
            let (mut column, mut plain, mut line) = (Column::default(), VecDeque::new(), first);
            for (step, kind, popped) in steps {
                line = line.wrapping_add(pace).wrapping_add(if kind < 2 { step } else { 0 });
                let number = if kind == 9 { MARKER } else { line.wrapping_add(step % 100) };
                column.push(number);
                plain.push_back(number);
                for _ in 0..popped.saturating_sub(1) {
                    prop_assert_eq!(column.pop(), plain.pop_front());
                }
                prop_assert_eq!(column.len(), plain.len());
                let mut all: VecDeque<i64> = (0..column.len()).filter_map(|place| column.get(place)).collect();
                prop_assert_eq!(&all, &plain);
                prop_assert_eq!(column.get(plain.len()), None);
                let (older, newer) = all.make_contiguous().split_at(plain.len() / usize::from(kind + 1));
                let mut parts = Column::of(older);
                parts.extend(newer);
                prop_assert!((0..=plain.len()).map(|place| parts.get(place)).eq((0..=plain.len()).map(|place| plain.get(place).copied())));
            }
        }
    }

    /// A queue that is full takes no more room, and neither is copied nor has its form chosen at each number.
    #[test]
    fn a_full_queue_stays_as_it_is() {
        let noise = |n: i64| (n * 7919) % 23;
        let mut column = Column::default();
        (0..300).for_each(|n| column.push(1_000_000 + n * 15_000 + noise(n)));
        let (mut chosen, mut moved) = (0, 0);
        for n in 300..100_300 {
            let (line, start) = ((column.base, column.slope), column.start);
            column.push(1_000_000 + n * 15_000 + noise(n));
            column.pop();
            let is_moved = column.start <= start;
            moved += u32::from(is_moved);
            chosen += u32::from((column.base, column.slope) != line && !is_moved);
        }
        assert_eq!((column.width(), chosen), (1, 0));
        assert!((1..20_000).contains(&moved), "{moved} times");
        let Kept::In1(list) = &column.kept else { unreachable!() };
        assert!(list.capacity() <= 300 * 5 / 4 + 8, "{}", list.capacity());
    }

    #[test]
    fn a_line_that_bends_is_followed() {
        let mut column = Column::default();
        let mut number = 0;
        for rate in [100, 5_000, 0, -300, 70_000] {
            for _ in 0..400 {
                number += rate;
                column.push(number);
                if column.len() > 300 {
                    column.pop();
                }
            }
        }
        assert_eq!(column.get(299), Some(number));
        for _ in 0..40_000 {
            number += 70_000;
            column.push(number);
            column.pop();
        }
        assert_eq!(column.get(299), Some(number));
        column = Column::of(&(0..300).filter_map(|place| column.get(place)).collect::<Vec<_>>());
        assert_eq!(column.width(), 1);
    }
}
