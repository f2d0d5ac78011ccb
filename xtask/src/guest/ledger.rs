//! What the guest was promised: which files have to be there, and what they hold.
//!
//! I1 A file is owed from the moment the guest said that it is durable, until it says that it begins to change or remove it.
//! I2 A file whose name ends with a sum holds exactly that whenever it is there, whether it is owed or not.

use std::collections::BTreeMap;

use super::said::Said;

/// The sum of each file that was found.
pub(crate) type Found = BTreeMap<String, String>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    owed: BTreeMap<String, String>,
}

impl Ledger {
    /// These files are owed.
    pub(crate) fn of(owed: Found) -> Self {
        Self { owed }
    }

    pub(crate) fn note(&mut self, said: &Said) {
        match said {
            Said::Synced { file, sum } => {
                self.owed.insert(file.clone(), sum.clone());
            }
            Said::Writing { file } | Said::Removing { file } => {
                self.owed.remove(file);
            }
            Said::Ready | Said::Mounted | Said::Failed { .. } | Said::Unmounted => {}
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    /// Only the files that hold what their names say: those that are never written a second time.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = &String> {
        self.owed.keys().filter(|file| sum_in(file).is_some())
    }

    /// Whether all that is owed is there, and nothing is what it cannot be.
    pub(crate) fn check(&self, found: &Found) -> Result<(), String> {
        check_names(found)?;
        for (file, sum) in &self.owed {
            match found.get(file) {
                Some(is) if is == sum => {}
                Some(is) => {
                    return Err(format!("{file} was durable with sum {sum}, and has {is}"));
                }
                None => return Err(format!("{file} was durable, and is not there")),
            }
        }
        Ok(())
    }
}

/// Whether each file whose name has a sum has that sum.
pub(crate) fn check_names(found: &Found) -> Result<(), String> {
    for (file, is) in found {
        if sum_in(file).is_some_and(|sum| sum != is) {
            return Err(format!(
                "{file} has sum {is}: it came under its name too early"
            ));
        }
    }
    Ok(())
}

/// The sum in a name, behind its last dot.
fn sum_in(file: &str) -> Option<&str> {
    let (_, sum) = file.rsplit_once('.')?;
    (sum.len() == 32).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "fedcba9876543210fedcba9876543210";

    fn ledger(lines: &[String]) -> Ledger {
        let mut ledger = Ledger::default();
        for line in lines {
            ledger.note(&Said::parse(line).unwrap());
        }
        ledger
    }

    fn found(files: &[(&str, &str)]) -> Found {
        let owned = |(file, sum): &(&str, &str)| ((*file).to_owned(), (*sum).to_owned());
        files.iter().map(owned).collect()
    }

    #[test]
    fn what_was_durable_must_be_there_and_right() {
        let ledger = ledger(&[format!("synced cell {A}")]);
        assert_eq!(ledger.check(&found(&[("cell", A), ("other", B)])), Ok(()));
        assert!(ledger.check(&found(&[("cell", B)])).is_err());
        assert!(ledger.check(&found(&[])).is_err());
    }

    #[test]
    fn what_is_being_changed_or_removed_may_be_anything() {
        for word in ["writing", "removing"] {
            let ledger = ledger(&[format!("synced cell {A}"), format!("{word} cell")]);
            assert_eq!(ledger.check(&found(&[("cell", B)])), Ok(()));
            assert_eq!(ledger.check(&found(&[])), Ok(()));
        }
        let again = [
            format!("synced cell {A}"),
            "writing cell".into(),
            format!("synced cell {B}"),
        ];
        assert!(ledger(&again).check(&found(&[("cell", A)])).is_err());
    }

    #[test]
    fn a_file_holds_what_its_name_says_also_if_nobody_is_owed_it() {
        let (name, none) = (format!("1-1/3.{A}"), Ledger::default());
        assert_eq!(none.check(&found(&[(&name, A)])), Ok(()));
        assert!(none.check(&found(&[(&name, B)])).is_err());
    }
}
