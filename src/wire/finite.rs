//! Checks messages for NaN and infinities, which protobuf permits in a float.
//!
//! Generated code implements [`Finite`] for each message that holds a float at any depth.
//! [`WireMessage::is_finite`](super::WireMessage::is_finite) calls it. A message without floats has
//! no implementation, and its `is_finite` returns true.

/// A value whose floats can be checked. Generated code implements it.
pub trait Finite {
    /// Returns true if no float in the value is NaN or infinite.
    fn all_finite(&self) -> bool;
}

impl Finite for f32 {
    fn all_finite(&self) -> bool {
        self.is_finite()
    }
}

impl Finite for f64 {
    fn all_finite(&self) -> bool {
        self.is_finite()
    }
}

impl<T: Finite> Finite for Option<T> {
    fn all_finite(&self) -> bool {
        self.iter().all(T::all_finite)
    }
}

impl<T: Finite> Finite for Vec<T> {
    fn all_finite(&self) -> bool {
        self.iter().all(T::all_finite)
    }
}

/// For a message that contains itself.
impl<T: Finite> Finite for Box<T> {
    fn all_finite(&self) -> bool {
        T::all_finite(self)
    }
}

/// Checks the values only: the keys of protobuf maps cannot be floats.
#[allow(clippy::disallowed_types, reason = "prost generates it; the order does not matter here")]
impl<K, T: Finite, S> Finite for std::collections::HashMap<K, T, S> {
    fn all_finite(&self) -> bool {
        self.values().all(T::all_finite)
    }
}

#[cfg(test)]
mod tests {
    #![allow(deprecated, reason = "deprecated fields are checked too")]

    use super::Finite as _;
    use crate::wire::WireMessage as _;

    mod floats {
        #![allow(unreachable_pub, clippy::disallowed_types, reason = "generated")]

        include!(concat!(env!("OUT_DIR"), "/floats.rs"));
    }
    use floats::r#move::{Aim, AimOneOf, aim::Inner};
    use floats::{Chain, Move, Point, Quiet};

    #[test]
    fn one_float_that_is_not_finite_is_found_at_any_depth() {
        let point = |x| Point { x, y: 1 };
        let chain = |link| Chain { next: Some(Box::new(Chain { next: None, link })), link: 1.0 };
        let aimed = |aim| Move { aim: Some(aim), ..Move::default() };
        for (wrong, right) in [(f32::NAN, 0.0_f32), (f32::INFINITY, f32::MAX), (f32::NEG_INFINITY, -1.5)] {
            let both = |make: &dyn Fn(f32) -> Move| {
                assert!(make(right).is_finite(), "{:?}", make(right));
                assert!(!make(wrong).is_finite(), "{:?}", make(wrong));
            };
            both(&|x| Move { r#type: x, ..Move::default() });
            both(&|x| Move { maybe: Some(x.into()), ..Move::default() });
            both(&|x| Move { many: vec![1.0, x], ..Move::default() });
            both(&|x| Move { by_id: [(1, point(0.0)), (2, point(x))].into(), ..Move::default() });
            both(&|x| aimed(AimOneOf::At(point(x))));
            both(&|x| aimed(AimOneOf::Self_(x.into())));
            both(&|x| aimed(AimOneOf::Along(chain(x.into()))));
            both(&|x| Move { nested: Some(Aim { deep: Some(Inner { x: x.into() }) }), ..Move::default() });
            both(&|x| Move { chain: Some(chain(x.into())), ..Move::default() });
            both(&|x| Move { path: vec![point(x)], ..Move::default() });
        }
    }

    #[test]
    fn a_message_without_floats_is_finite() {
        assert!(Move::default().is_finite() && aimed_at_a_name().all_finite());
        assert!(Quiet { name: "NaN".to_owned() }.is_finite());
    }

    fn aimed_at_a_name() -> Move {
        Move { aim: Some(AimOneOf::Whom("NaN".to_owned())), ..Move::default() }
    }
}
