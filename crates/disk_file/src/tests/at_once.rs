//! Writes of which the kernel makes a part at once.

use super::*;

/// As [`file_disk`], written by whoever asks, and with a kernel that takes no more than this of a write that may not wait.
fn disk_that_cuts_short(taken_bytes_max: usize) -> (TempDir, FileDisk) {
    disk_behind(Obstacle {
        taken_bytes_max: Some(taken_bytes_max),
        ..Default::default()
    })
}

fn disk_behind(obstacle: Obstacle) -> (TempDir, FileDisk) {
    let (folder, disk) = file_disk();
    let path = disk.shared.image.path.clone();
    drop(disk);
    let mut disk = FileDisk::open(&path, &FileDiskOptions::default()).expect("it was just closed");
    let shared = Arc::get_mut(&mut disk.shared).expect("nothing runs");
    shared.obstacle = obstacle;
    (folder, disk)
}

#[test]
fn a_write_is_made_once_also_if_the_kernel_cuts_it_short() {
    // At the edge of a sector, inside one, and at none.
    for taken_bytes_max in [512, 700, 0] {
        let (_folder, disk) = disk_that_cuts_short(taken_bytes_max);
        let content: Vec<u8> = (0..4096_u32).map(|at| (at / 3) as u8).collect();
        let is_written = disk.try_write(&HostBuffers::from_ref(&content).buffers(), 8, false);
        assert_eq!(is_written, taken_bytes_max > 0);
        let file = std::fs::read(&disk.shared.image.path).expect("it is there");
        let expected = match is_written {
            true => content,
            false => vec![0; 4096],
        };
        assert!(file[4096..8192] == expected, "{taken_bytes_max}");
        let range = disk.shared.try_claim(4096..8192, Intent::Change);
        assert!(range.is_held(), "it is free again");
    }
}

#[test]
fn a_write_of_which_a_part_is_made_at_once_is_not_made_anew_if_the_rest_fails() {
    let (_folder, disk) = disk_behind(Obstacle {
        taken_bytes_max: Some(512),
        errno: Some(nix::libc::ENOSPC),
        ..Default::default()
    });
    let shared = Arc::clone(&disk.shared);
    let counted = |counts: [Count; 3]| counts.map(|count| shared.counters.get(count));
    let counts = [
        Count::OtherFileWrites,
        Count::FileWriteFailures,
        Count::OtherWrites,
    ];
    let disk = Disk::new(disk).expect("valid metadata");
    let (mine, others) = ([1; 4096], [2; 4096]);
    let (mine, others) = (HostBuffers::from_ref(&mine), HostBuffers::from_ref(&others));
    // Whoever asks for it in earnest may have tried it before.
    assert!(!disk.try_write(&mine.buffers(), 8, false));
    assert_eq!(counted(counts), [2, 1, 0]);
    let refused = block_on(disk.write_vectored(&mine.buffers(), 8, false));
    assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(counted(counts), [2, 1, 1], "nothing was tried again");
    let file = std::fs::read(&shared.image.path).expect("it is there");
    assert!(file[4096..8192] == [[1; 512].as_slice(), &[0; 3584]].concat());
    // Another one is tried, and has an outcome of its own.
    let refused = block_on(disk.write_vectored(&others.buffers(), 8, false));
    assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(counted(counts), [4, 2, 2]);
    // Also if nobody has asked in earnest for the one before.
    assert!(!disk.try_write(&mine.buffers(), 8, false));
    assert_eq!(counted(counts), [6, 3, 2]);
    let refused = block_on(disk.write_vectored(&others.buffers(), 8, false));
    assert!(matches!(refused, Err(DiskError::NoSpace)), "{refused:?}");
    assert_eq!(counted(counts), [8, 4, 3], "it was tried itself");
}

#[test]
fn what_is_waited_for_after_a_part_was_made_at_once_is_charged() {
    let (_folder, disk) = disk_behind(Obstacle {
        taken_bytes_max: Some(512),
        // Twice the longest tick there is, and more.
        wait: Duration::from_millis(25),
        ..Default::default()
    });
    let content = [1; 4096];
    let source = HostBuffers::from_ref(&content);
    assert_eq!(disk.shared.here.debt_ns(), 0);
    assert!(disk.try_write(&source.buffers(), 8, false));
    assert!(disk.shared.here.debt_ns() > 0);
}

#[test]
fn what_was_not_tried_because_its_range_was_taken_is_tried_when_it_is_free() {
    let (_folder, disk) = disk_that_cuts_short(4096);
    let content = [1; 4096];
    let source = HostBuffers::from_ref(&content);
    let in_the_way = disk.shared.locks.try_read(4096..4608);
    assert!(!disk.try_write(&source.buffers(), 8, false));
    drop(in_the_way);
    block_on(disk.write_vectored(&source.buffers(), 8, false)).expect("it writes");
    assert_eq!(disk.shared.counters.get(Count::OtherWrites), 0);
}

#[test]
fn what_the_kernel_cuts_short_is_waited_for_by_others_where_writes_are_handed_over() {
    let (_folder, mut disk) = file_disk();
    let shared = Arc::get_mut(&mut disk.shared).expect("nothing runs");
    shared.obstacle.taken_bytes_max = Some(700);
    let content: Vec<u8> = (0..4096_u32).map(|at| (at / 3) as u8).collect();
    let source = HostBuffers::from_ref(&content);
    assert!(!disk.try_write(&source.buffers(), 8, false));
    let file = std::fs::read(&disk.shared.image.path).expect("it is there");
    assert!(file[4096..8192] == [0; 4096], "nothing was changed");
    block_on(disk.write_vectored(&source.buffers(), 8, false)).expect("it writes");
    let file = std::fs::read(&disk.shared.image.path).expect("it is there");
    assert!(file[4096..8192] == content);
}

#[test]
fn what_was_tried_is_not_tried_again() {
    let (_folder, disk) = disk_that_cuts_short(0);
    let shared = Arc::clone(&disk.shared);
    let disk = Disk::new(disk).expect("valid metadata");
    let calls = || shared.counters.get(Count::OtherFileWrites);
    let content = [1; 4096];
    let source = HostBuffers::from_ref(&content);
    block_on(disk.write_vectored(&source.buffers(), 8, false)).expect("it writes");
    assert_eq!(calls(), 2, "one that does not wait, one that does");
    // It was not tried before.
    block_on(disk.write_vectored(&source.buffers(), 8, true)).expect("it writes");
    assert_eq!(calls(), 4);
}
