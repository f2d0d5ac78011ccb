//! What a soak has done, as a table.

use std::time::Duration;

use super::director::Found;
use super::resources::mib;
use super::world::World;

pub(crate) fn table(world: &World, found: &Found, took: Duration) -> String {
    let mut rows: Vec<(String, String)> = vec![("minutes".into(), minutes(took))];
    for (what, count) in world.tally.all() {
        let count = match what.starts_with("bytes") {
            true => mib(count),
            false => count.to_string(),
        };
        rows.push((what, count));
    }
    let Found {
        at_rest_bytes_max,
        at_work_bytes_max,
        data_bytes_max,
        growth_bytes_max,
        looks_in_a_life_max,
        descriptor_count,
        thread_count,
        pool_thread_count_max,
    } = *found;
    rows.extend([
        ("data in memory, at most".into(), mib(data_bytes_max)),
        (
            "memory beyond it at work, at most".into(),
            mib(at_work_bytes_max),
        ),
        (
            "memory beyond it at rest, at most".into(),
            mib(at_rest_bytes_max),
        ),
        (
            "growth of that in one daemon's life, at most".into(),
            mib(growth_bytes_max),
        ),
        (
            "rests of the daemon that had most".into(),
            looks_in_a_life_max.to_string(),
        ),
        (
            "descriptors at each rest".into(),
            format!("{descriptor_count}, none left"),
        ),
        (
            "threads at each rest".into(),
            format!("{thread_count}, none left"),
        ),
        (
            "threads of the pool for files, at most".into(),
            pool_thread_count_max.to_string(),
        ),
    ]);
    let rows = rows
        .iter()
        .map(|(what, value)| format!("| {what} | {value} |\n"));
    format!(
        "| What | Figure |\n| --- | ---: |\n{}",
        rows.collect::<String>()
    )
}

fn minutes(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64() / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_for_people_and_counts_as_they_are() {
        let world = World::new(1, "nowhere".into());
        world.tally.add("bytes verified at rest", 3 << 20);
        world.tally.add("runs of fio", 1234);
        let table = table(&world, &Found::default(), Duration::from_secs(90));
        for row in [
            "| minutes | 1.5 |",
            "| bytes verified at rest | 3.0 MiB |",
            "| runs of fio | 1234 |",
        ] {
            assert!(table.contains(row), "{table}");
        }
    }
}
