//! Where a server listens, and how its clients name that place.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An address to listen on: `unix:PATH`, `tcp:HOST:PORT`, or `tcp:PORT` for this machine only.
///
/// An IPv6 address stands in brackets, as in `tcp:[::1]:10809`. Port 0 lets the system choose one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A Unix socket, by its path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port; 0 for any.
        port: u16,
    },
}

/// The host of a TCP address that names none: nobody else can reach it.
const LOOPBACK: &str = "127.0.0.1";

/// Why a text is no [`ListenAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an address to listen on: {reason}", .text.escape_debug())]
pub struct InvalidListenAddress {
    text: String,
    reason: &'static str,
}

impl ListenAddress {
    /// The URI that names the export `export_name` at this address, for clients such as `nbdinfo` and `qemu-img`.
    ///
    /// A host that stands for every address of the machine is named `localhost`; a relative path is made absolute.
    pub fn uri(&self, export_name: &str) -> String {
        let mut uri = String::new();
        match self {
            Self::Unix(path) => {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                uri.push_str("nbd+unix:///");
                push_encoded(&mut uri, export_name.as_bytes());
                uri.push_str("?socket=");
                push_encoded(&mut uri, path.as_os_str().as_bytes());
            }
            Self::Tcp { host, port } => {
                uri.push_str("nbd://");
                match host.as_str() {
                    "0.0.0.0" | "::" => uri.push_str("localhost"),
                    host if host.contains(':') => write!(uri, "[{host}]").expect("a string grows"),
                    host => push_encoded(&mut uri, host.as_bytes()),
                }
                write!(uri, ":{port}/").expect("a string grows");
                push_encoded(&mut uri, export_name.as_bytes());
            }
        }
        uri
    }

    /// Whether only processes of this machine can connect.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => match host.parse::<std::net::IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => host == "localhost",
            },
        }
    }
}

/// Appends `bytes` as a part of a URI's path or query: everything but unreserved characters and `/` is escaped.
fn push_encoded(uri: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => write!(uri, "%{byte:02X}").expect("a string grows"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.split_once(':') {
            Some(("unix", "")) => Err("the path is missing, as in `unix:/run/disk.sock`"),
            Some(("unix", path)) => Ok(Self::Unix(Path::new(path).to_owned())),
            Some(("tcp", rest)) => parse_tcp(rest),
            _ => Err("it must begin with `unix:` or `tcp:`"),
        };
        parsed.map_err(|reason| InvalidListenAddress {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse_tcp(text: &str) -> Result<ListenAddress, &'static str> {
    const FORM: &str = "a TCP address is `tcp:HOST:PORT`, or `tcp:PORT` for this machine only";
    let (host, port) = match text.rsplit_once(':') {
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => ("", text),
        None => return Err(FORM),
        Some((host, port)) => (host, port),
    };
    let host = match host.strip_prefix('[') {
        Some(rest) => match rest.strip_suffix(']') {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            _ => return Err("there is no IPv6 address in the brackets"),
        },
        None if host.contains([':', ']']) => {
            return Err("an IPv6 address needs brackets, as in `tcp:[::1]:10809`");
        }
        None if host.is_empty() => LOOPBACK,
        None => host,
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FORM);
    }
    let port = port
        .parse()
        .map_err(|_| "a port is a number from 0 to 65535")?;
    Ok(ListenAddress::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

impl inspect::Inspect for ListenAddress {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.value(self.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn tcp(host: &str, port: u16) -> ListenAddress {
        ListenAddress::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_text_for_a_terminal() {
        let refused = "tcp:\u{1b}[31m".parse::<ListenAddress>();
        let message = refused.expect_err("it is no address").to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
    }

    #[test]
    fn every_form_is_understood() {
        for (text, address) in [
            (
                "unix:/run/a:b.sock",
                ListenAddress::Unix("/run/a:b.sock".into()),
            ),
            ("unix:relative", ListenAddress::Unix("relative".into())),
            ("tcp:10809", tcp("127.0.0.1", 10809)),
            ("tcp::0", tcp("127.0.0.1", 0)),
            ("tcp:localhost:1", tcp("localhost", 1)),
            ("tcp:0.0.0.0:65535", tcp("0.0.0.0", 65535)),
            ("tcp:[::1]:10809", tcp("::1", 10809)),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_displayed_is_understood_again() {
        for text in ["unix:/a b", "tcp:h.example:1", "tcp:[fe80::1]:2"] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "must begin with"),
            ("/run/disk.sock", "must begin with"),
            ("vsock:1:2", "must begin with"),
            ("unix:", "path is missing"),
            ("tcp:", "a port is a number"),
            ("tcp:localhost", "tcp:HOST:PORT"),
            ("tcp:localhost:", "a port is a number"),
            ("tcp:localhost:65536", "a port is a number"),
            ("tcp:localhost:+1", "tcp:HOST:PORT"),
            ("tcp:::1:10809", "needs brackets"),
            ("tcp:[::1:10809", "no IPv6 address"),
            ("tcp:[localhost]:1", "no IPv6 address"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_uri_escapes_what_it_must() {
        let unix = ListenAddress::Unix("/tmp/a b?&#+%/s.sock".into());
        assert_eq!(
            unix.uri("disk one/2"),
            "nbd+unix:///disk%20one/2?socket=/tmp/a%20b%3F%26%23%2B%25/s.sock"
        );
        let bytes = ListenAddress::Unix(OsStr::from_bytes(b"/\xff").into());
        assert_eq!(bytes.uri(""), "nbd+unix:///?socket=/%FF");
        assert_eq!(tcp("::1", 10809).uri("ü"), "nbd://[::1]:10809/%C3%BC");
        assert_eq!(tcp("0.0.0.0", 1).uri(""), "nbd://localhost:1/");
    }

    #[test]
    fn the_uri_of_a_relative_path_is_absolute() {
        let uri = ListenAddress::Unix("s.sock".into()).uri("");
        assert!(
            uri.starts_with("nbd+unix:///?socket=/") && uri.ends_with("/s.sock"),
            "{uri}"
        );
    }

    #[test]
    fn only_loopback_and_unix_are_local() {
        let is_local = |text: &str| text.parse::<ListenAddress>().unwrap().is_local();
        for text in [
            "unix:s",
            "tcp:1",
            "tcp:127.9.9.9:1",
            "tcp:[::1]:1",
            "tcp:localhost:1",
        ] {
            assert!(is_local(text), "{text}");
        }
        for text in [
            "tcp:0.0.0.0:1",
            "tcp:[::]:1",
            "tcp:example.org:1",
            "tcp:10.0.0.1:1",
        ] {
            assert!(!is_local(text), "{text}");
        }
    }
}
