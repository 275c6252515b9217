//! The signed link in a notice that asks: what it binds, how it is made, and who can tell a forged one.
//!
//! A link is an answer to one question and to no other: it names the incident, the number of the question, level and
//! releases that were shown, the receiver that it was sent to, and until when it counts. So it is used up by the answer,
//! whoever gives it, and nothing has to be remembered about it: the machine knows what it still asks, over restarts too.
//!
//! The token is base64url of the message and its HMAC-SHA256. The message is a version, then each field with its length
//! before it, so that no two links have the same message. The address that it is for goes into the HMAC as well: two
//! daemons with one key do not take each other's links.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::decide::event::SecretRef;
use crate::platform::secret::{self, SecretError};
use crate::time::Timestamp;

/// Of the message's form.
const VERSION: u8 = 1;
/// What else is signed with the same key is not a link.
const DOMAIN: &[u8] = b"backstop approval link";
const MAC_BYTES: usize = 32;
/// As long as what HMAC-SHA256 gives: a shorter key is easier to guess than to forge (RFC 2104, section 3).
pub const KEY_BYTES_MIN: usize = 32;
/// Names of releases are the only long part; what is longer is no link of ours, and is not looked at.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Behind the external address, before the token.
pub const PATH: &str = "/approve/";

/// What a link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub incident: String,
    /// `Asked::number`.
    pub number: u32,
    /// Counted from 0.
    pub level: u32,
    pub bad: Option<String>,
    pub target: Option<String>,
    /// Whom it was sent to.
    pub receiver: String,
    /// On the wall.
    pub expires: Timestamp,
}

/// No link can be made, and none can be believed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the key has {0} bytes, and needs {KEY_BYTES_MIN}: openssl rand -base64 32")]
    Short(usize),
    #[error("there is no key")]
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name in it is too long for a link")]
pub struct TooLong;

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not of the form of a link; cut short, perhaps.
    Malformed,
    /// No key that counts has signed it for this address.
    Forged,
}

/// Keys as they are now, the one that signs first.
#[derive(Debug)]
pub struct Keys(Vec<SecretString>);

impl Keys {
    /// Blocking: secrets are files. All of them must be good: one that is quietly left out would look like a forged link.
    pub fn read(references: &[SecretRef]) -> Result<Keys, KeyError> {
        let mut keys = Vec::new();
        for reference in references {
            let key = secret::read(reference)?;
            let bytes = key.expose_secret().len();
            if bytes < KEY_BYTES_MIN {
                return Err(KeyError::Short(bytes));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Keys(keys)) }
    }
}

/// The token of `link` for the listener that people reach at `address`.
pub fn sign(link: &Link, address: &str, keys: &Keys) -> Result<String, TooLong> {
    let mut bytes = message(link)?;
    let tag = mac(&keys.0[0], address, &bytes).finalize().into_bytes();
    bytes.extend_from_slice(&tag);
    let token = URL_SAFE_NO_PAD.encode(bytes);
    if token.len() > TOKEN_BYTES_MAX { Err(TooLong) } else { Ok(token) }
}

/// What a token says, if one of the keys has signed it for `address`. Whether it has expired is for the caller to judge.
pub fn open(token: &str, address: &str, keys: &Keys) -> Result<Link, Refused> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refused::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| Refused::Malformed)?;
    let (message, tag) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(Refused::Malformed)?;
    let link = Reader(message).link().ok_or(Refused::Malformed)?;
    // Each comparison takes the same time wherever the two differ, and every key is tried.
    let signed = keys.0.iter().filter(|key| mac(key, address, message).verify_slice(tag).is_ok()).count();
    if signed == 0 { Err(Refused::Forged) } else { Ok(link) }
}

