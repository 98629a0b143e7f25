//! XMPP's stream of XML (RFC 6120): a root that is opened and left open, and elements in it, one
//! after the other.
//!
//! Only what such a stream may hold is taken: no DTD, no entity but XML's own five, no comment, no
//! processing instruction. How much it is, is bounded by the connection.

use std::io::{BufReader, Read, Write};

use quick_xml::XmlVersion;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use appliance::failure::{Failure, OrCannot as _};

/// How deep elements lie in each other.
const DEEPEST: usize = 16;

/// One stream, to be read and written.
#[derive(Debug)]
pub struct Stanzas<S: Read> {
    reader: Reader<BufReader<S>>,
    buffer: Vec<u8>,
}

/// One element of it. Names are those without a prefix.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Element {
    /// What it is.
    pub name: String,
    attributes: Vec<(String, String)>,
    /// What it says itself.
    pub text: String,
    children: Vec<Element>,
}

impl Element {
    fn of(start: &BytesStart) -> Result<Element, Failure> {
        let what = "understand an element";
        let attributes = start.attributes().map(|attribute| {
            let attribute = attribute.or_cannot(what)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).or_cannot(what)?;
            Ok((attribute.key.as_ref().to_owned(), value.into_owned()))
        });
        Ok(Element {
            name: start.local_name().as_ref().to_owned(),
            attributes: attributes.collect::<Result<_, _>>()?,
            ..Element::default()
        })
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children(name).next()
    }

    /// All children of this name.
    pub fn children(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// What went wrong, if that is what it says: the name of the condition.
    fn condition(&self) -> &str {
        self.children.first().map_or("no reason", |child| &child.name)
    }
}

impl<S: Read + Write> Stanzas<S> {
    /// Opens a stream to this domain.
    pub fn open(connection: S, domain: &str) -> Result<Stanzas<S>, Failure> {
        Stanzas::begin(BufReader::new(connection), domain)
    }

    /// Opens another one in the place of this.
    pub fn open_again(self, domain: &str) -> Result<Stanzas<S>, Failure> {
        Stanzas::begin(self.reader.into_inner(), domain)
    }

    fn begin(connection: BufReader<S>, domain: &str) -> Result<Stanzas<S>, Failure> {
        let mut stanzas = Stanzas { reader: Reader::from_reader(connection), buffer: vec![] };
        stanzas.say(&format!(
            "<?xml version='1.0'?><stream:stream to='{}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>",
            escape(domain)
        ))?;
        stanzas.opened().map(|()| stanzas)
    }

    /// Waits for the other side's root.
    fn opened(&mut self) -> Result<(), Failure> {
        let what = "open a stream";
        loop {
            self.buffer.clear();
            match self.reader.read_event_into(&mut self.buffer).or_cannot(what)? {
                Event::Decl(_) => {}
                Event::Text(text) if text.trim().is_empty() => {}
                Event::Start(start) if start.local_name().as_ref() == "stream" => return Ok(()),
                _ => return Err(Failure::new(what, "what came isn't XMPP")),
            }
        }
    }

    /// Sends text as it is.
    pub fn say(&mut self, text: &str) -> Result<(), Failure> {
        let connection = self.reader.get_mut().get_mut();
        connection.write_all(text.as_bytes()).and_then(|()| connection.flush()).or_cannot("send")
    }

    /// The next element, which must be called this.
    pub fn expect(&mut self, name: &str) -> Result<Element, Failure> {
        let element = self.next()?;
        if element.name == name {
            return Ok(element);
        }
        let what = format_args!("get `{name}`");
        Err(Failure::new(what, format_args!("`{}`: {}", element.name, element.condition())))
    }

    /// The next element.
    pub fn next(&mut self) -> Result<Element, Failure> {
        let what = "read the stream";
        let mut open: Vec<Element> = vec![];
        loop {
            self.buffer.clear();
            let event = self.reader.read_event_into(&mut self.buffer).or_cannot(what)?;
            let done = match event {
                Event::Start(start) if open.len() < DEEPEST => {
                    open.push(Element::of(&start)?);
                    continue;
                }
                Event::Empty(start) => Element::of(&start)?,
                Event::End(_) => open.pop().ok_or("it is closed").or_cannot(what)?,
                Event::Eof => return Err(Failure::new(what, "the connection is closed")),
                other => {
                    let text = text_of(&other).ok_or("what came isn't XMPP").or_cannot(what)?;
                    open.iter_mut().last().into_iter().for_each(|of| of.text.push_str(&text));
                    continue;
                }
            };
            match open.last_mut() {
                Some(parent) => parent.children.push(done),
                None => return Ok(done),
            }
        }
    }

