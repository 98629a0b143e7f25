//! Values as Lua writes them.

use std::fmt;

/// A value of an option. Names are ours, never of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Any text at all: it is quoted.
    Text(String),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Bool(bool),
    /// Values in a row.
    List(Vec<Value>),
    /// Values by name.
    Table(Vec<(&'static str, Value)>),
}

impl Value {
    /// A list of texts.
    pub fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::List(texts.into_iter().map(|text| Value::from(text.as_ref())).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Value {
        Value::Bool(is)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(&quote(text)),
            Value::Number(number) => write!(f, "{number}"),
            Value::Bool(is) => write!(f, "{is}"),
            Value::List(values) if values.is_empty() => f.write_str("{}"),
            Value::List(values) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                write!(f, "{{ {} }}", values.join(", "))
            }
            Value::Table(fields) if fields.is_empty() => f.write_str("{}"),
            Value::Table(fields) => {
                let field = |(name, value): &(&str, Value)| format!("{name} = {value}");
                let fields: Vec<String> = fields.iter().map(field).collect();
                write!(f, "{{ {} }}", fields.join(", "))
            }
        }
    }
}

/// A string literal that is this text: one line of printable ASCII, all else as `\ddd`, which every
/// Lua reads as the byte of that number. Three digits always, since another may follow.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_so_that_it_stays_text() {
        for (text, quoted) in [
            ("", r#""""#),
            ("plain text", r#""plain text""#),
            (r#"a"b"#, r#""a\"b""#),
            (r"a\", r#""a\\""#),
            (r#"\""#, r#""\\\"""#),
            ("]]", r#""]]""#),
            ("--[[", r#""--[[""#),
            ("a\nb\r", r#""a\010b\013""#),
            ("\u{0}1", r#""\0001""#),
            ("\u{7f}", r#""\127""#),
            ("ä", r#""\195\164""#),
            ("\u{1F600}", r#""\240\159\152\128""#),
            ("\u{2028}", r#""\226\128\168""#),
        ] {
            assert_eq!(quote(text), quoted);
            assert_eq!(unquote(quoted), text.as_bytes());
        }
    }

    #[test]
    fn values_nest() {
        let list = Value::List(vec![Value::from("a"), 5222_u16.into(), false.into()]);
        let table = Value::Table(vec![("rate", "1kb/s".into()), ("list", list)]);
        assert_eq!(table.to_string(), r#"{ rate = "1kb/s", list = { "a", 5222, false } }"#);
        assert_eq!(Value::texts::<&str>([]).to_string(), "{}");
    }

    #[test]
    fn whatever_is_quoted_comes_back_and_never_ends_early() {
        const NASTY: [char; 16] = [
            '"',
            '\\',
            ']',
            '[',
            '\n',
            '\r',
            '\0',
            '0',
            '9',
            '-',
            '\'',
            'x',
            'u',
            '{',
            'ä',
            '\u{10ffff}',
        ];
        let mut random = fastrand::Rng::with_seed(1);
        let mut draw = |below: usize| random.usize(..below);
        for _ in 0..100_000 {
            let text: String = (0..draw(12)).map(|_| NASTY[draw(NASTY.len())]).collect();
            let quoted = quote(&text);
            assert!(quoted.bytes().all(|c| (b' '..=b'~').contains(&c)), "{quoted}");
            assert_eq!(unquote(&quoted), text.as_bytes(), "{quoted}");
        }
    }

    /// The bytes of a literal, read as the Lua manual says (3.1).
    fn unquote(literal: &str) -> Vec<u8> {
        let mut rest = literal.strip_prefix('"').unwrap().bytes().peekable();
        let mut bytes = Vec::new();
        loop {
            match rest.next().expect("it ends") {
                b'"' => break,
                b'\\' => match rest.next().unwrap() {
                    digit @ b'0'..=b'9' => {
                        let mut byte = u32::from(digit - b'0');
                        for _ in 0..2 {
                            if let Some(digit) = rest.next_if(u8::is_ascii_digit) {
                                byte = byte * 10 + u32::from(digit - b'0');
                            }
                        }
                        bytes.push(byte.try_into().unwrap());
                    }
                    other @ (b'"' | b'\\') => bytes.push(other),
                    other => panic!("\\{other}"),
                },
                other => bytes.push(other),
            }
        }
        assert_eq!(rest.next(), None, "{literal} goes on");
        bytes
    }
}