fn mac(key: &SecretString, address: &str, message: &[u8]) -> Hmac<Sha256> {
    let key = key.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [DOMAIN, address.as_bytes(), message] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn message(link: &Link) -> Result<Vec<u8>, TooLong> {
    let Link { incident, number, level, bad, target, receiver, expires } = link;
    let mut bytes = vec![VERSION];
    let mut put = |field: &[u8]| {
        let length = u16::try_from(field.len()).map_err(|_| TooLong)?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(field);
        Ok(())
    };
    put(incident.as_bytes())?;
    put(&number.to_be_bytes())?;
    put(&level.to_be_bytes())?;
    for release in [bad, target] {
        match release {
            None => put(&[0])?,
            Some(name) => {
                put(&[1])?;
                put(name.as_bytes())?;
            }
        }
    }
    put(receiver.as_bytes())?;
    put(&expires.as_millis().to_be_bytes())?;
    Ok(bytes)
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn link(mut self) -> Option<Link> {
        let (version, rest) = self.0.split_first()?;
        self.0 = rest;
        if *version != VERSION {
            return None;
        }
        let link = Link {
            incident: self.text()?,
            number: u32::from_be_bytes(self.field()?.try_into().ok()?),
            level: u32::from_be_bytes(self.field()?.try_into().ok()?),
            bad: self.release()?,
            target: self.release()?,
            receiver: self.text()?,
            expires: Timestamp::from_millis(i64::from_be_bytes(self.field()?.try_into().ok()?)),
        };
        self.0.is_empty().then_some(link)
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (field, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.0 = rest;
        Some(field)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.field()?.to_vec()).ok()
    }

    #[expect(clippy::option_option, reason = "the outer one is whether it could be read")]
    fn release(&mut self) -> Option<Option<String>> {
        match self.field()? {
            [0] => Some(None),
            [1] => Some(Some(self.text()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADDRESS: &str = "https://backstop.example.com/ops";

    fn key(text: &str) -> SecretString {
        SecretString::from(format!("{text:-<32}"))
    }

    fn link() -> Link {
        Link {
            incident: "shop-5".to_owned(),
            number: 2,
            level: 1,
            bad: Some("v2".to_owned()),
            target: Some("v1".to_owned()),
            receiver: "oncall".to_owned(),
            expires: Timestamp::from_millis(1_795_144_440_000),
        }
    }

    #[test]
    fn any_of_the_keys_counts_and_only_for_its_own_address() {
        let (old, new) = (Keys(vec![key("old")]), Keys(vec![key("new"), key("old")]));
        let token = sign(&link(), ADDRESS, &old).unwrap();
        assert_eq!(open(&token, ADDRESS, &old), Ok(link()));
        assert_eq!(open(&token, ADDRESS, &new), Ok(link()), "while it is rotated");
        assert_eq!(open(&token, ADDRESS, &Keys(vec![key("new")])), Err(Refused::Forged));
        assert_eq!(open(&token, "https://backstop.example.com", &old), Err(Refused::Forged));
        assert_eq!(open(&sign(&link(), ADDRESS, &new).unwrap(), ADDRESS, &old), Err(Refused::Forged));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let keys = Keys(vec![key("a")]);
        let token = sign(&link(), ADDRESS, &keys).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&URL_SAFE_NO_PAD.encode(changed), ADDRESS, &keys).is_err(), "bit {bit}");
        }
        for length in 0..token.len() {
            assert!(open(&token[..length], ADDRESS, &keys).is_err(), "{length} characters");
        }
        for other in [format!("{token}A"), format!("{token}="), token.replace(['-', '_'], "+"), format!(" {token}")] {
            assert!(other == token || open(&other, ADDRESS, &keys).is_err(), "{other}");
        }
    }

    #[test]
    fn what_does_not_fit_gets_no_link() {
        let keys = Keys(vec![key("a")]);
        for length in [4096, 70_000] {
            let long = Link { bad: Some("v".repeat(length)), ..link() };
            assert_eq!(sign(&long, ADDRESS, &keys), Err(TooLong));
        }
    }

    #[test]
    fn a_key_that_is_short_missing_or_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = folder.path().join("key");
            std::fs::write(&path, text).unwrap();
            SecretRef::File(path.to_str().unwrap().to_owned())
        };
        let good = file(&format!("{}\n", "k".repeat(32)));
        assert!(Keys::read(std::slice::from_ref(&good)).is_ok());
        let gone = SecretRef::File("/no/such/key".to_owned());
        assert!(matches!(Keys::read(&[good, gone]), Err(KeyError::Secret(_))));
        assert!(matches!(Keys::read(&[file(&format!("{}\n", "k".repeat(31)))]), Err(KeyError::Short(31))));
        assert!(matches!(Keys::read(&[]), Err(KeyError::None)));
    }

    fn texts() -> impl Strategy<Value = Link> {
        let release = || proptest::option::of(".{0,40}");
        (".{0,40}", any::<u32>(), any::<u32>(), release(), release(), ".{0,40}", any::<i64>()).prop_map(
            |(incident, number, level, bad, target, receiver, expires)| {
                let expires = Timestamp::from_millis(expires);
                Link { incident, number, level, bad, target, receiver, expires }
            },
        )
    }

    proptest! {
        #[test]
        fn a_link_is_read_as_it_was_written(link in texts()) {
            let keys = Keys(vec![key("a")]);
            prop_assert_eq!(open(&sign(&link, ADDRESS, &keys).unwrap(), ADDRESS, &keys), Ok(link));
        }

        #[test]
        fn two_links_never_have_the_same_message(one in texts(), other in texts()) {
            prop_assert_eq!(one == other, message(&one) == message(&other));
        }

        #[test]
        fn nothing_that_is_sent_is_a_panic(token in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = Keys(vec![key("a")]);
            prop_assert!(open(&token, ADDRESS, &keys).is_err());
            prop_assert!(open(&URL_SAFE_NO_PAD.encode(bytes), ADDRESS, &keys).is_err());
        }
    }
}
