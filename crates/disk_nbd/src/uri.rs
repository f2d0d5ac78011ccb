//! NBD URIs: which server, and which of its exports.
//!
//! By the specification beside the protocol's (`doc/uri.md` of the NBD project), on top of RFC 3986.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port of a URI that names none, registered for NBD.
pub const PORT_DEFAULT: u16 = 10809;

/// The longest URI that is looked at, in bytes: an export's name and a path, all of it escaped.
const URI_LEN_MAX: usize = 32 * 1024;

/// The longest name of an export that the protocol allows, in bytes.
const EXPORT_NAME_LEN_MAX: usize = 4096;

/// An export of an NBD server: `nbd://HOST[:PORT]/EXPORT` or `nbd+unix:///EXPORT?socket=PATH`.
///
/// Whatever is not plain is escaped as `%20`; `Display` gives a URI that is parsed to the same value again. An IPv6 address stands
/// in brackets; without a port it is [`PORT_DEFAULT`]. Without a name it is the server's default export.
///
/// ```
/// let uri: disk_nbd::NbdUri = "nbd+unix:///vm%201?socket=/run/disks".parse()?;
/// assert_eq!(uri.export_name(), "vm 1");
/// assert_eq!(uri.to_string(), "nbd+unix:///vm%201?socket=/run/disks");
/// # Ok::<(), disk_nbd::InvalidNbdUri>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NbdUri {
    address: NbdAddress,
    export_name: String,
}

/// Where an NBD server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NbdAddress {
    /// A Unix socket, by its path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port, never 0.
        port: u16,
    },
}

/// Why a text is no [`NbdUri`]. The message quotes the text, shortened, and says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an NBD URI that can be used: {reason}")]
pub struct InvalidNbdUri {
    text: String,
    reason: String,
}

impl NbdUri {
    /// The export `export_name` of the server at `address`.
    ///
    /// # Errors
    /// [`InvalidNbdUri`] where no URI can say it: a name of more than 4096 bytes or with a zero byte in it, an empty path or
    /// host, a port 0.
    pub fn new(address: NbdAddress, export_name: impl Into<String>) -> Result<Self, InvalidNbdUri> {
        let uri = Self {
            address,
            export_name: export_name.into(),
        };
        match uri.check() {
            Ok(()) => Ok(uri),
            Err(reason) => Err(InvalidNbdUri::new(&uri.to_string(), reason)),
        }
    }

    /// Whether `text` looks like an NBD URI, right or wrong, rather than like a path.
    pub fn is_meant_by(text: &str) -> bool {
        SCHEMES.iter().any(|(scheme, _)| {
            text.strip_prefix(scheme)
                .is_some_and(|rest| rest.starts_with(':'))
        })
    }

    /// Where the server is.
    pub fn address(&self) -> &NbdAddress {
        &self.address
    }

    /// The name of the export; empty for the server's default.
    pub fn export_name(&self) -> &str {
        &self.export_name
    }

    /// The same export, with a relative path of a socket made relative to `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        if let NbdAddress::Unix(path) = &mut self.address {
            *path = folder.join(&*path);
        }
        self
    }

    fn check(&self) -> Result<(), String> {
        match &self.address {
            NbdAddress::Unix(path) => check_path(path.as_os_str().as_bytes())?,
            NbdAddress::Tcp { host, .. } if host.is_empty() => return Err(NO_HOST.to_owned()),
            NbdAddress::Tcp { host, .. } if host.contains(NOT_IN_HOSTS) => {
                return Err("this is no name of a host".to_owned());
            }
            NbdAddress::Tcp { port: 0, .. } => return Err(BAD_PORT.to_owned()),
            NbdAddress::Tcp { .. } => {}
        }
        check_export_name(&self.export_name)
    }
}

/// What follows a scheme.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Unix,
    /// Known, and not available here: the reason.
    Unavailable(&'static str),
}

const NO_TLS: &str = "it asks for TLS, which this client does not speak: use nbd:// or nbd+unix://, through a tunnel where the network is not trusted";

const SCHEMES: [(&str, Scheme); 6] = [
    ("nbd", Scheme::Tcp),
    ("nbd+unix", Scheme::Unix),
    ("nbds", Scheme::Unavailable(NO_TLS)),
    ("nbds+unix", Scheme::Unavailable(NO_TLS)),
    (
        "nbd+vsock",
        Scheme::Unavailable("vsock is not supported: use nbd:// or nbd+unix://"),
    ),
    ("nbds+vsock", Scheme::Unavailable(NO_TLS)),
];

