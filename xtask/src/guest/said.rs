//! What the guest says: the lines that the head of `init.sh` explains.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Mounted,
    Writing { file: String },
    Removing { file: String },
    Synced { file: String, sum: String },
    Failed { what: String },
    Unmounted,
}

impl Said {
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let file = || rest.to_owned();
        match (word, rest.split_once(' ')) {
            ("ready", None) => Ok(Self::Ready),
            ("mounted", None) => Ok(Self::Mounted),
            ("unmounted", None) => Ok(Self::Unmounted),
            ("writing", None) => Ok(Self::Writing { file: file() }),
            ("removing", None) => Ok(Self::Removing { file: file() }),
            ("synced", Some((file, sum))) => Ok(Self::Synced {
                file: file.to_owned(),
                sum: sum.to_owned(),
            }),
            ("failed", _) => Ok(Self::Failed { what: file() }),
            _ => Err(format!("the guest says `{line}`, which means nothing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_means_what_the_head_of_the_script_says() {
        assert_eq!(Said::parse("ready"), Ok(Said::Ready));
        assert_eq!(Said::parse("mounted"), Ok(Said::Mounted));
        let synced = Said::parse("synced r1-2/7.abc abc");
        let (file, sum) = ("r1-2/7.abc".into(), "abc".into());
        assert_eq!(synced, Ok(Said::Synced { file, sum }));
        let failed = Said::parse("failed writing r1-2/new");
        let what = "writing r1-2/new".into();
        assert_eq!(failed, Ok(Said::Failed { what }));
        assert!(Said::parse("sync").is_err() && Said::parse("synced a").is_err());
    }
}
