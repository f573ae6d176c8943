//! CONNECT packet of our own client: authenticates paho and inserts the credentials.
//!
//! Paho sends the token of this process as its user name, without a password. Other programs therefore cannot use the
//! relay. The credentials of the broker replace the token here.

use secrecy::{ExposeSecret, SecretString};

use super::packet::{Malformed, PacketFields};
use super::rejected::{Token, push_length, push_prefixed};

const CONNECT: u8 = 0x10;
const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL: u8 = 0x04;

/// Maximum size of a CONNECT packet, above any that our client sends.
const MAX_BYTES: usize = 256 * 1024;

/// User name and password for the broker.
pub(in super::super) type Credentials = Option<(SecretString, SecretString)>;

/// Classification of the first bytes on a connection to the relay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstPacket {
    Incomplete,
    /// Not a CONNECT packet with our token.
    Foreign,
    /// CONNECT packet for the broker, and the number of bytes that it replaces.
    Connect(Vec<u8>, usize),
}

/// Parses CONNECT and replaces the token by the credentials.
pub(super) fn parse_start(bytes: &[u8], token: &Token, credentials: &Credentials) -> FirstPacket {
    match parse(bytes) {
        Ok(Some((body, used))) => match replace(body, token, credentials) {
            Ok(Some(packet)) => FirstPacket::Connect(packet, used),
            Ok(None) | Err(_) => FirstPacket::Foreign,
        },
        Ok(None) => FirstPacket::Incomplete,
        Err(_) => FirstPacket::Foreign,
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    if *first != CONNECT {
        return Err(Malformed::Type(first >> 4));
    }
    let mut fields = PacketFields(rest);
    let length = match fields.variable_length() {
        Err(Malformed::Truncated) => return Ok(None),
        length => length?,
    };
    if length > MAX_BYTES {
        return Err(Malformed::TooLong { kind: "CONNECT", bytes: length });
    }
    Ok(fields.take(length).ok().map(|body| (body, bytes.len() - fields.0.len())))
}

/// Replaces the token. Returns `None` if the user name is not the token.
fn replace(body: &[u8], token: &Token, credentials: &Credentials) -> Result<Option<Vec<u8>>, Malformed> {
    let mut fields = PacketFields(body);
    fields.prefixed()?;
    let level = fields.byte()?;
    let flags_at = body.len() - fields.0.len();
    let flags = fields.byte()?;
    if flags & (USER_NAME | PASSWORD | WILL) != USER_NAME {
        return Ok(None);
    }
    fields.two_bytes()?;
    if level == 5 {
        fields.properties(|_| {})?;
    }
    fields.prefixed()?;
    let end = body.len() - fields.0.len();
    if fields.prefixed()? != token.as_str().as_bytes() {
        return Ok(None);
    }
    let mut body = body.get(..end).unwrap_or_default().to_vec();
    let with = if credentials.is_some() { USER_NAME | PASSWORD } else { 0 };
    if let Some(byte) = body.get_mut(flags_at) {
        *byte = (flags & !USER_NAME) | with;
    }
    if let Some((user, password)) = credentials {
        push_prefixed(&mut body, user.expose_secret().as_bytes());
        push_prefixed(&mut body, password.expose_secret().as_bytes());
    }
    let mut packet = vec![CONNECT];
    push_length(&mut packet, body.len());
    packet.extend_from_slice(&body);
    Ok(Some(packet))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const CLIENT_ID: &[u8] = b"gateway";

    /// Builds CONNECT as paho sends it: flags, keepalive 60, and a session expiry with MQTT 5.
    fn connect(level: u8, flags: u8, behind_client_id: &[&[u8]]) -> Vec<u8> {
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend_from_slice(&[level, flags, 0, 60]);
        if level == 5 {
            body.extend_from_slice(&[5, 0x11, 0, 0, 0, 9]);
        }
        for field in [&[CLIENT_ID], behind_client_id].concat() {
            push_prefixed(&mut body, field);
        }
        let mut packet = vec![CONNECT];
        push_length(&mut packet, body.len());
        packet.extend_from_slice(&body);
        packet
    }

    fn credentials() -> (SecretString, SecretString) {
        (SecretString::from("user"), SecretString::from("hush"))
    }

    #[test]
    fn credentials_replace_the_token() {
        let token = Token::new();
        for level in [4, 5] {
            let ours = connect(level, 0x80, &[token.as_str().as_bytes()]);
            let expected = connect(level, 0xc0, &[b"user", b"hush"]);
            assert_eq!(
                parse_start(&ours, &token, &Some(credentials())),
                FirstPacket::Connect(expected, ours.len())
            );
            let expected = connect(level, 0, &[]);
            assert_eq!(parse_start(&ours, &token, &None), FirstPacket::Connect(expected, ours.len()));
        }
    }

    #[test]
    fn foreign_clients_are_rejected() {
        let token = Token::new();
        let others = Token::new();
        for foreign in [
            connect(5, 0x80, &[others.as_str().as_bytes()]),
            connect(5, 0, &[]),
            connect(5, 0xc0, &[token.as_str().as_bytes(), b"x"]),
            connect(5, 0x84, &[b"will", b"", token.as_str().as_bytes()]),
            b"GET / HTTP/1.1\r\n".to_vec(),
            vec![CONNECT, 0xff, 0xff, 0xff, 0x7f],
            vec![CONNECT, 0],
        ] {
            assert_eq!(
                parse_start(&foreign, &token, &Some(credentials())),
                FirstPacket::Foreign,
                "{foreign:?}"
            );
        }
    }

    #[test]
    fn partial_packets_are_incomplete() {
        let token = Token::new();
        let ours = connect(5, 0x80, &[token.as_str().as_bytes()]);
        for end in 0..ours.len() {
            assert_eq!(parse_start(&ours[..end], &token, &None), FirstPacket::Incomplete);
        }
    }
}