const NO_HOST: &str = "the host is missing, as in nbd://localhost/";
/// What no name of a host contains, and what would be read as something else.
const NOT_IN_HOSTS: [char; 4] = ['\0', '[', ']', '/'];
const BAD_PORT: &str = "a port is a number from 1 to 65535";

impl FromStr for NbdUri {
    type Err = InvalidNbdUri;

    fn from_str(text: &str) -> Result<Self, InvalidNbdUri> {
        parse(text).map_err(|reason| InvalidNbdUri::new(text, reason))
    }
}

impl TryFrom<String> for NbdUri {
    type Error = InvalidNbdUri;

    fn try_from(text: String) -> Result<Self, InvalidNbdUri> {
        text.parse()
    }
}

impl From<NbdUri> for String {
    fn from(uri: NbdUri) -> Self {
        uri.to_string()
    }
}

impl schemars::JsonSchema for NbdUri {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NbdUri".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

impl inspect::Inspect for NbdUri {
    fn inspect(&self, request: inspect::Request<'_>) {
        request.value(self.to_string());
    }
}

fn parse(text: &str) -> Result<NbdUri, String> {
    if text.len() > URI_LEN_MAX {
        return Err(format!("it is longer than {URI_LEN_MAX} bytes"));
    }
    if let Some(odd) = text.chars().find(|c| c.is_control() || *c == ' ') {
        return Err(format!("{odd:?} must be escaped in a URI, as in %20"));
    }
    let (scheme, rest) = split_scheme(text)?;
    if rest.contains('#') {
        return Err("it has a fragment: a # of a name or a path is written %23".to_owned());
    }
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, query),
        None => (rest, ""),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The slash in front does not belong to the name; one behind it does.
    let export_name = decode(path.strip_prefix('/').unwrap_or(path))?;
    let export_name = String::from_utf8(export_name)
        .map_err(|_| "the name of the export is not UTF-8".to_owned())?;
    check_export_name(&export_name)?;
    let socket = socket_of(query)?;
    let address = match scheme {
        Scheme::Unix => unix_address(authority, socket)?,
        Scheme::Tcp => tcp_address(authority, socket)?,
        Scheme::Unavailable(reason) => return Err(reason.to_owned()),
    };
    Ok(NbdUri {
        address,
        export_name,
    })
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), String> {
    const FORMS: &str = "it must begin with nbd:// or nbd+unix://";
    let (scheme, rest) = text.split_once(':').ok_or(FORMS)?;
    let known = SCHEMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(scheme));
    let (name, scheme) = known.ok_or(FORMS)?;
    if let Scheme::Unavailable(reason) = scheme {
        return Err((*reason).to_owned());
    }
    let rest = rest
        .strip_prefix("//")
        .ok_or_else(|| format!("two slashes must follow the scheme, as in {name}://"))?;
    Ok((*scheme, rest))
}

/// The socket that a query names, if it does. It may name nothing else.
fn socket_of(query: &str) -> Result<Option<PathBuf>, String> {
    let mut socket = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match decode(key)?.as_slice() {
            b"socket" => {
                let path = decode(value)?;
                check_path(&path)?;
                let path = PathBuf::from(std::ffi::OsString::from_vec(path));
                if socket.replace(path).is_some() {
                    return Err("socket= is given twice".to_owned());
                }
            }
            tls if tls.starts_with(b"tls-") => {
                return Err(format!(
                    "{} is about TLS, which this client does not speak: leave it out",
                    quoted(key)
                ));
            }
            _ => {
                return Err(format!(
                    "the parameter {} is unknown: only socket= means something here (a & of a path is written %26)",
                    quoted(key)
                ));
            }
        }
    }
    Ok(socket)
}

fn unix_address(authority: &str, socket: Option<PathBuf>) -> Result<NbdAddress, String> {
    if !authority.is_empty() {
        return Err(format!(
            "a Unix socket has no host: write three slashes, nbd+unix:///, before the name of the export, not {}",
            quoted(authority)
        ));
    }
    match socket {
        Some(path) => Ok(NbdAddress::Unix(path)),
        None => {
            Err("the socket is missing, as in nbd+unix:///EXPORT?socket=/run/nbd.sock".to_owned())
        }
    }
}

