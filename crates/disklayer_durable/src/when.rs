//! Content stamps for people: the time in one is also told as a date.

use disk_backend::ContentStamp;

const SECONDS_A_DAY: i64 = 86400;

/// A stamp in quotes, with its date if it is a time.
pub(crate) fn dated(stamp: &ContentStamp) -> String {
    let text = stamp.to_string();
    let seconds = text
        .strip_prefix("modified ")
        .and_then(|time| time.split('.').next()?.parse().ok());
    match seconds.and_then(date) {
        Some(date) => format!("\"{text}\" ({date})"),
        None => format!("\"{text}\""),
    }
}

/// The date and time, in UTC, that is so many seconds after the beginning of 1970. None before that, and behind the year 9999.
fn date(seconds: i64) -> Option<String> {
    let day = seconds.div_euclid(SECONDS_A_DAY);
    let second = seconds.rem_euclid(SECONDS_A_DAY);
    let (mut year, mut day_of_year) = (1970, day);
    if day < 0 {
        return None;
    }
    while day_of_year >= days_in_year(year) {
        day_of_year -= days_in_year(year);
        year += 1;
        if year > 9999 {
            return None;
        }
    }
    let mut month = 1;
    let mut day_of_month = day_of_year;
    for days in days_in_months(year) {
        if day_of_month < days {
            break;
        }
        day_of_month -= days;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    Some(format!(
        "{year}-{month:02}-{:02} {hour:02}:{minute:02}:{:02} UTC",
        day_of_month + 1,
        second % 60
    ))
}

fn days_in_months(year: i64) -> [i64; 12] {
    let february = if is_leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_date_and_anything_else_has_none() {
        for (text, expected) in [
            ("modified 0.000000000", "1970-01-01 00:00:00 UTC"),
            ("modified 951782399.999999999", "2000-02-28 23:59:59 UTC"),
            ("modified 951782400.000000000", "2000-02-29 00:00:00 UTC"),
            ("modified 1700000000.000000005", "2023-11-14 22:13:20 UTC"),
            ("modified 1735689599.000000000", "2024-12-31 23:59:59 UTC"),
            ("modified 4107542400.000000000", "2100-03-01 00:00:00 UTC"),
        ] {
            let stamp = ContentStamp::from_text(text).unwrap();
            assert_eq!(dated(&stamp), format!("\"{text}\" ({expected})"));
        }
        for text in ["modified -1.000000000", "modified 999999999999.0", "a"] {
            let stamp = ContentStamp::from_text(text).unwrap();
            assert_eq!(dated(&stamp), format!("\"{text}\""));
        }
    }
}
