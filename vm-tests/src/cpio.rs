//! Archives of initrds, taken apart and put together again: cpio's "newc" kind, uncompressed.

use anyhow::{Context, Result, bail};

const MAGIC: &[u8] = b"070701";
/// Bytes of a header: the magic and 13 fields of 8 digits.
const HEADER: usize = 6 + 13 * 8;
/// The fields of a header that say how long content and name are.
const LENGTH: usize = 6;
const NAME_LENGTH: usize = 11;
/// The member that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive(Vec<Member>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    header: Vec<u8>,
    name: String,
    content: Vec<u8>,
}

impl Archive {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Archive> {
        let (mut members, mut at) = (vec![], 0);
        loop {
            let take = |from: usize, to: usize| bytes.get(from..to).context("it is cut short");
            let header = take(at, at + HEADER)?;
            let (length, name_length) = (field(header, LENGTH)?, field(header, NAME_LENGTH)?);
            let name_end = at + HEADER + name_length;
            let name = take(at + HEADER, name_end)?.split(|byte| *byte == 0).next();
            let name = String::from_utf8(name.unwrap_or_default().to_vec())?;
            let start = name_end.next_multiple_of(4);
            let content = take(start, start + length)?.to_vec();
            if name == TRAILER {
                return Ok(Archive(members));
            }
            members.push(Member { header: header.to_vec(), name, content });
            at = (start + length).next_multiple_of(4);
        }
    }

    /// The bytes of the archive.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut zeros) = (vec![], MAGIC.to_vec());
        zeros.resize(HEADER, b'0');
        let end = Member { header: zeros, name: TRAILER.to_owned(), content: vec![] };
        for Member { header, name, content } in self.0.iter().chain([&end]) {
            let mut header = header.clone();
            set(&mut header, LENGTH, content.len());
            set(&mut header, NAME_LENGTH, name.len() + 1);
            bytes.extend([&header, name.as_bytes(), b"\0"].concat());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    /// What the file of this name holds.
    pub fn file(&mut self, name: &str) -> Result<&mut Vec<u8>> {
        let found = self.0.iter_mut().find(|member| member.name == name);
        Ok(&mut found.with_context(|| format!("there is no {name} in the archive"))?.content)
    }

    /// Takes the file of this name out.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.file(name)?;
        self.0.retain(|member| member.name != name);
        Ok(())
    }
}

fn field(header: &[u8], number: usize) -> Result<usize> {
    if !header.starts_with(MAGIC) {
        bail!("it is no archive of this kind");
    }
    let digits = str::from_utf8(&header[6 + 8 * number..14 + 8 * number])?;
    Ok(usize::from_str_radix(digits, 16)?)
}

fn set(header: &mut [u8], number: usize, value: usize) {
    header[6 + 8 * number..14 + 8 * number].copy_from_slice(format!("{value:08x}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Archive {
        let mut header = MAGIC.to_vec();
        header.resize(HEADER, b'0');
        let member = |(name, content): &(&str, &[u8])| Member {
            header: header.clone(),
            name: (*name).to_owned(),
            content: content.to_vec(),
        };
        Archive(files.iter().map(member).collect())
    }

    #[test]
    fn an_archive_is_read_as_it_was_written_but_for_what_changes() {
        let bytes = archive(&[("init", b"12345"), ("modules", b""), ("a", b"x")]).to_bytes();
        let mut read = Archive::parse(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes);
        read.file("init").unwrap().extend(b"678");
        read.remove("modules").unwrap();
        let again = Archive::parse(&read.to_bytes()).unwrap();
        let members: Vec<_> = again.0.iter().map(|it| (it.name.as_str(), &*it.content)).collect();
        assert_eq!(members, [("init", &b"12345678"[..]), ("a", b"x")]);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let bytes = archive(&[("init", b"12345")]).to_bytes();
        assert!(Archive::parse(&bytes[..bytes.len() - 4]).is_err());
        assert!(Archive::parse(&[b'x'; HEADER]).is_err());
        assert!(Archive::parse(&bytes).unwrap().file("b").is_err());
    }
}
