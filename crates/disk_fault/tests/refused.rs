//! Rules that make no sense, and the exact words they are refused with.

use disk_fault::{
    Action, Delay, DelayStep, FaultDisk, FaultOptions, InjectedError, Operation, RULES_MAX, Rule,
    RuleError,
};
use disklayer_ram::ram_disk;

fn refused(rule: Rule) -> String {
    rule.check().expect_err("this must be refused").to_string()
}

#[test]
fn an_action_is_refused_for_every_operation_that_it_cannot_be_done_to() {
    use Operation::*;
    let never = [
        (
            Action::Drop,
            vec![Read, Flush, BlockStatus, Resize],
            "write, write_zeroes, unmap",
        ),
        (
            Action::Partial,
            vec![Read, Unmap, Flush, BlockStatus, Resize],
            "write, write_zeroes",
        ),
        (
            Action::PartialError(InjectedError::Io),
            vec![Read, Unmap, Flush, BlockStatus, Resize],
            "write, write_zeroes",
        ),
        (
            Action::FlipBits(1),
            vec![Write, WriteZeroes, Unmap, Flush, BlockStatus, Resize],
            "read",
        ),
        (
            Action::Misdirect,
            vec![Unmap, Flush, BlockStatus, Resize],
            "read, write, write_zeroes",
        ),
        (
            Action::Reorder(2),
            vec![Read, WriteZeroes, Unmap, Flush, BlockStatus, Resize],
            "write",
        ),
        (
            Action::SkipFlush,
            vec![Read, Unmap, BlockStatus, Resize],
            "write, write_zeroes, flush",
        ),
    ];
    for (action, operations, possible) in never {
        for operation in operations {
            let name = action.name();
            let first = action.operations()[0];
            let rule = Rule::new(action.clone()).on([first, operation]);
            assert_eq!(
                refused(rule),
                format!(
                    "operations[1]: \"{name}\" cannot be done to {operation}; it can be done to: {possible}"
                )
            );
        }
        for possible in action.operations() {
            assert_eq!(Rule::new(action.clone()).on([*possible]).check(), Ok(()));
        }
    }
}

#[test]
fn a_rule_that_could_never_strike_is_refused() {
    let rule = || Rule::new(Action::Hold);
    let with = |change: fn(&mut Rule)| {
        let mut rule = rule();
        change(&mut rule);
        refused(rule)
    };
    assert_eq!(
        refused(rule().on([])),
        "operations: no operation is named: leave the key out for read, write, write_zeroes, unmap, flush, block_status, resize"
    );
    assert_eq!(
        refused(rule().on([Operation::Read, Operation::Read])),
        "operations[1]: read is named twice"
    );
    assert_eq!(
        refused(rule().on([Operation::Flush]).sectors(0, 1)),
        "operations[0]: flush is about no sectors: leave out \"sectors\", or this operation"
    );
    assert_eq!(
        refused(rule().sectors(5, 0)),
        "sectors.count: no sector is named: give at least 1, or leave out \"sectors\""
    );
    assert_eq!(
        refused(rule().sectors(2, u64::MAX)),
        "sectors.count: the last sector is beyond the end of any disk"
    );
    assert_eq!(
        with(|rule| rule.every = Some(0)),
        "every: 0 would never strike: give at least 1, or leave the key out"
    );
    assert_eq!(
        with(|rule| rule.times = Some(0)),
        "times: 0 would never strike: give at least 1, or leave the key out"
    );
    assert_eq!(
        with(|rule| rule.probability = Some(1.5)),
        "probability: 1.5 is no probability: give a number from 0 to 1"
    );
    assert_eq!(
        with(|rule| rule.probability = Some(f64::NAN)),
        "probability: NaN is no probability: give a number from 0 to 1"
    );
    assert_eq!(
        with(|rule| rule.after_seconds = -1.0),
        "after_seconds: -1 seconds are not between 0 and 1000000000"
    );
}

#[test]
fn a_delay_that_cannot_be_waited_for_is_refused() {
    let delay = |delay: Delay| refused(Rule::new(Action::Delay(delay)));
    let step = |to_ms, weight| DelayStep { to_ms, weight };
    assert_eq!(
        delay(Delay::FixedMs(-1.0)),
        "action.delay.fixed_ms: a delay of -1 ms is not between 0 ms and a day"
    );
    assert_eq!(
        delay(Delay::FixedMs(f64::INFINITY)),
        "action.delay.fixed_ms: a delay of inf ms is not between 0 ms and a day"
    );
    assert_eq!(
        delay(Delay::UniformMs([5.0, 4.0])),
        "action.delay.uniform_ms[1]: a delay of 4 ms is not between 5 ms and a day"
    );
    assert_eq!(
        delay(Delay::HistogramMs(vec![step(2.0, 1), step(1.0, 1)])),
        "action.delay.histogram_ms[1].to_ms: a delay of 1 ms is not between 2 ms and a day"
    );
    assert_eq!(
        delay(Delay::HistogramMs(vec![step(2.0, 0)])),
        "action.delay.histogram_ms: no step has a weight, so there is no delay to choose"
    );
    assert_eq!(
        delay(Delay::HistogramMs(vec![step(2.0, 1); 1025])),
        "action.delay.histogram_ms: 1025 steps are too many: a histogram has at most 1024"
    );
    for count in [0, 1, 4097] {
        assert_eq!(
            refused(Rule::new(Action::Reorder(count))),
            format!(
                "action.reorder: {count} writes cannot be kept back: give a number from 2 to 4096"
            )
        );
    }
    for count in [0, 4097] {
        assert_eq!(
            refused(Rule::new(Action::FlipBits(count))),
            format!(
                "action.flip_bits: {count} bits cannot be flipped: give a number from 1 to 4096"
            )
        );
    }
}

#[test]
fn a_disk_names_the_rule_that_it_refuses() {
    let mut options = FaultOptions::new(1, clock::Clock::real());
    options.rules = vec![Rule::new(Action::Hold), Rule::new(Action::Hold).times(0)];
    let ram = ram_disk(4096, false).unwrap();
    let error = FaultDisk::new(ram.clone(), options.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rules[1].times: 0 would never strike: give at least 1, or leave the key out"
    );
    options.rules = vec![Rule::new(Action::Hold); RULES_MAX];
    let (_disk, control) = FaultDisk::new(ram.clone(), options.clone()).unwrap();
    let too_many =
        "a fault disk has at most 256 rules: remove one, or put a second fault disk on this one";
    let error = control.add(Rule::new(Action::Hold)).unwrap_err();
    assert_eq!(error.to_string(), too_many);
    options.rules.push(Rule::new(Action::Hold));
    let error = FaultDisk::new(ram, options).unwrap_err();
    assert_eq!(error.to_string(), too_many);
    let error = control.remove(300).unwrap_err();
    assert!(matches!(error, RuleError::Unknown { id: 300, .. }));
    assert!(
        error
            .to_string()
            .starts_with("there is no rule 300; there are: 0, 1, 2, ")
    );
}
