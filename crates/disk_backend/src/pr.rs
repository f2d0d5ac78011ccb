//! Persistent reservations: how several initiators (hosts, virtual machines) agree which of them may use a shared disk.
//!
//! The model is the one that SCSI (SPC-4, "Persistent reservations") and NVMe (Base Specification, "Reservations") share. An
//! initiator *registers* with a key of its choice; a registered one may *reserve* the disk, with a [`ReservationType`] that
//! says what the others may still do; any registered one may *preempt* another, whose key it names. Registrations and the
//! reservation belong to the disk, not to a connection: they outlive a reset, and with *persist through power loss* also a
//! restart.
//!
//! **Initiators.** A [`PersistentReservation`] is the disk as one initiator sees it: whoever uses the [`Disk`](crate::Disk)
//! that offers it is that initiator, for reads and writes as well as for the commands here. A backend that serves several
//! gives each a disk of its own over what they share.

use crate::DiskError;
use crate::check::Intent;
/// For implementors: makes the `async` methods of [`PersistentReservation`] such as it wants them.
pub use async_trait::async_trait;

/// The reservation commands of a disk, for one initiator; see the [module](self).
///
/// A key is any number that the initiator chose, except 0, which stands for "none". Commands take effect one after the
/// other, each at one instant; the operation of a dropped future may still happen (C9). They are not stopped by a
/// reservation, only by the rules below.
///
/// **Reads and writes.** From the instant that a reservation is established, a request that it
/// [forbids](ReservationType::forbids) fails with [`DiskError::ReservationConflict`], after the checks of C1; requests before
/// it in that order complete as if it were not there. The backend does this: [`Disk`](crate::Disk) knows no reservations.
///
/// **Durability.** While *persist through power loss* is on, a command that completed survives a crash and a restart. While it is
/// off, all registrations and the reservation are gone after either.
///
/// **Errors** that any of the methods may return besides its own are the store's: [`DiskError::Io`], [`DiskError::NoSpace`].
/// After an error nothing was changed.
#[async_trait]
pub trait PersistentReservation: Send + Sync {
    /// What the disk can do. Fixed for its life.
    fn capabilities(&self) -> ReservationCapabilities;

    /// Who is registered, and who holds the disk, at one instant. Anyone may ask.
    async fn report(&self) -> Result<ReservationReport, DiskError>;

    /// Registers this initiator with `new_key`, replaces its key, or ends its registration if `new_key` is 0.
    ///
    /// `current_key` is the key that it has, 0 if it has none; `None` registers or replaces whatever it has ("ignore existing
    /// key"). `persist_through_power_loss` turns that on or off for the whole disk, and `None` leaves it as it is.
    ///
    /// Ending the registration of the holder releases the reservation, unless it is one for all registrants and others remain.
    /// Ending none at all (`None` and 0 of an initiator that is not registered) succeeds and changes nothing.
    ///
    /// # Errors
    /// [`DiskError::ReservationConflict`] if `current_key` is not what it has. [`DiskError::Unsupported`] for turning on a
    /// persistence that the disk does not have.
    async fn register(
        &self,
        current_key: Option<u64>,
        new_key: u64,
        persist_through_power_loss: Option<bool>,
    ) -> Result<(), DiskError>;

    /// Takes the reservation. For its holder, with the type that it has already, that is a success without an effect.
    ///
    /// # Errors
    /// [`DiskError::ReservationConflict`] if `key` is not this initiator's, if another one holds the disk, or if this one does
    /// with another type. [`DiskError::Unsupported`] for a type that the disk does not have.
    async fn reserve(&self, key: u64, reservation_type: ReservationType) -> Result<(), DiskError>;

    /// Gives the reservation up; registrations stay. A success without an effect if this initiator holds none.
    ///
    /// # Errors
    /// [`DiskError::ReservationConflict`] if `key` is not this initiator's. [`DiskError::InvalidInput`] if it holds a
    /// reservation of another type.
    async fn release(&self, key: u64, reservation_type: ReservationType) -> Result<(), DiskError>;

