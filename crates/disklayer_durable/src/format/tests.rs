//! What is written is read back, and nothing else is believed.

use super::*;
use disk_backend::ContentStamp;
use proptest::prelude::*;

fn layout() -> Layout {
    Layout::new(512, 8, 4, Verify::Metadata).unwrap()
}

fn superblock() -> Superblock {
    Superblock {
        generation: 7,
        epoch: 0x1122_3344_5566_7788,
        layer_id: [9; 16],
        layout: layout(),
        sector_count: 100,
        shown_below: 90,
        log_generation: 6,
        log_sequence: 12,
        is_in_use: true,
        role: Role::WriteThrough,
        binding: Binding::Disk(LowerDisk {
            disk_id: Some([3; 16]),
            sector_count: 50,
            sector_size: 512,
            stamp: ContentStamp::new([4; 32]),
        }),
        sums_after: 9,
        logs_data: false,
    }
}

#[test]
fn a_superblock_is_read_as_it_was_written() {
    let lower = LowerDisk {
        disk_id: None,
        sector_count: 1,
        sector_size: 4096,
        stamp: None,
    };
    for binding in [
        Binding::Unknown,
        Binding::Nothing,
        Binding::Disk(lower),
        superblock().binding,
    ] {
        for role in [Role::Overlay, Role::ReadCache, Role::WriteThrough] {
            let written = Superblock {
                binding,
                role,
                ..superblock()
            };
            assert_eq!(Superblock::decode(&written.encode()), Ok(written));
        }
    }
}

