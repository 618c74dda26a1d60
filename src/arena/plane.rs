//! Arithmetic on places and directions in the plane.

use crate::tick::GameRng;

/// A place in the plane, or a direction. One unit is a hundredth of the width of the plane.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Distance from the left edge, in units.
    pub x: f32,
    /// Distance from the lower edge, in units.
    pub y: f32,
}

impl Point {
    /// Returns a random place in the plane.
    pub(super) fn random(rng: &mut GameRng) -> Self {
        Self { x: rng.unit() * SIZE, y: rng.unit() * SIZE }
    }

    /// Returns a direction of length 1 at most, or `None` if a coordinate is NaN or infinite.
    pub(super) fn wish(x: f32, y: f32) -> Option<Self> {
        if !(x.is_finite() && y.is_finite()) {
            return None;
        }
        let (x, y) = (x.clamp(-1.0, 1.0), y.clamp(-1.0, 1.0));
        let length = x.hypot(y).max(1.0);
        Some(Self { x: x / length, y: y / length })
    }

    /// Returns the place after moving for some seconds. Movement stops at the edge of the plane.
    pub(super) fn moved(self, wish: Self, seconds: f32) -> Self {
        Self {
            x: (self.x + wish.x * SPEED * seconds).clamp(0.0, SIZE),
            y: (self.y + wish.y * SPEED * seconds).clamp(0.0, SIZE),
        }
    }

    /// Returns the direction to the nearest of some places.
    pub(super) fn toward_nearest(self, places: &[Self]) -> Self {
        self.nearest(places).map_or_else(Self::default, |index| {
            Self::wish(places[index].x - self.x, places[index].y - self.y).unwrap_or_default()
        })
    }

    /// Returns the index of the nearest place within reach. Of two equally near ones, the first counts.
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

    /// Returns the coordinates in hundredths of a unit, as in messages.
    #[allow(clippy::cast_possible_truncation, reason = "0 to 10,000")]
    pub(super) fn hundredths(self) -> (i32, i32) {
        ((self.x * 100.0).round() as i32, (self.y * 100.0).round() as i32)
    }
}

/// Width and height of the plane, in units.
pub(super) const SIZE: f32 = 100.0;
/// Speed in units per second: crossing the plane takes ten seconds.
const SPEED: f32 = 10.0;
/// Distance within which a pellet is eaten, in units. It is more than half of the step in a tick at 20 Hz,
/// so that an avatar cannot pass a pellet without eating it.
const REACH: f32 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32, y: f32) -> Point {
        Point { x, y }
    }

    #[test]
    fn a_wish_is_finite_and_at_most_one_long() {
        assert_eq!(Point::wish(0.5, 0.0), Some(at(0.5, 0.0)));
        assert_eq!(Point::wish(1e30, 0.0), Some(at(1.0, 0.0)));
        let diagonal = Point::wish(1.0, -1.0).expect("finite coordinates");
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
    fn the_nearest_avatar_within_reach_eats_and_agents_go_to_the_nearest_pellet() {
        let here = at(10.0, 10.0);

        assert_eq!(here.reached_by(&[at(10.9, 10.0), at(10.5, 10.0), at(9.5, 10.0)]), Some(1));
        assert_eq!(here.reached_by(&[at(11.5, 10.0)]), None);
        assert_eq!(here.toward_nearest(&[at(90.0, 90.0), at(12.0, 10.0)]), at(1.0, 0.0));
        assert_eq!(here.toward_nearest(&[]), Point::default());
    }
}
