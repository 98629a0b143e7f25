//! A unified kernel image: systemd's stub with kernel, initrd and command line as further sections
//! (UAPI.5), in one PE file that firmware starts.

use anyhow::{Context, Result, bail};

/// What goes into the file, besides the stub.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `.osrel`: what a boot menu shows. Without ID or IMAGE_ID, so that systemd-boot orders
    /// entries by their file names.
    pub os_release: &'a str,
    /// `.cmdline`
    pub cmdline: &'a str,
    /// `.uname`: the kernel's release.
    pub release: &'a str,
    /// `.linux`
    pub kernel: &'a [u8],
    /// `.initrd`
    pub initrd: &'a [u8],
}

const SECTION_HEADER: usize = 40;
/// Initialised data, readable.
const CHARACTERISTICS: u32 = 0x4000_0040;

/// Where the fields of a PE32+ file lie that matter here: offsets in bytes from its start.
struct Headers {
    coff: usize,
    optional: usize,
    sections: usize,
    count: usize,
    section_alignment: u32,
    file_alignment: u32,
}

/// The stub with `parts` in it.
pub fn write(stub: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>> {
    let headers = Headers::read(stub).context("cannot read the UKI stub")?;
    let sections: [(&str, &[u8]); 5] = [
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.cmdline.as_bytes()),
        (".uname", parts.release.as_bytes()),
        (".linux", parts.kernel),
        (".initrd", parts.initrd),
    ];
    let (mut file, mut address) = headers.stub_without_symbols(stub)?;
    let mut added_data = 0;
    for (number, (name, data)) in sections.iter().enumerate() {
        let size = u32::try_from(data.len()).context("cannot write UKI: a section is too long")?;
        let raw = size.next_multiple_of(headers.file_alignment);
        let mut header = [0; SECTION_HEADER];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let fields = [(8, size), (12, address), (16, raw), (20, file.len() as u32)];
        for (at, value) in fields.into_iter().chain([(36, CHARACTERISTICS)]) {
            put(&mut header, at, value);
        }
        let at = headers.sections + (headers.count + number) * SECTION_HEADER;
        file[at..at + SECTION_HEADER].copy_from_slice(&header);
        file.extend(*data);
        file.resize(file.len().next_multiple_of(headers.file_alignment as usize), 0);
        address = (address + size).next_multiple_of(headers.section_alignment);
        added_data += raw;
    }
    let count = (headers.count + sections.len()) as u16;
    file[headers.coff + 2..headers.coff + 4].copy_from_slice(&count.to_le_bytes());
    let data = u32_at(&file, headers.optional + 8).context("cut short")? + added_data;
    put(&mut file, headers.optional + 8, data); // SizeOfInitializedData
    put(&mut file, headers.optional + 56, address); // SizeOfImage
    put(&mut file, headers.optional + 64, 0); // CheckSum, which nobody checks
    Ok(file)
}

/// A section of a PE file, by name: the data without its padding.
pub fn section<'a>(file: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let headers = Headers::read(file).ok()?;
    (0..headers.count).find_map(|number| {
        let header = file.get(headers.sections + number * SECTION_HEADER..)?;
        let found = header.get(..8)?.split(|&byte| byte == 0).next()?;
        let (size, start) = (u32_at(header, 8)? as usize, u32_at(header, 20)? as usize);
        (found == name.as_bytes()).then(|| file.get(start..start.checked_add(size)?))?
    })
}

/// Names and sizes of a PE file's sections.
pub fn sections(file: &[u8]) -> Vec<(String, usize)> {
    let Ok(headers) = Headers::read(file) else { return vec![] };
    (0..headers.count)
        .filter_map(|number| {
            let header = file.get(headers.sections + number * SECTION_HEADER..)?;
            let name = header.get(..8)?.split(|&byte| byte == 0).next()?;
            Some((String::from_utf8_lossy(name).into_owned(), u32_at(header, 8)? as usize))
        })
        .collect()
}

impl Headers {
    fn read(file: &[u8]) -> Result<Headers> {
        let coff = u32_at(file, 0x3c).context("no DOS header")? as usize;
        if !file.starts_with(b"MZ") || file.get(coff..coff + 4) != Some(b"PE\0\0") {
            bail!("it is no PE file");
        }
        let coff = coff + 4;
        let optional = coff + 20;
        if u16_at(file, optional) != Some(0x20b) {
            bail!("it is no PE32+ file");
        }
        let size = u16_at(file, coff + 16).context("cut short")? as usize;
        let headers = Headers {
            coff,
            optional,
            sections: optional + size,
            count: u16_at(file, coff + 2).context("cut short")? as usize,
            section_alignment: u32_at(file, optional + 32).context("cut short")?,
            file_alignment: u32_at(file, optional + 36).context("cut short")?,
        };
        let sound = |alignment: u32| alignment.is_power_of_two() && alignment >= 512;
        if !sound(headers.section_alignment) || !sound(headers.file_alignment) {
            bail!("its alignments make no sense");
        }
        Ok(headers)
    }

    /// The stub up to the end of its last section (a symbol table that follows would be a gap to
    /// whoever signs the file), and the first free address in memory.
    fn stub_without_symbols(&self, stub: &[u8]) -> Result<(Vec<u8>, u32)> {
        let mut end = 0;
        let mut address = 0;
        let mut first = stub.len();
        for number in 0..self.count {
            let at = self.sections + number * SECTION_HEADER;
            let field =
                |offset| u32_at(stub, at + offset).context("cannot read the stub's sections");
            end = end.max(field(20)? as usize + field(16)? as usize);
            address = address.max(field(12)? + field(8)?);
            first = first.min(field(20)? as usize);
        }
        let room = first.saturating_sub(self.sections) / SECTION_HEADER;
        if room < self.count + 5 {
            bail!("cannot write UKI: the stub has room for {room} section headers only");
        }
        let mut file = stub.get(..end).context("cannot read the stub: it is cut short")?.to_vec();
        file.resize(end.next_multiple_of(self.file_alignment as usize), 0);
        put(&mut file, self.coff + 8, 0); // PointerToSymbolTable
        put(&mut file, self.coff + 12, 0); // NumberOfSymbols
        Ok((file, address.next_multiple_of(self.section_alignment)))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
