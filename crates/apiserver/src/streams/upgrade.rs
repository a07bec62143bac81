//! Which protocol a request is upgraded to: WebSocket with one of the channel protocols, SPDY/3.1, or SPDY/3.1 inside a
//! WebSocket. Reads headers, makes the 101; carries no bytes.

use super::Kind;
use crate::answer::{ApiError, Body, full};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The stream after the upgrade.
pub(super) type Io = TokioIo<hyper::upgrade::Upgraded>;

const STREAM_VERSION: &str = "x-stream-protocol-version";
/// A token in the list of subprotocols, for callers that cannot set headers.
pub(crate) const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// How channels and their ends are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Channels {
    /// Text frames: a digit and base64.
    pub(super) base64: bool,
    /// The end is a `Status`; before version 4 it is a sentence.
    pub(super) status: bool,
    /// The caller may close one channel.
    pub(super) closes: bool,
}

/// What was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Channels over WebSocket, under this name.
    WebSocket(&'static str, Channels),
    /// SPDY/3.1 in the binary messages of a WebSocket.
    Tunnel,
    /// SPDY/3.1, under this name; whether ends are a `Status`.
    Spdy(&'static str, bool),
}

/// Why nothing was agreed.
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) accepted: &'static [&'static str],
}

fn words<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|w| !w.is_empty())
}

fn has(headers: &HeaderMap, name: &str, word: &str) -> bool {
    words(headers, name).any(|w| w.eq_ignore_ascii_case(word))
}

/// Whether the caller wants another protocol at all.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has(headers, "connection", "upgrade") && headers.contains_key(header::UPGRADE)
}

/// The token among the subprotocols of a WebSocket, still encoded.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    if !has(headers, "upgrade", "websocket") {
        return None;
    }
    words(headers, "sec-websocket-protocol").find_map(|w| w.strip_prefix(BEARER))
}

impl Protocol {
    /// The first of the caller's protocols that is served.
    pub(super) fn negotiate(kind: Kind, headers: &HeaderMap) -> Result<Self, Refused> {
        if has(headers, "upgrade", "websocket") {
            return Self::websocket(kind, headers);
        }
        let refused = |code, message: String, accepted| Refused { code, message, accepted };
        let upgrade = headers.get(header::UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !upgrade.eq_ignore_ascii_case("SPDY/3.1") {
            let why = format!("unable to upgrade: unsupported upgrade protocol {upgrade:?}: use websocket or SPDY/3.1");
            return Err(refused(400, why, &[]));
        }
        let served: &'static [&'static str] = match kind {
            Kind::PortForward => &["portforward.k8s.io"],
            _ => &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"],
        };
        let asked: Vec<&str> = words(headers, STREAM_VERSION).collect();
        if asked.is_empty() {
            return Err(refused(400, "unable to upgrade: X-Stream-Protocol-Version is required".to_owned(), &[]));
        }
        match asked.iter().find_map(|a| served.iter().find(|s| *s == a)) {
            Some(name) => Ok(Self::Spdy(name, *name == "v4.channel.k8s.io")),
            None => {
                let why = format!(
                    "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                    asked.join(" "),
                    served.join(" ")
                );
                Err(refused(403, why, served))
            }
        }
    }

