//! The message types of a game by id, so that no two types share one.

use std::any::{TypeId, type_name};

use bevy_ecs::prelude::*;
use bevy_platform::collections::HashMap;

use crate::ident::MessageId;
use crate::session::is_of_a_game;
use crate::wire::WireMessage;

/// The types of calls by id.
#[derive(Resource, Default)]
pub(super) struct CallTypes(pub(super) MessageTypes);

/// Types of messages by id.
#[derive(Default)]
pub(super) struct MessageTypes(HashMap<MessageId, (TypeId, &'static str)>);

/// The error for a message that cannot be registered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdError {
    #[error(
        "{message}: the id {id} is reserved for the server: choose one from 0x0100 to 0x7FFF, or from 0x8100 to 0xFFFF"
    )]
    Reserved { message: &'static str, id: MessageId },
    #[error(
        "{message}: the id {id} is already that of {other}: choose another id in the .proto file of one of them"
    )]
    Taken { message: &'static str, other: &'static str, id: MessageId },
}

impl MessageTypes {
    /// Registers `M`. Returns false if it already was.
    ///
    /// # Errors
    ///
    /// Returns [`IdError`] if the id is reserved, or is that of another type.
    pub(super) fn add<M: WireMessage>(&mut self) -> Result<bool, IdError> {
        let (id, message) = (M::ID, type_name::<M>());
        if !is_of_a_game(id) {
            return Err(IdError::Reserved { message, id });
        }
        match self.0.get(&id) {
            None => {
                self.0.insert(id, (TypeId::of::<M>(), message));
                Ok(true)
            }
            Some((known, _)) if *known == TypeId::of::<M>() => Ok(false),
            Some((_, other)) => Err(IdError::Taken { message, other, id }),
        }
    }

    /// Returns true if a type with this id is registered.
    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.0.contains_key(&id)
    }
}
