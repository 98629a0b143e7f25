//! The frame of a cleartext signature (RFC 9580, section 7): markers, headers, escaped dashes.
//!
//! Done here and not by the OpenPGP crate, for two reasons. Its reader searches all it has read
//! again for every line: 160 kB of newlines cost it five seconds, and an index comes from whoever
//! answers for the mirror. And what is returned must be what is hashed, to the byte: here both are
//! one string.

use std::io::Read;

use pgp::armor::{BlockType, Dearmor};
use pgp::packet::{Packet, PacketParser, Signature};

use crate::{Error, MAX_BYTES};

const BEGIN_TEXT: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";
/// Each one costs a hash of the whole text. Archives use three.
const MAX_SIGNATURES: usize = 16;
/// Room for that many, of the largest RSA keys.
const MAX_SIGNATURE_BLOCK: usize = 64 << 10;

/// A signed document, taken apart; nothing is verified yet.
pub(crate) struct Cleartext<'a> {
    /// The signed lines, each ended by `\n`.
    pub(crate) text: String,
    /// The armored signatures.
    pub(crate) armored: &'a str,
}

impl Cleartext<'_> {
    /// The bytes that were signed: line endings are CR LF, and the last line has none.
    pub(crate) fn hashed(&self) -> String {
        self.text.strip_suffix('\n').unwrap_or_default().replace('\n', "\r\n")
    }

    /// The signatures, in their order. What cannot be read (it may be of a kind that is yet to
    /// come) proves nothing, and is passed over: another one may do.
    pub(crate) fn signatures(&self) -> Result<Vec<Signature>, Error> {
        let packets = dearmor(self.armored, BlockType::Signature)?;
        let mut signatures = Vec::new();
        for packet in PacketParser::new(&packets[..]) {
            if let Ok(Packet::Signature(signature)) = packet {
                signatures.push(signature);
            }
        }
        match signatures.len() {
            0 => Err(Error::Malformed("there is no signature that can be read")),
            1..=MAX_SIGNATURES => Ok(signatures),
            _ => Err(Error::Malformed("there are too many signatures")),
        }
    }
}

/// Takes a document apart. It must be one signed text, and nothing else.
pub(crate) fn split(document: &[u8]) -> Result<Cleartext<'_>, Error> {
    if document.len() > MAX_BYTES {
        return Err(Error::TooLong(document.len()));
    }
    let document = str::from_utf8(document).map_err(|_| Error::Malformed("it is not UTF-8"))?;
    let mut rest = document;
    if take_line(&mut rest) != Some(BEGIN_TEXT) {
        let later = document.lines().any(|line| line == BEGIN_TEXT);
        return Err(if later { Error::TextBefore } else { Error::NotSigned });
    }
    skip_headers(&mut rest)?;
    let text = take_text(&mut rest)?;
    let armored = take_signature(&mut rest)?;
    if !rest.trim_ascii().is_empty() {
        return Err(Error::TextAfter);
    }
    Ok(Cleartext { text, armored })
}

/// Skips `Hash:` lines, which only say what the signatures say again, up to the empty line. Any
/// other header could change what the text means (`NotDashEscaped:` once did), and is refused.
fn skip_headers(rest: &mut &str) -> Result<(), Error> {
    while let Some(line) = take_line(rest) {
        if trim_blanks(line).is_empty() {
            return Ok(());
        }
        if !line.starts_with("Hash: ") {
            return Err(Error::Malformed("there is a header other than `Hash` before the text"));
        }
    }
    Err(Error::Malformed("it ends before its text"))
}

/// The signed lines. `rest` then begins with the signature.
fn take_text(rest: &mut &str) -> Result<String, Error> {
    let mut text = String::with_capacity(rest.len());
    loop {
        let here = *rest;
        let line = take_line(rest).ok_or(Error::Malformed("it ends before its signature"))?;
        if line == BEGIN_SIGNATURE {
            *rest = here;
            return Ok(text);
        }
        let line = match line.strip_prefix('-') {
            None => line,
            Some(escaped) => escaped
                .strip_prefix(' ')
                .ok_or(Error::Malformed("a line begins with a dash that is not escaped"))?,
        };
        // Where some readers see the end of a line and others don't, nobody knows what is signed.
        if line.contains('\r') {
            return Err(Error::Malformed("there is a carriage return inside a line"));
        }
        text.push_str(trim_blanks(line));
        text.push('\n');
    }
}

/// The armored signatures, markers included.
fn take_signature<'a>(rest: &mut &'a str) -> Result<&'a str, Error> {
    let block = *rest;
    while let Some(line) = take_line(rest) {
        if line == END_SIGNATURE {
            let block = &block[..block.len() - rest.len()];
            return if block.len() <= MAX_SIGNATURE_BLOCK {
                Ok(block)
            } else {
                Err(Error::Malformed("the signature block is too long"))
            };
        }
    }
    Err(Error::Malformed("it ends inside its signature"))
}

