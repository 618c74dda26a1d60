//! The plane: plain arithmetic on places and wishes to move.

use crate::tick::Dice;

/// A place in the plane, or a direction, in units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// From the left edge.
    pub x: f32,
    /// From the lower edge.
    pub y: f32,
}

impl Point {
    /// Anywhere in the plane.
    pub(super) fn random(dice: &mut Dice) -> Self {
        Self { x: dice.unit() * SIZE, y: dice.unit() * SIZE }
    }

    /// A wish to move, at most 1 long; none if it is not made of numbers.
    pub(super) fn wish(x: f32, y: f32) -> Option<Self> {
        if !(x.is_finite() && y.is_finite()) {
            return None;
        }
        let (x, y) = (x.clamp(-1.0, 1.0), y.clamp(-1.0, 1.0));
        let length = x.hypot(y).max(1.0);
        Some(Self { x: x / length, y: y / length })
    }

    /// Where a wish leads in that many seconds; it ends at the edge of the plane.
    pub(super) fn moved(self, wish: Self, seconds: f32) -> Self {
        Self {
            x: (self.x + wish.x * SPEED * seconds).clamp(0.0, SIZE),
            y: (self.y + wish.y * SPEED * seconds).clamp(0.0, SIZE),
        }
    }

    /// The wish to go to the nearest of some places.
    pub(super) fn toward_nearest(self, places: &[Self]) -> Self {
        self.nearest(places).map_or_else(Self::default, |index| {
            Self::wish(places[index].x - self.x, places[index].y - self.y).unwrap_or_default()
        })
    }

    /// Which of some places is within reach, and nearest; of two, the first.
    pub(super) fn reached_by(self, places: &[Self]) -> Option<usize> {
        self.nearest(places).filter(|index| self.distance_squared(places[*index]) <= REACH * REACH)
    }

    fn nearest(self, places: &[Self]) -> Option<usize> {
        let distance = |index: &usize| self.distance_squared(places[*index]);
        (0..places.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }

    fn distance_squared(self, other: Self) -> f32 {
        (self.x - other.x).powi(2) + (self.y - other.y).powi(2)
    }

    /// As in messages: hundredths of a unit.
    #[allow(clippy::cast_possible_truncation, reason = "0 to 10,000")]
    pub(super) fn hundredths(self) -> (i32, i32) {
        ((self.x * 100.0).round() as i32, (self.y * 100.0).round() as i32)
    }
}

/// Width and height of the plane, in units.
pub(super) const SIZE: f32 = 100.0;
/// Units a second: a crossing takes ten seconds.
const SPEED: f32 = 10.0;
/// How near a pellet must be to be eaten, in units: more than half of what a tick at 20 Hz moves,
/// so that nobody runs past one.
const REACH: f32 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32, y: f32) -> Point {
        Point { x, y }
    }

    #[test]
    fn a_wish_is_at_most_one_long_and_made_of_numbers() {
        assert_eq!(Point::wish(0.5, 0.0), Some(at(0.5, 0.0)));
        assert_eq!(Point::wish(1e30, 0.0), Some(at(1.0, 0.0)));
        let diagonal = Point::wish(1.0, -1.0).expect("numbers");
        assert!((diagonal.x.hypot(diagonal.y) - 1.0).abs() < 1e-6);
        assert_eq!(Point::wish(f32::NAN, 0.0), None);
        assert_eq!(Point::wish(0.0, f32::NEG_INFINITY), None);
    }

    #[test]
    fn a_step_is_speed_times_time_and_ends_at_the_edge() {
        assert_eq!(at(50.0, 50.0).moved(at(1.0, 0.0), 0.5), at(55.0, 50.0));
        assert_eq!(at(99.0, 1.0).moved(at(1.0, -1.0), 10.0), at(SIZE, 0.0));
        assert_eq!(at(SIZE, 0.125).hundredths(), (10_000, 13));
    }

    #[test]
    fn the_nearest_within_reach_eats_and_the_nearest_is_where_agents_go() {
        let here = at(10.0, 10.0);

        assert_eq!(here.reached_by(&[at(10.9, 10.0), at(10.5, 10.0), at(9.5, 10.0)]), Some(1));
        assert_eq!(here.reached_by(&[at(11.5, 10.0)]), None);
        assert_eq!(here.toward_nearest(&[at(90.0, 90.0), at(12.0, 10.0)]), at(1.0, 0.0));
        assert_eq!(here.toward_nearest(&[]), Point::default());
    }
}
