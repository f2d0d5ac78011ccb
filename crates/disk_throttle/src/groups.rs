//! The named groups of a resolver.

use crate::group::{Core, ThrottleGroup};
use crate::limits::{InvalidLimits, Limits};
use clock::Clock;
use parking_lot::Mutex;
use resource::JsonPath;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// The named groups of a resolver: disks that it builds with the same name of a group are in the same group.
///
/// A group ends with its last disk.
#[derive(Default)]
pub(crate) struct Groups(Mutex<BTreeMap<String, Known>>);

struct Known {
    group: Weak<Core>,
    /// The limits that a description gave it, and where that is.
    described: Option<(Limits, JsonPath)>,
}

/// Why a disk could not join a group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Limits(#[from] InvalidLimits),
    #[error("{}", other_limits(.name, .other))]
    Conflict { name: String, other: JsonPath },
}

/// The message for the second of two descriptions that do not agree.
pub(crate) fn other_limits(name: &str, other: &JsonPath) -> String {
    let other = match other.is_root() {
        true => "the disk that was there before".to_owned(),
        false => other.to_string(),
    };
    format!(
        "the group \"{}\" has other limits at {other}: give the same ones here, or none",
        name.escape_debug()
    )
}

impl Groups {
    /// The group with this name, for a disk that `place` describes. Without limits it is joined as it is.
    pub(crate) fn join(
        &self,
        name: &str,
        limits: Limits,
        place: &JsonPath,
        clock: &Clock,
    ) -> Result<ThrottleGroup, JoinError> {
        let mut groups = self.0.lock();
        groups.retain(|_, known| known.group.strong_count() > 0);
        let described = (!limits.are_none()).then(|| (limits, place.clone()));
        let found = groups.get_mut(name).and_then(|known| {
            let group = known.group.upgrade().map(ThrottleGroup)?;
            Some((group, known))
        });
        let Some((group, known)) = found else {
            let group = ThrottleGroup::named(name, limits, clock.clone())?;
            let core = Arc::downgrade(&group.0);
            groups.insert(
                name.to_owned(),
                Known {
                    group: core,
                    described,
                },
            );
            return Ok(group);
        };
        match (&known.described, &described) {
            (Some((before, other)), Some(_)) if *before != limits => Err(JoinError::Conflict {
                name: name.to_owned(),
                other: other.clone(),
            }),
            (None, Some(_)) => {
                group.set_limits(limits)?;
                known.described = described;
                Ok(group)
            }
            _ => Ok(group),
        }
    }
}