    /// Ends the reservation and all registrations, this initiator's included.
    ///
    /// # Errors
    /// [`DiskError::ReservationConflict`] if `key` is not this initiator's.
    async fn clear(&self, key: u64) -> Result<(), DiskError>;

    /// Ends the registrations with `preempted_key`; if they held the reservation, this initiator holds it from the same
    /// instant on, with `reservation_type`.
    ///
    /// If the reservation is one for all registrants, a `preempted_key` of 0 ends all registrations but this initiator's, and takes
    /// the reservation; any other key only ends registrations, and the others go on holding it.
    ///
    /// With `abort`, the requests in flight of the preempted initiators fail with [`DiskError::AbortDueToPreemptAndAbort`], or
    /// have completed, before this does: after it none of them takes effect any more.
    ///
    /// # Errors
    /// [`DiskError::ReservationConflict`] if `key` is not this initiator's, or nobody is registered with `preempted_key`.
    /// [`DiskError::InvalidInput`] for a `preempted_key` of 0 without a reservation for all registrants.
    /// [`DiskError::Unsupported`] for a type that the disk does not have.
    async fn preempt(
        &self,
        key: u64,
        preempted_key: u64,
        reservation_type: ReservationType,
        abort: bool,
    ) -> Result<(), DiskError>;
}

/// What a reservation allows to those who do not hold it.
///
/// The discriminant is the number that SCSI gives it (SPC-4, "Persistent reservations type codes"); NVMe numbers the same six
/// from 1 to 6, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, inspect::Inspect)]
#[repr(u8)]
pub enum ReservationType {
    /// Others may read.
    WriteExclusive = 1,
    /// Others may neither read nor write.
    ExclusiveAccess = 3,
    /// Others may read; registered ones may write too. There is one holder.
    WriteExclusiveRegistrantsOnly = 5,
    /// Others may neither read nor write, unless they are registered. There is one holder.
    ExclusiveAccessRegistrantsOnly = 6,
    /// As [`WriteExclusiveRegistrantsOnly`](Self::WriteExclusiveRegistrantsOnly), and all who are registered hold it.
    WriteExclusiveAllRegistrants = 7,
    /// As [`ExclusiveAccessRegistrantsOnly`](Self::ExclusiveAccessRegistrantsOnly), and all who are registered hold it.
    ExclusiveAccessAllRegistrants = 8,
}

/// What an initiator is to a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is not registered.
    Stranger,
    /// It is registered, and does not hold the reservation.
    Registered,
    /// It holds the reservation.
    Holder,
}

impl ReservationType {
    /// All six, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];

