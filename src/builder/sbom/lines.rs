//! JSON neither all in one line nor with a line for each brace: an element of a list takes a line,
//! so two documents differ in as many lines as they have elements that differ.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// The layout, while it is written.
#[derive(Debug, Default)]
pub struct Lines {
    depth: usize,
}

/// How deep something starts on a line of its own: the document's fields, and their elements.
const BROKEN: usize = 2;

impl Lines {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        out.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.depth <= BROKEN {
            out.write_all(b"\n")?;
        }
        self.depth -= 1;
        out.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        let comma: &[u8] = if first { b"" } else { b"," };
        let line: &[u8] = if self.depth <= BROKEN { b"\n" } else { b"" };
        out.write_all(comma)?;
        out.write_all(line)
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.next(out, first)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::ser::Serializer;

    use super::*;

    #[test]
    fn an_element_takes_a_line() {
        let mut out = Vec::new();
        let value = serde_json::json!({"a": [{"b": [1, 2]}, {"c": {}}], "d": "e"});
        value.serialize(&mut Serializer::with_formatter(&mut out, Lines::default())).unwrap();
        let text = "{\n\"a\":[\n{\"b\":[1,2]},\n{\"c\":{}}\n],\n\"d\":\"e\"\n}";
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
