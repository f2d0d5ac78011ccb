//! Facts about options: each parser on good data, on every truncation of it, and on lies about lengths.

use super::*;

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = string(name);
    data.extend((queries.len() as u32).to_be_bytes());
    queries.iter().for_each(|query| data.extend(string(query)));
    data
}

#[test]
fn a_header_names_its_option() {
    let bytes = *b"IHAVEOPT\0\0\0\x07\0\0\0\x10";
    let header = OptionHeader::parse(&bytes).unwrap();
    assert_eq!((header.kind(), header.data_len), (OptionKind::Go, 16));
    assert_eq!(
        OptionHeader::parse(b"GET / HTTP/1.1\r\n"),
        Err(u64::from_be_bytes(*b"GET / HT"))
    );
}

#[test]
fn there_is_no_tls() {
    let start_tls = OptionHeader {
        code: 5,
        data_len: 0,
    };
    assert_eq!(start_tls.kind(), OptionKind::Unknown);
}

#[test]
fn an_info_request_names_an_export_and_what_is_wanted() {
    let mut data = string("vm1");
    data.extend([0, 2, 0, 1, 0, 3]);
    let request = InfoRequest::parse(&data).unwrap();
    assert_eq!(request.export_name, "vm1");
    assert_eq!(request.wanted[..], [info::NAME, info::BLOCK_SIZE]);
    for len in 0..data.len() {
        assert!(InfoRequest::parse(&data[..len]).is_err(), "{len} bytes");
    }
    data.push(0);
    assert!(InfoRequest::parse(&data).is_err());
}

#[test]
fn a_length_that_lies_is_refused_without_an_allocation() {
    assert!(InfoRequest::parse(&[0xff; 6]).is_err());
    let mut data = string("");
    data.extend([0xff; 4]);
    assert!(ContextRequest::parse(&data).is_err());
}

#[test]
fn context_queries_are_told_apart() {
    let parse = |queries: &[&str]| {
        let data = contexts("", queries);
        let request = ContextRequest::parse(&data).unwrap();
        (
            request.is_empty,
            request.names_allocation,
            request.names_namespace,
        )
    };
    assert_eq!(parse(&[]), (true, false, false));
    assert_eq!(parse(&["base:allocation"]), (false, true, false));
    assert_eq!(parse(&["base:"]), (false, false, true));
    assert_eq!(
        parse(&["qemu:dirty-bitmap:x", "base:other"]),
        (false, false, false)
    );
    assert_eq!(
        parse(&["x-y:z", "base:", "base:allocation"]),
        (false, true, true)
    );
}

#[test]
fn a_query_without_a_namespace_is_refused() {
    assert!(ContextRequest::parse(&contexts("", &["allocation"])).is_err());
}

#[test]
fn a_truncated_context_request_is_refused() {
    let data = contexts("disk", &["base:allocation", "base:"]);
    assert_eq!(ContextRequest::parse(&data).unwrap().export_name, "disk");
    for len in 0..data.len() {
        assert!(ContextRequest::parse(&data[..len]).is_err(), "{len} bytes");
    }
    let longer = [&data[..], b"\0"].concat();
    assert!(ContextRequest::parse(&longer).is_err());
}

#[test]
fn strings_are_bounded_utf8_without_zero_bytes() {
    assert_eq!(parse_string("Größe".as_bytes()), Ok("Größe"));
    assert!(parse_string(&[b'a'; STRING_LEN_MAX]).is_ok());
    assert!(parse_string(&[b'a'; STRING_LEN_MAX + 1]).is_err());
    assert!(parse_string(b"a\0b").is_err());
    assert!(parse_string(b"\xff").is_err());
}

#[test]
fn a_reply_repeats_the_option_and_counts_its_data() {
    let mut out = Vec::new();
    push_reply(&mut out, 3, ReplyKind::Server, &[b"ab", b"c"]);
    assert_eq!(
        out,
        *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x03\0\0\0\x02\0\0\0\x03abc"
    );
    out.clear();
    push_reply(&mut out, 99, ReplyKind::Unsupported, &[]);
    assert_eq!(out[8..], [0, 0, 0, 99, 0x80, 0, 0, 1, 0, 0, 0, 0]);
}