    /// The type with this number in SCSI.
    pub fn from_scsi(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.scsi_code() == code)
    }

    /// Its number in SCSI.
    pub fn scsi_code(self) -> u8 {
        self as u8
    }

    /// The type with this number in NVMe.
    pub fn from_nvme(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.nvme_code() == code)
    }

    /// Its number in NVMe.
    pub fn nvme_code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 2,
            Self::WriteExclusiveRegistrantsOnly => 3,
            Self::ExclusiveAccessRegistrantsOnly => 4,
            Self::WriteExclusiveAllRegistrants => 5,
            Self::ExclusiveAccessAllRegistrants => 6,
        }
    }

    /// Whether all who are registered hold the reservation together.
    pub fn is_held_by_all_registrants(self) -> bool {
        matches!(
            self,
            Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Whether a reservation of this type forbids a request with `intent` to an initiator of this `standing` (SBC-3, "commands
    /// that are allowed in the presence of various reservations"). Flushing and looking at the status of sectors count as
    /// reading, all changes (also unmaps, resizes and ejecting) as writing.
    pub fn forbids(self, intent: Intent, standing: Standing) -> bool {
        let (is_read_allowed, is_enough_registered) = match self {
            Self::WriteExclusive => (true, false),
            Self::ExclusiveAccess => (false, false),
            Self::WriteExclusiveRegistrantsOnly | Self::WriteExclusiveAllRegistrants => {
                (true, true)
            }
            Self::ExclusiveAccessRegistrantsOnly | Self::ExclusiveAccessAllRegistrants => {
                (false, true)
            }
        };
        let is_privileged = match standing {
            Standing::Stranger => false,
            Standing::Registered => is_enough_registered,
            Standing::Holder => true,
        };
        !(is_privileged || is_read_allowed && intent == Intent::Read)
    }
}

/// What a disk's reservations can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationCapabilities {
    /// The types that can be reserved.
    pub types: Vec<ReservationType>,
    /// Whether registrations and the reservation can be kept over a power loss and a restart.
    pub persist_through_power_loss: bool,
}

/// Who is registered and who holds the disk, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationReport {
    /// Grows by one, and wraps, with each registration, clear and preemption; not with reserving and releasing. Begins at 0
    /// when the disk starts.
    pub generation: u32,
    /// Whether *persist through power loss* is on.
    pub persist_through_power_loss: bool,
    /// The type of the reservation, if there is one.
    pub reservation_type: Option<ReservationType>,
    /// All who are registered, in the order of their first registration.
    pub controllers: Vec<RegisteredController>,
}

/// An initiator that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredController {
    /// Its key; never 0.
    pub key: u64,
    /// Which host it is, in the form of the protocol that it came by: an NVMe host identifier of 8 or 16 bytes, a SCSI
    /// TransportID.
    pub host_id: Vec<u8>,
    /// By which controller (NVMe) or relative target port (SCSI) it came.
    pub controller_id: u16,
    /// Whether it holds the reservation, alone or with all others.
    pub is_holder: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_types_are_those_of_the_protocols() {
        let scsi = ReservationType::ALL.map(ReservationType::scsi_code);
        assert_eq!(scsi, [1, 3, 5, 6, 7, 8]);
        let nvme = ReservationType::ALL.map(ReservationType::nvme_code);
        assert_eq!(nvme, [1, 2, 3, 4, 5, 6]);
        for code in 0..=u8::MAX {
            let scsi = ReservationType::from_scsi(code);
            assert_eq!(scsi.map(ReservationType::scsi_code), scsi.map(|_| code));
            assert_eq!(scsi.is_some(), [1, 3, 5, 6, 7, 8].contains(&code));
            let nvme = ReservationType::from_nvme(code);
            assert_eq!(nvme.map(ReservationType::nvme_code), nvme.map(|_| code));
            assert_eq!(nvme.is_some(), (1..=6).contains(&code));
        }
    }

    #[test]
    fn each_type_forbids_what_the_standards_table_says() {
        use Intent::{Read, Write};
        use Standing::{Holder, Registered, Stranger};
        // As in the table: reading and writing by a stranger, then by one who is registered.
        let table = [
            (ReservationType::WriteExclusive, [false, true, false, true]),
            (ReservationType::ExclusiveAccess, [true, true, true, true]),
            (
                ReservationType::WriteExclusiveRegistrantsOnly,
                [false, true, false, false],
            ),
            (
                ReservationType::ExclusiveAccessRegistrantsOnly,
                [true, true, false, false],
            ),
            (
                ReservationType::WriteExclusiveAllRegistrants,
                [false, true, false, false],
            ),
            (
                ReservationType::ExclusiveAccessAllRegistrants,
                [true, true, false, false],
            ),
        ];
        assert_eq!(table.map(|(one, _)| one), ReservationType::ALL);
        for (one, forbidden) in table {
            let found = [
                one.forbids(Read, Stranger),
                one.forbids(Write, Stranger),
                one.forbids(Read, Registered),
                one.forbids(Write, Registered),
            ];
            assert_eq!(found, forbidden, "{one:?}");
            assert!(!one.forbids(Read, Holder) && !one.forbids(Write, Holder));
        }
    }
}
