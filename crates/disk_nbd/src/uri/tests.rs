//! What is understood, what is printed, and what is refused.

use super::*;
use proptest::prelude::*;
use std::ffi::OsStr;

fn tcp(host: &str, port: u16, name: &str) -> NbdUri {
    let host = host.to_owned();
    NbdUri::new(NbdAddress::Tcp { host, port }, name).unwrap()
}

fn unix(path: &str, name: &str) -> NbdUri {
    NbdUri::new(NbdAddress::Unix(path.into()), name).unwrap()
}

#[test]
fn every_form_is_understood() {
    for (text, uri) in [
        ("nbd://example.com", tcp("example.com", 10809, "")),
        ("nbd://example.com/", tcp("example.com", 10809, "")),
        ("nbd://example.com/disk", tcp("example.com", 10809, "disk")),
        (
            "nbd://example.com//disk",
            tcp("example.com", 10809, "/disk"),
        ),
        (
            "nbd://example.com/hello%20world",
            tcp("example.com", 10809, "hello world"),
        ),
        ("nbd://h:1/a/b%2fc", tcp("h", 1, "a/b/c")),
        ("nbd://h:/x", tcp("h", 10809, "x")),
        ("NBD://h:65535/x", tcp("h", 65535, "x")),
        ("nbd://[::1]/x", tcp("::1", 10809, "x")),
        ("nbd://[fe80::2]:7/x", tcp("fe80::2", 7, "x")),
        ("nbd://h/%C3%BC+1", tcp("h", 10809, "ü+1")),
        ("nbd://h/?", tcp("h", 10809, "")),
        ("nbd+unix:///disk?socket=sock", unix("sock", "disk")),
        ("nbd+unix:///?socket=/a%20b%26c", unix("/a b&c", "")),
        ("nbd+unix://?socket=/s", unix("/s", "")),
        ("nbd+unix:////x?socket=/s", unix("/s", "/x")),
    ] {
        assert_eq!(text.parse(), Ok(uri), "{text}");
    }
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "must begin with"),
        ("disk.raw", "must begin with"),
        ("http://h/x", "must begin with"),
        ("nbd:h:10809", "two slashes"),
        ("nbd:unix:/s", "two slashes"),
        ("nbds://h/x", "TLS"),
        ("nbds+unix:///?socket=s", "TLS"),
        ("nbd+vsock://2/x", "vsock"),
        ("nbd:///x", "host is missing"),
        ("nbd://:1/x", "host is missing"),
        ("nbd://h:0/x", "from 1 to 65535"),
        ("nbd://h:65536/x", "from 1 to 65535"),
        ("nbd://h:99999999999999999999/x", "from 1 to 65535"),
        ("nbd://h:+1/x", "from 1 to 65535"),
        ("nbd://::1/x", "needs brackets"),
        ("nbd://[::1/x", "no IPv6 address"),
        ("nbd://[h]/x", "no IPv6 address"),
        ("nbd://[::1]1/x", "only a port"),
        ("nbd://%5Bh/x", "no name of a host"),
        ("nbd://a%2Fb/x", "no name of a host"),
        ("nbd://me@h/x", "a user"),
        ("nbd://h/x#y", "fragment"),
        ("nbd://h/a b", "must be escaped"),
        ("nbd://h/a\n", "must be escaped"),
        ("nbd://h/%", "two hexadecimal digits"),
        ("nbd://h/%4", "two hexadecimal digits"),
        ("nbd://h/%zz", "two hexadecimal digits"),
        ("nbd://h/%é", "two hexadecimal digits"),
        ("nbd://h/%+1", "two hexadecimal digits"),
        ("nbd://h/%FF", "not UTF-8"),
        ("nbd://%FF/x", "host is not UTF-8"),
        ("nbd://h/a%00b", "zero byte"),
        ("nbd://h/x?socket=/s", "nbd+unix"),
        ("nbd://h/x?tls-type=psk", "TLS"),
        ("nbd+unix:///x", "socket is missing"),
        ("nbd+unix:///x?socket=", "path of the socket is empty"),
        ("nbd+unix:///x?socket", "path of the socket is empty"),
        ("nbd+unix:///x?socket=%00a", "abstract"),
        ("nbd+unix:///x?socket=a%00", "zero byte"),
        ("nbd+unix:///x?socket=a&socket=b", "twice"),
        ("nbd+unix:///x?sock=a", "\"sock\" is unknown"),
        ("nbd+unix://h/x?socket=a", "has no host"),
    ] {
        let error = text.parse::<NbdUri>().expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_name_that_is_too_long_is_refused_and_quoted_in_part() {
    let longest = "x".repeat(EXPORT_NAME_LEN_MAX);
    assert!(format!("nbd://h/{longest}").parse::<NbdUri>().is_ok());
    for len in [EXPORT_NAME_LEN_MAX + 1, URI_LEN_MAX] {
        let text = format!("nbd://h/{}", "ä".repeat(len));
        let error = text.parse::<NbdUri>().unwrap_err().to_string();
        assert!(
            error.contains("longer than") && error.len() < 400,
            "{error}"
        );
    }
}

#[test]
fn what_no_uri_can_say_is_refused() {
    let tcp = |host: &str, port| NbdAddress::Tcp {
        host: host.to_owned(),
        port,
    };
    for (address, name) in [
        (tcp("", 1), ""),
        (tcp("h]", 1), ""),
        (tcp("h", 0), ""),
        (tcp("h", 1), "a\0b"),
        (NbdAddress::Unix("".into()), ""),
        (NbdAddress::Unix("a\0".into()), ""),
    ] {
        assert!(NbdUri::new(address.clone(), name).is_err(), "{address:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    let path = Path::new(OsStr::from_bytes(b"/\xff %"));
    let uri = NbdUri::new(NbdAddress::Unix(path.into()), "a?b").unwrap();
    assert_eq!(uri.to_string(), "nbd+unix:///a%3Fb?socket=/%FF%20%25");
    assert_eq!(uri.to_string().parse(), Ok(uri));
}

#[test]
fn only_a_relative_socket_is_relative_to_a_folder() {
    let folder = Path::new("/etc/disks");
    let uri = |text: &str| text.parse::<NbdUri>().unwrap().relative_to(folder);
    assert_eq!(uri("nbd+unix:///?socket=s"), unix("/etc/disks/s", ""));
    assert_eq!(uri("nbd+unix:///?socket=/s"), unix("/s", ""));
    assert_eq!(uri("nbd://h/s"), tcp("h", 10809, "s"));
}

#[test]
fn a_uri_is_told_from_a_path() {
    for text in ["nbd://h", "nbd+unix:///", "nbds://x", "nbd:wrong"] {
        assert!(NbdUri::is_meant_by(text), "{text}");
    }
    for text in ["nbd", "nbd.raw", "nbdx:1", "file:nbd://", "/nbd:"] {
        assert!(!NbdUri::is_meant_by(text), "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_understood_again(
        host in "[a-zA-Z0-9.:äß%@ -]{1,20}",
        port in 1_u16..,
        path in prop::collection::vec(1_u8.., 1..30),
        name in "[^\u{0}]{0,30}",
    ) {
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        for address in [NbdAddress::Tcp { host, port }, NbdAddress::Unix(path)] {
            let uri = NbdUri::new(address, name.as_str()).unwrap();
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }

    #[test]
    fn nothing_that_is_written_panics(text in "(nbds?(\\+unix|\\+vsock)?://?)?.{0,60}") {
        if let Ok(uri) = text.parse::<NbdUri>() {
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }
}