#[test]
fn a_superblock_with_any_byte_changed_is_refused() {
    let block = superblock().encode();
    for at in 0..BLOCK_BYTES {
        let mut changed = block;
        changed[at] ^= 0x10;
        assert!(Superblock::decode(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn what_a_newer_program_wrote_is_refused_by_its_number() {
    let change = |at: usize, byte: u8| {
        let mut block = superblock().encode();
        block[at] = byte;
        seal(&mut block);
        Superblock::decode(&block).unwrap_err()
    };
    assert_eq!(change(16, 2), BadSuperblock::Version(2));
    assert_eq!(change(25, 1), BadSuperblock::Features(0x100));
    assert_eq!(change(21, 3), BadSuperblock::Field("sector_size"));
    assert_eq!(change(112, 9), BadSuperblock::Field("state"));
    assert_eq!(change(79, 0xff), BadSuperblock::Field("sector_count"));
    // Numbers that would overflow, and sizes that no layer has.
    assert_eq!(change(47, 0x40), BadSuperblock::Field("generation"));
    assert_eq!(change(103, 0xff), BadSuperblock::Field("log_generation"));
    assert_eq!(change(111, 0xff), BadSuperblock::Field("log_sequence"));
    assert_eq!(change(80, 101), BadSuperblock::Field("shown_below"));
    let mut empty = superblock();
    (empty.sector_count, empty.shown_below) = (0, 0);
    assert_eq!(
        Superblock::decode(&empty.encode()),
        Err(BadSuperblock::Field("sector_count"))
    );
    // A compatible feature is nothing to worry about.
    let mut block = superblock().encode();
    block[32] = 1;
    seal(&mut block);
    assert_eq!(Superblock::decode(&block), Ok(superblock()));
}

#[test]
fn a_page_is_read_as_it_was_written_and_damage_is_never_absence() {
    let mut states = States::new(8);
    states.set(1, State::Zero);
    states.set(7, State::Data);
    let image = PageImage { states, sums: None };
    let block = encode_page(5, 3, 1, &image);
    assert_eq!(
        decode_page(&block, 5, 3, &layout()),
        PageContent::Image(image)
    );
    assert_eq!(
        decode_page(&block, 6, 3, &layout()),
        PageContent::Never { is_blank: false }
    );
    assert_eq!(
        decode_page(&[0; BLOCK_BYTES], 5, 3, &layout()),
        PageContent::Never { is_blank: true }
    );
    assert!(matches!(
        decode_page(&block, 5, 4, &layout()),
        PageContent::Damaged(_)
    ));
    for at in 0..BLOCK_BYTES {
        let mut changed = block;
        changed[at] ^= 0x40;
        let content = decode_page(&changed, 5, 3, &layout());
        assert!(matches!(content, PageContent::Damaged(_)), "byte {at}");
    }
}

#[test]
fn a_page_with_checksums_is_read_as_it_was_written_and_by_nobody_who_expects_none() {
    let layout = Layout::new(512, 512, 4, Verify::Data).unwrap();
    let mut image = PageImage::absent(&layout);
    let mut sums = Sums::new(512);
    for (sector, state) in [(1, State::Zero), (2, State::Data), (511, State::Data)] {
        image.states.set(sector, state);
    }
    sums.set(511, 0xdead_beef);
    image.sums = Some(sums);
    let block = encode_page(5, 3, 1, &image);
    // The state of data whose checksum is not known, and of one that is.
    assert_eq!((block[32], block[32 + 127]), (0b11_01_00, 0b10_00_00_00));
    assert_eq!(
        block[160 + 4 * 511..160 + 4 * 512],
        0xdead_beef_u32.to_le_bytes()
    );
    assert_eq!(
        decode_page(&block, 5, 3, &layout),
        PageContent::Image(image)
    );
    let plain = self::layout();
    let content = decode_page(&block, 5, 3, &plain);
    assert!(matches!(content, PageContent::Damaged(_)), "{content:?}");
    let block = encode_page(5, 3, 1, &PageImage::absent(&plain));
    let content = decode_page(&block, 5, 3, &layout);
    assert!(matches!(content, PageContent::Damaged(_)), "{content:?}");
    assert_eq!(
        Layout::new(512, 1024, 4, Verify::Data),
        Err(layout::BadLayout::StripeSectors)
    );
}

#[test]
fn a_layer_that_verifies_its_data_says_so_in_its_superblock() {
    let mut written = superblock();
    written.layout.verify = Verify::Data;
    let mut block = written.encode();
    assert_eq!(Superblock::decode(&block), Ok(written));
    // Its stripes are shorter.
    written.layout.stripe_sectors = 1024;
    assert_eq!(
        Superblock::decode(&written.encode()),
        Err(BadSuperblock::Field("stripe_sectors"))
    );
    block[24] = 5;
    seal(&mut block);
    assert_eq!(Superblock::decode(&block), Err(BadSuperblock::Features(4)));
}

#[test]
fn a_layer_whose_log_has_data_says_so_in_its_superblock() {
    let mut written = superblock();
    written.logs_data = true;
    let block = written.encode();
    assert_eq!(block[24], 2);
    assert_eq!(Superblock::decode(&block), Ok(written));
    // It does not verify its data as well.
    written.layout.verify = Verify::Data;
    assert_eq!(
        Superblock::decode(&written.encode()),
        Err(BadSuperblock::Field("incompatible"))
    );
}

#[test]
fn an_entry_is_read_with_its_images_or_not_at_all() {
    let absent = PageImage::absent(&layout());
    let image = |stripe| encode_page(4, stripe, 13, &absent);
    let images = [image(0), image(9)].concat();
    let entry = Entry {
        log_generation: 6,
        sequence: 13,
        epoch: 4,
        sector_count: 100,
        shown_below: 100,
        durable_blocks: 5,
        stripes: vec![0, 9],
        copies: Vec::new(),
    };
    let mut log = entry.encode(&images).to_vec();
    log.extend(&images);
    log.extend([0; BLOCK_BYTES]);
    assert_eq!(entry.block_count(), 3);
    let whole = Whole {
        entry,
        images: &images,
        copies: Some(Vec::new()),
        rest: &[0; BLOCK_BYTES],
    };
    assert_eq!(Entry::decode(&log), Some(whole));
    for at in (0..3 * BLOCK_BYTES).step_by(257) {
        let mut torn = log.clone();
        torn[at] ^= 1;
        assert_eq!(Entry::decode(&torn), None, "byte {at}");
    }
    assert_eq!(Entry::decode(&log[..2 * BLOCK_BYTES]), None);
    // Whole images of another entry are not its own.
    log[BLOCK_BYTES..2 * BLOCK_BYTES].copy_from_slice(&image(1));
    assert_eq!(Entry::decode(&log), None);
}

#[test]
fn an_entry_is_read_with_its_copies_or_not_at_all() {
    let image = encode_page(4, 7, 13, &PageImage::absent(&layout()));
    let data = [vec![1; 512], vec![2; BLOCK_BYTES + 512]];
    let entry = Entry {
        log_generation: 6,
        sequence: 13,
        epoch: 4,
        sector_count: 100,
        shown_below: 100,
        durable_blocks: 5,
        stripes: vec![7],
        copies: vec![CopyOf::new(60, &data[0]), CopyOf::new(50, &data[1])],
    };
    assert_eq!(entry.block_count(), 2 + 1 + 2);
    let mut log = entry.encode(&image).to_vec();
    log.extend(image);
    for data in &data {
        log.extend(data);
        log.resize(log.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    log.extend([9; BLOCK_BYTES]);
    let whole = Entry::decode(&log).unwrap();
    assert_eq!(whole.entry, entry);
    let copies = whole.copies.unwrap();
    assert_eq!(copies, data);
    assert_eq!(whole.rest, [9; BLOCK_BYTES]);
    // Any byte of it, but for what only fills a block up.
    let first = 2 * BLOCK_BYTES..2 * BLOCK_BYTES + 512;
    let second = 3 * BLOCK_BYTES..4 * BLOCK_BYTES + 512;
    for at in (0..2 * BLOCK_BYTES).chain(first).chain(second).step_by(253) {
        let mut torn = log.clone();
        torn[at] ^= 1;
        let decoded = Entry::decode(&torn);
        match at < 2 * BLOCK_BYTES {
            true => assert_eq!(decoded, None, "byte {at}"),
            false => assert_eq!(decoded.unwrap().copies, None, "byte {at}"),
        }
    }
    assert_eq!(Entry::decode(&log[..5 * BLOCK_BYTES - 1]), None);
}

/// What another entry left there may end with its own crc, as blocks of the log do: then it has the crc of any block that does.
#[test]
fn a_copy_is_not_taken_for_what_another_entry_left() {
    let sealed = |byte| {
        let mut block = [byte; BLOCK_BYTES];
        seal(&mut block);
        block
    };
    assert_eq!(crc32c::crc32c(&sealed(1)), crc32c::crc32c(&sealed(2)));
    let copy_in = |sequence: u64, byte| {
        let mut mixed = sealed(byte);
        CopyOf::mix(&mut mixed, sequence);
        mixed
    };
    let said = CopyOf::new(0, &copy_in(7, 1));
    for left in [
        sealed(1),
        sealed(2),
        copy_in(6, 1),
        copy_in(6, 2),
        copy_in(8, 2),
    ] {
        assert_ne!(CopyOf::new(0, &left), said);
    }
    // Nor if the cut leaves only some sectors of it, each of which ends with its own crc.
    let sealed_sectors = |byte| {
        let mut sector = [byte; 512];
        let checksum = crc32c::crc32c(&sector[..508]);
        sector[508..].copy_from_slice(&checksum.to_le_bytes());
        sector.repeat(8)
    };
    let (mut old, mut new) = (sealed_sectors(1), sealed_sectors(2));
    CopyOf::mix(&mut old, 6);
    CopyOf::mix(&mut new, 7);
    let said = CopyOf::new(0, &new);
    new[3 * 512..5 * 512].copy_from_slice(&old[3 * 512..5 * 512]);
    assert_ne!(CopyOf::new(0, &new), said);
    let mut back = copy_in(7, 1);
    CopyOf::mix(&mut back, 7);
    assert_eq!(back, sealed(1));
    // What an entry would be known by stays visible.
    assert_eq!(copy_in(7, 1)[..8], sealed(1)[..8]);
}

#[test]
fn what_an_entry_cannot_have_is_no_entry() {
    let entry = Entry {
        log_generation: 6,
        sequence: 13,
        epoch: 4,
        sector_count: 100,
        shown_below: 100,
        durable_blocks: 5,
        stripes: Vec::new(),
        copies: vec![CopyOf::new(60, &[1; 512]); COPIES_MAX],
    };
    let change = |changes: &[(usize, u32)]| {
        let mut block = entry.encode(&[]);
        for (at, value) in changes {
            block[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        seal(&mut block);
        Entry::decode_header(&block)
    };
    assert_eq!(change(&[]), Some(entry.clone()));
    let (image_count, copy_count) = (48, 4088);
    assert_eq!(change(&[(copy_count, COPIES_MAX as u32 + 1)]), None);
    assert_eq!(change(&[(copy_count, u32::MAX)]), None);
    // The names of more images would be taken for copies.
    assert!(change(&[(image_count, 256)]).is_some());
    assert_eq!(change(&[(image_count, 257)]), None);
    assert!(change(&[(copy_count, 0), (image_count, 336)]).is_some());
    assert_eq!(change(&[(copy_count, 0), (image_count, 337)]), None);
}

#[test]
fn stripes_lie_one_after_the_other_and_a_store_ends_with_the_last_sector() {
    let layout = layout();
    assert_eq!(layout.page_offset(0), 8192 + 4 * 4096);
    assert_eq!(layout.data_offset(0, 0), layout.page_offset(0) + 4096);
    assert_eq!(layout.page_offset(1), layout.data_offset(0, 8));
    assert_eq!(layout.store_bytes(8), Some(layout.page_offset(1)));
    assert_eq!(layout.store_bytes(9), Some(layout.data_offset(1, 1)));
    assert_eq!(layout.store_bytes(0), Some(layout.page_offset(0)));
    assert_eq!(layout.store_bytes(u64::MAX), None);
    let parts: Vec<_> = layout.parts(6..17).collect();
    let sectors: Vec<_> = parts
        .iter()
        .map(|part| (part.stripe, part.sectors.clone()))
        .collect();
    assert_eq!(sectors, [(0, 6..8), (1, 0..8), (2, 0..1)]);
    assert_eq!(parts[2].first, 16);
}

/// The tables of the document are the structs.
#[test]
fn the_document_says_where_every_field_is() {
    let document = include_str!("../../../../docs/formats/durable-layer.md");
    let sections = [
        ("SuperblockBytes", "## Superblock"),
        ("PageBytes", "## Page"),
        ("SummedPageBytes", "## Page with checksums"),
        ("EntryBytes", "## Log"),
        ("CopyBytes", "### Copies of data"),
    ];
    for (structure, title) in sections {
        let section = document.split_once(title).expect(title).1;
        let section = section.split("\n##").next().unwrap();
        let said: Vec<_> = section.lines().filter_map(row).collect();
        let rows = table::rows();
        let rows = rows.iter().filter(|row| row.0 == structure);
        let meant: Vec<_> = rows.map(|row| (row.2, row.3, row.1.to_owned())).collect();
        assert_eq!(said, meant, "{title}");
    }
    for constants in [
        format!("0 to {IMAGES_MAX}"),
        format!("0 to {COPIES_MAX}"),
        format!("at most {IMAGES_BESIDE_COPIES_MAX} images"),
    ] {
        assert!(document.contains(&constants), "{constants}");
    }
}

/// Offset, length and name of a field, from a row of a table.
fn row(line: &str) -> Option<(usize, usize, String)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let offset = cells.next()?.parse().ok()?;
    let length = cells.next()?.parse().ok()?;
    let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    Some((offset, length, name.to_owned()))
}

proptest! {
    #[test]
    fn states_agree_with_a_list(
        len in 1_u32..300,
        changes in prop::collection::vec((0_u32..300, 0_u32..300, 0..3), 0..20),
    ) {
        let mut states = States::new(len);
        let mut model = vec![State::Absent; len as usize];
        for (a, b, state) in changes {
            let range = a.min(b).min(len)..a.max(b).min(len);
            let state = [State::Absent, State::Zero, State::Data][state as usize];
            states.fill(range.clone(), state);
            model[range.start as usize..range.end as usize].fill(state);
            let mut at = 0;
            while at < len {
                let (state, end) = states.run(at, len);
                prop_assert!(model[at as usize..end as usize].iter().all(|one| *one == state));
                prop_assert!(end == len || model[end as usize] != state);
                at = end;
            }
            let bytes: Vec<u8> = states.bytes().collect();
            prop_assert_eq!(States::from_bytes(&bytes, len), Some(states.clone()));
        }
    }
}