fn tcp_address(authority: &str, socket: Option<PathBuf>) -> Result<NbdAddress, String> {
    if socket.is_some() {
        return Err("socket= is for Unix sockets: write nbd+unix:///".to_owned());
    }
    if authority.contains('@') {
        return Err(
            "a user in front of the host is for TLS, which this client does not speak".to_owned(),
        );
    }
    let (host, port) = split_port(authority)?;
    Ok(NbdAddress::Tcp { host, port })
}

fn split_port(authority: &str) -> Result<(String, u16), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest
                .split_once(']')
                .filter(|(address, _)| address.parse::<Ipv6Addr>().is_ok())
                .ok_or("there is no IPv6 address in the brackets")?;
            let port = match rest.strip_prefix(':') {
                Some(port) => port,
                None if rest.is_empty() => "",
                None => return Err("only a port can follow the brackets".to_owned()),
            };
            (address.to_owned(), port)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            if port.contains(':') {
                return Err("an IPv6 address needs brackets, as in nbd://[::1]/".to_owned());
            }
            let host =
                String::from_utf8(decode(host)?).map_err(|_| "the host is not UTF-8".to_owned())?;
            if host.contains(NOT_IN_HOSTS) {
                return Err("this is no name of a host".to_owned());
            }
            (host, port)
        }
    };
    if host.is_empty() {
        return Err(NO_HOST.to_owned());
    }
    Ok((host, parse_port(port)?))
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text {
        // RFC 3986 allows the colon without a port behind it.
        "" => Ok(PORT_DEFAULT),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| BAD_PORT.to_owned()),
        _ => Err(BAD_PORT.to_owned()),
    }
}

fn check_export_name(name: &str) -> Result<(), String> {
    if name.len() > EXPORT_NAME_LEN_MAX {
        return Err(format!(
            "the name of the export is longer than {EXPORT_NAME_LEN_MAX} bytes"
        ));
    }
    if name.contains('\0') {
        return Err("the name of the export contains a zero byte".to_owned());
    }
    Ok(())
}

fn check_path(path: &[u8]) -> Result<(), String> {
    match path.first() {
        None => Err("the path of the socket is empty".to_owned()),
        Some(0) => Err("sockets without a file (abstract ones) are not supported".to_owned()),
        Some(_) if path.contains(&0) => {
            Err("the path of the socket contains a zero byte".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// Undoes the escapes of a part of a URI.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = behind;
            continue;
        }
        let digit = |at: usize| {
            behind
                .get(at)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(
                "a % must be followed by two hexadecimal digits; by itself it is written %25"
                    .to_owned(),
            );
        };
        // Two hexadecimal digits are a byte.
        bytes.push((high * 16 + low) as u8);
        rest = &behind[2..];
    }
    Ok(bytes)
}

/// Appends `bytes` as a part of a URI's path or query: everything but unreserved characters and `/` is escaped.
fn push_encoded(out: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.write_char(char::from(byte))?;
            }
            _ => write!(out, "%{byte:02X}")?,
        }
    }
    Ok(())
}

impl fmt::Display for NbdUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            NbdAddress::Unix(path) => {
                f.write_str("nbd+unix:///")?;
                push_encoded(f, self.export_name.as_bytes())?;
                f.write_str("?socket=")?;
                push_encoded(f, path.as_os_str().as_bytes())
            }
            NbdAddress::Tcp { host, port } => {
                f.write_str("nbd://")?;
                match host.parse::<Ipv6Addr>() {
                    Ok(_) => write!(f, "[{host}]")?,
                    Err(_) => push_encoded(f, host.as_bytes())?,
                }
                if *port != PORT_DEFAULT {
                    write!(f, ":{port}")?;
                }
                f.write_char('/')?;
                push_encoded(f, self.export_name.as_bytes())
            }
        }
    }
}

impl InvalidNbdUri {
    fn new(text: &str, reason: impl Into<String>) -> Self {
        Self {
            text: shortened(text),
            reason: reason.into(),
        }
    }
}

/// The longest text that a message quotes, in bytes.
const QUOTED_LEN_MAX: usize = 200;

fn shortened(text: &str) -> String {
    match text.len() {
        ..=QUOTED_LEN_MAX => text.to_owned(),
        _ => format!("{}...", &text[..text.floor_char_boundary(QUOTED_LEN_MAX)]),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

#[cfg(test)]
mod tests;
