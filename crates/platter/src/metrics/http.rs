//! As much of HTTP/1.1 (RFC 9112) as a scrape needs: one request, one reply, the end.

use crate::door::Client;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// How long the head of a request may be, in bytes.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// How long a client may take to send it.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// The reply for which there is no room.
pub(crate) const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Answers a client once. `page` is called only if it is asked for.
///
/// # Errors
/// If the client is gone.
pub(crate) fn serve(mut client: Client, page: impl FnOnce() -> String) -> io::Result<()> {
    let begun = Instant::now();
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !is_complete(&head) {
        let read = client.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&piece[..read]);
        if head.len() > HEAD_LEN_MAX {
            return client.write_all(&reply(431, "Request Header Fields Too Large", "", ""));
        }
        if begun.elapsed() > HEAD_TIME_MAX {
            return client.write_all(&reply(408, "Request Timeout", "", ""));
        }
    }
    client.write_all(&answer(&head, page))
}

fn is_complete(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n")
}

/// The reply to a request with this head.
fn answer(head: &[u8], page: impl FnOnce() -> String) -> Vec<u8> {
    let Some((method, target)) = request_line(head) else {
        return reply(400, "Bad Request", "", "this is no HTTP/1.1 request\n");
    };
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        (_, path) if path != "/metrics" => reply(404, "Not Found", "", "there is only /metrics\n"),
        ("GET", _) => reply(200, "OK", TEXT, &page()),
        _ => reply(
            405,
            "Method Not Allowed",
            "Allow: GET\r\n",
            "only GET is allowed\n",
        ),
    }
}

const TEXT: &str = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";

/// Method and target, if the first line is one of HTTP/1, and every other line a header.
fn request_line(head: &[u8]) -> Option<(&str, &str)> {
    let head = std::str::from_utf8(head).ok()?;
    let (head, _) = head.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_token =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_header = |line: &str| line.split_once(':').is_some_and(|(name, _)| is_token(name));
    let is_request = words.next().is_none()
        && matches!(version, "HTTP/1.1" | "HTTP/1.0")
        && is_token(method)
        && target.starts_with('/')
        && is_token(target)
        && lines.all(is_header);
    is_request.then_some((method, target))
}

fn reply(status: u16, reason: &str, headers: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "HTTP/1.1 {status} {reason}\r\n{headers}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &str) -> String {
        let answer = answer(head.as_bytes(), || "the page".to_owned());
        String::from_utf8(answer).unwrap()[9..12].to_owned()
    }

    #[test]
    fn only_a_get_of_metrics_is_answered_with_them() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
            ("GET /metrics?name=x HTTP/1.0\r\n\r\n", "200"),
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/x HTTP/1.1\r\n\r\n", "404"),
            ("POST / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("GET  /metrics HTTP/1.1\r\n\r\n", "400"),
            ("GET /metrics HTTP/2\r\n\r\n", "400"),
            ("GET /metrics\r\n\r\n", "400"),
            ("GET metrics HTTP/1.1\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1 x\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1\r\nno header\r\n\r\n", "400"),
            ("GET /metrics HTTP/1.1\r\n: no name\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            assert_eq!(status(head), expected, "{head:?}");
        }
        let bytes = answer(b"GET /\xff HTTP/1.1\r\n\r\n", String::new);
        assert!(bytes.starts_with(b"HTTP/1.1 400 "));
    }
}