    /// The bare connection, if nothing more has come than was read.
    pub fn into_connection(self) -> Result<S, Failure> {
        let inner = self.reader.into_inner();
        match inner.buffer() {
            [] => Ok(inner.into_inner()),
            _ => Err(Failure::new("go on", "it says more than it may before TLS")),
        }
    }
}

/// What it adds to the text of an element, if it may be in one.
fn text_of(event: &Event) -> Option<String> {
    match event {
        Event::Text(text) => Some(text.xml10_content().into_owned()),
        Event::CData(text) => Some(text.xml10_content().into_owned()),
        Event::GeneralRef(entity) => match entity.resolve_char_ref().ok()? {
            Some(character) => Some(character.to_string()),
            None => resolve_predefined_entity(entity).map(str::to_owned),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Cursor};

    /// What comes, and nowhere that it goes.
    #[derive(Debug)]
    struct Script(Cursor<Vec<u8>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' from='a'>";

    fn stream(bytes: impl AsRef<[u8]>) -> Result<Stanzas<Script>, Failure> {
        Stanzas::open(Script(Cursor::new(bytes.as_ref().to_vec())), "example.org")
    }

    fn first(text: &str) -> Result<Element, String> {
        let element = stream(format!("{OPEN}{text}")).and_then(|mut stream| stream.next());
        element.map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_element_is_read_with_all_that_is_in_it() {
        let text = "<a:message from='x&amp;&#121;'> <body>1 &lt; 2&#33;<![CDATA[&]]></body><x/><x y='z'/></a:message>";
        let message = first(text).unwrap();
        assert_eq!((&*message.name, message.attribute("from")), ("message", Some("x&y")));
        assert_eq!(message.attribute("to"), None);
        assert_eq!(message.child("body").unwrap().text, "1 < 2!&");
        let values: Vec<_> = message.children("x").map(|x| x.attribute("y")).collect();
        assert_eq!(values, [None, Some("z")]);
    }

    #[test]
    fn elements_come_one_by_one_and_the_next_stream_after_them() {
        let mut stanzas =
            stream(format!("{OPEN}<a/> \n<b></b>{OPEN}<c/></stream:stream>")).unwrap();
        assert_eq!(stanzas.expect("a").unwrap().name, "a");
        assert_eq!(stanzas.next().unwrap().name, "b");
        let mut stanzas = stanzas.open_again("example.org").unwrap();
        assert_eq!(stanzas.expect("c").unwrap().name, "c");
        let closed = stanzas.next().unwrap_err().to_string();
        assert_eq!(closed, "cannot read the stream: it is closed");
    }

    #[test]
    fn what_is_no_xmpp_is_refused() {
        let deep = "<a>".repeat(DEEPEST + 1);
        for (text, why) in [
            ("<!DOCTYPE x [<!ENTITY a 'b'>]>", "what came isn't XMPP"),
            ("<a>&b;</a>", "what came isn't XMPP"),
            ("<a>&#0;</a>", "what came isn't XMPP"),
            ("<a><!-- x --></a>", "what came isn't XMPP"),
            ("<a><?x?></a>", "what came isn't XMPP"),
            (&deep, "what came isn't XMPP"),
            ("<a>", "the connection is closed"),
            ("", "the connection is closed"),
            ("</stream:stream>", "it is closed"),
            ("<a></b>", "cannot read the stream: ill-formed document"),
            ("<a b='&c;'/>", "cannot understand an element: "),
            ("<a b=1/>", "cannot understand an element: "),
        ] {
            let said = first(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"<html>", b"\xff\xfe", b""] {
            assert!(stream(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn another_element_than_the_expected_is_told_with_its_reason() {
        let text = format!("{OPEN}<failure><not-authorized/><text>no</text></failure>");
        let said = stream(text).unwrap().expect("success").unwrap_err().to_string();
        assert_eq!(said, "cannot get `success`: `failure`: not-authorized");
    }

    #[test]
    fn more_than_was_read_is_not_carried_into_tls() {
        let mut stanzas = stream(format!("{OPEN}<proceed/>")).unwrap();
        stanzas.expect("proceed").unwrap();
        stanzas.into_connection().unwrap();
        let mut stanzas = stream(format!("{OPEN}<proceed/><message/>")).unwrap();
        stanzas.expect("proceed").unwrap();
        assert!(stanzas.into_connection().is_err());
    }

    #[test]
    fn noise_ends_and_breaks_nothing() {
        let mut random = fastrand::Rng::with_seed(6);
        let good = format!("{OPEN}<a b='c'>d&amp;<e/></a><f/>").into_bytes();
        for _ in 0..2000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..8) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if let Ok(mut stanzas) = stream(&bytes) {
                while stanzas.next().is_ok() {}
            }
        }
    }
}