/// The first line of `rest`, without its line ending.
pub(crate) fn take_line<'a>(rest: &mut &'a str) -> Option<&'a str> {
    if rest.is_empty() {
        return None;
    }
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = after;
    Some(line.strip_suffix('\r').unwrap_or(line))
}

/// What RFC 9580 calls trailing whitespace: blanks and tabs, nothing else.
fn trim_blanks(line: &str) -> &str {
    line.trim_end_matches([' ', '\t'])
}

/// The bytes in an armored block of one type. (The OpenPGP crate's own errors print all of it.)
pub(crate) fn dearmor(block: &str, wanted: BlockType) -> Result<Vec<u8>, Error> {
    let broken = Error::Malformed("the armor cannot be read");
    let mut dearmor = Dearmor::new(block.as_bytes());
    let mut bytes = Vec::new();
    match dearmor.read_header() {
        Ok(()) if dearmor.typ == Some(wanted) => {}
        _ => return Err(broken),
    }
    dearmor.read_to_end(&mut bytes).map_err(|_| broken)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use pgp::composed::CleartextSignedMessage;

    use super::*;
    use crate::testing::*;
    use crate::tests::{TEXT, now, ring, verify};
    use crate::verify_cleartext;

    #[test]
    fn what_is_hashed_is_what_the_openpgp_crate_would_hash() {
        let key = new_key("archive");
        for text in ["", "\n", "a", "a\n", "a\n\n", "- a\n--\n", "a \t\n b", TEXT] {
            let lf = sign_cleartext(text, &key);
            for document in [lf.replace('\n', "\r\n"), lf] {
                let (oracle, _) = CleartextSignedMessage::from_string(&document).unwrap();
                let ours = split(document.as_bytes()).unwrap();
                assert_eq!(ours.hashed(), oracle.signed_text(), "{text:?}");
                verify(&document, &[&key]).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            }
        }
    }

    #[test]
    fn a_document_that_is_not_one_signed_text_is_refused() {
        let key = new_key("archive");
        let signed = sign_cleartext(TEXT, &key);
        let signature = signed.find("\n-----BEGIN PGP SIGNATURE").unwrap() + 1;
        let body = &signed[signature..];
        let with_header = |header| signed.replacen("\n\n", &format!("\n{header}\n\n"), 1);
        let many = sign_cleartext_with(TEXT, &[&key; 17], &SignOptions::default());
        let comments = "Comment: a\n".repeat(MAX_SIGNATURE_BLOCK / 10);
        let long =
            signed.replacen("SIGNATURE-----\n\n", &format!("SIGNATURE-----\n{comments}\n"), 1);
        let malformed = Error::Malformed;
        let not_escaped = malformed("a line begins with a dash that is not escaped");
        let bare_cr = malformed("there is a carriage return inside a line");
        let header = malformed("there is a header other than `Hash` before the text");
        let no_signature = malformed("it ends before its signature");
        let half_signature = malformed("it ends inside its signature");
        let marker = "-----BEGIN PGP SIGNED MESSAGE-----";

        #[rustfmt::skip]
    let table: &[(&str, String, Error)] = &[
        ("empty", String::new(), Error::NotSigned),
        ("stripped", TEXT.to_owned(), Error::NotSigned),
        ("a detached signature", body.to_owned(), Error::NotSigned),
        ("text before", format!("Origin: Evil\n{signed}"), Error::TextBefore),
        ("an empty line before", format!("\n{signed}"), Error::TextBefore),
        ("text after", format!("{signed}Origin: Evil\n"), Error::TextAfter),
        ("another one after", format!("{signed}{signed}"), Error::TextAfter),
        ("another signature", format!("{signed}{body}"), Error::TextAfter),
        ("a header that means something", with_header("NotDashEscaped: yes"), header),
        ("one inside another", signed.replacen("Suite", &format!("{marker}\n\nSuite"), 1), not_escaped.clone()),
        ("a dash not escaped", signed.replacen("- - a", "- a\n-a", 1), not_escaped),
        ("a lone CR", signed.replacen("- - a\n", "- - a\r", 1), bare_cr.clone()),
        ("CR CR LF", signed.replacen("trixie\n", "trixie\r\r\n", 1), bare_cr),
        ("cut in its headers", signed[..48].to_owned(), malformed("it ends before its text")),
        ("cut in its text", signed[..signature].to_owned(), no_signature),
        ("cut in its signature", signed[..signed.len() - 9].to_owned(), half_signature),
        ("a long signature", long, malformed("the signature block is too long")),
        ("too many signatures", many, malformed("there are too many signatures")),
        ("too long", "a".repeat(MAX_BYTES + 1), Error::TooLong(MAX_BYTES + 1)),
    ];
        for (name, document, error) in table {
            assert_eq!(verify(document, &[&key]).as_ref(), Err(error), "{name}");
        }
        let latin1 =
            verify_cleartext(&[signed.as_bytes(), b"\xe9"].concat(), &ring(&[&key]), now());
        assert_eq!(latin1, Err(malformed("it is not UTF-8")));
    }
}