    fn websocket(kind: Kind, headers: &HeaderMap) -> Result<Self, Refused> {
        let key = headers.contains_key(header::SEC_WEBSOCKET_KEY);
        if !key || !has(headers, "sec-websocket-version", "13") {
            return Err(Refused {
                code: 400,
                message: "not a WebSocket handshake of version 13".into(),
                accepted: &[],
            });
        }
        let binary = |status, closes| Channels { base64: false, status, closes };
        let text = |status| Channels { base64: true, status, closes: false };
        let served: &[(&'static str, Channels)] = match kind {
            Kind::PortForward => {
                &[("v4.channel.k8s.io", binary(false, false)), ("v4.base64.channel.k8s.io", text(false))]
            }
            _ => &[
                ("v5.channel.k8s.io", binary(true, true)),
                ("v4.channel.k8s.io", binary(true, false)),
                ("v4.base64.channel.k8s.io", text(true)),
                ("channel.k8s.io", binary(false, false)),
                ("base64.channel.k8s.io", text(false)),
            ],
        };
        let mut any = false;
        for asked in words(headers, "sec-websocket-protocol").filter(|w| !w.starts_with(BEARER)) {
            any = true;
            if kind == Kind::PortForward && asked == TUNNEL {
                return Ok(Self::Tunnel);
            }
            if let Some((name, channels)) = served.iter().find(|(name, _)| *name == asked) {
                return Ok(Self::WebSocket(name, *channels));
            }
        }
        if any {
            return Err(Refused { code: 403, message: String::new(), accepted: &[] });
        }
        Ok(Self::WebSocket("", binary(false, false)))
    }

    /// SPDY tells itself which ports are wanted.
    pub(super) fn is_spdy(self) -> bool {
        !matches!(self, Self::WebSocket(..))
    }

    /// Whether a caller of this protocol can be told after the upgrade that there is no such container.
    pub(super) fn tells_late(self) -> bool {
        matches!(self, Self::WebSocket(_, Channels { closes: true, .. }))
    }

    /// Whether ends are a `Status`.
    pub(super) fn status(self) -> bool {
        match self {
            Self::WebSocket(_, channels) => channels.status,
            Self::Spdy(_, status) => status,
            Self::Tunnel => false,
        }
    }

    /// The 101, and the stream that is there once it was sent.
    pub(super) fn accept(
        self,
        headers: &HeaderMap,
        on: OnUpgrade,
    ) -> Result<(Response<Body>, impl Future<Output = Option<Io>> + Send + 'static), ApiError> {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        match self {
            Self::Spdy(name, _) => {
                out.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
                out.insert(STREAM_VERSION, HeaderValue::from_static(name));
            }
            Self::WebSocket(..) | Self::Tunnel => {
                let name = if let Self::WebSocket(name, _) = self { name } else { TUNNEL };
                let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
                let answer = derive_accept_key(key);
                out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                out.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&answer).map_err(ApiError::internal)?);
                if !name.is_empty() {
                    out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
                }
            }
        }
        let io = async move {
            match on.await {
                Ok(upgraded) => Some(TokioIo::new(upgraded)),
                Err(error) => {
                    tracing::debug!(%error, "a stream was not upgraded");
                    None
                }
            }
        };
        Ok((response, io))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn agreed(kind: Kind, given: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        match Protocol::negotiate(kind, &headers) {
            Ok(Protocol::WebSocket(name, _)) => format!("websocket {name}"),
            Ok(Protocol::Spdy(name, _)) => format!("spdy {name}"),
            Ok(Protocol::Tunnel) => "tunnel".to_owned(),
            Err(refused) => format!("{} {}", refused.code, refused.message),
        }
    }

    #[test]
    fn the_first_served_protocol_of_the_caller_is_taken() {
        const WS: [(&str, &str); 3] =
            [("upgrade", "websocket"), ("sec-websocket-key", "a"), ("sec-websocket-version", "13")];
        let ws = |kind, protocols| {
            let mut headers = WS.to_vec();
            headers.push(("sec-websocket-protocol", protocols));
            agreed(kind, &headers)
        };
        assert_eq!(
            ws(Kind::Exec, "v9.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io"),
            "websocket v4.channel.k8s.io"
        );
        assert_eq!(ws(Kind::Exec, "v5.channel.k8s.io"), "websocket v5.channel.k8s.io");
        assert_eq!(ws(Kind::PortForward, "v5.channel.k8s.io"), "403 ");
        assert_eq!(ws(Kind::PortForward, "SPDY/3.1+portforward.k8s.io"), "tunnel");
        assert_eq!(ws(Kind::Exec, "SPDY/3.1+portforward.k8s.io"), "403 ");
        assert_eq!(ws(Kind::Exec, "base64url.bearer.authorization.k8s.io.YQ"), "websocket ");
        assert_eq!(agreed(Kind::Attach, &WS), "websocket ");
        assert_eq!(agreed(Kind::Attach, &WS[..2]), "400 not a WebSocket handshake of version 13");
        let spdy = |kind, versions| agreed(kind, &[("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", versions)]);
        assert_eq!(spdy(Kind::Exec, "v4.channel.k8s.io"), "spdy v4.channel.k8s.io");
        assert_eq!(
            spdy(Kind::PortForward, "v4.channel.k8s.io"),
            "403 unable to upgrade: unable to negotiate protocol: client supports [v4.channel.k8s.io], server accepts \
             [portforward.k8s.io]"
        );
        assert_eq!(
            agreed(Kind::Exec, &[("upgrade", "SPDY/3.1")]),
            "400 unable to upgrade: X-Stream-Protocol-Version is required"
        );
    }
}
