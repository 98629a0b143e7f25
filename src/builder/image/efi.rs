//! A program for UEFI firmware: a PE32+ file (Microsoft's "PE Format"; UEFI 2.10, 2.1.1) made of a
//! position-independent ELF program.
//!
//! Each segment becomes a section, one page further on, since the PE file's headers are in memory,
//! too. That is all there is to it as long as the program holds no address: one that wants
//! relocations is refused, and so is whatever isn't known to mean nothing here.

use anyhow::{Context, Result, bail, ensure};
use object::LittleEndian;
use object::elf::{
    DT_DEBUG, DT_FLAGS, DT_FLAGS_1, DT_GNU_HASH, DT_HASH, DT_NULL, DT_RELA, DT_RELAENT, DT_RELASZ,
    DT_STRSZ, DT_STRTAB, DT_SYMENT, DT_SYMTAB, EM_AARCH64, EM_X86_64, ET_DYN, FileHeader64, PF_W,
    PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME, PT_GNU_PROPERTY, PT_GNU_RELRO, PT_GNU_STACK, PT_LOAD,
    PT_NOTE, PT_PHDR, ProgramHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

const ENDIAN: LittleEndian = LittleEndian;
/// Sections begin at pages: firmware that sets page attributes (NX) starts nothing else.
const PAGE: u32 = 0x1000;
const FILE_ALIGNMENT: u32 = 0x200;
/// More memory than a program that firmware starts needs, so that all sums fit.
const LARGEST: u64 = 1 << 20;

const DOS_HEADER: usize = 0x40;
const COFF_HEADER: usize = 4 + 20;
const OPTIONAL_HEADER: u16 = 112 + 16 * 8;
const SECTION_HEADER: usize = 40;
/// Runs on a machine of 64 bits, anywhere.
const EXECUTABLE: u16 = 0x0002 | 0x0020;
const PE32_PLUS: u16 = 0x20b;
const EFI_APPLICATION: u16 = 10;
/// High addresses, any address, no code in data.
const DLL_CHARACTERISTICS: u16 = 0x0020 | 0x0040 | 0x0100;
/// The directory of base relocations, of 16 directories.
const RELOCATIONS: usize = 5;

const READ: u32 = 0x4000_0000;
const CODE: u32 = READ | 0x2000_0020;
const DATA: u32 = READ | 0x40;
const WRITABLE: u32 = DATA | 0x8000_0000;
const DISCARDABLE: u32 = DATA | 0x0200_0000;

/// Two relocations that do nothing. Without any, some firmware takes a file for one that must be
/// loaded where it says.
const NO_RELOCATIONS: [u8; 12] = [0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0];
/// By which shim knows generations of a program. (SBAT: name, generation, vendor, package,
/// version, address.)
const SBAT: &str = concat!(
    "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n",
    "stele-loader,1,Stele,stele-loader,",
    env!("CARGO_PKG_VERSION"),
    ",-\n"
);

/// A part of memory.
struct Section<'a> {
    name: &'static str,
    /// From the start of the image in memory.
    address: u32,
    /// Its length in memory; beyond `bytes` it is zeros.
    length: u32,
    /// Zeros before `bytes`.
    before: u32,
    bytes: &'a [u8],
    characteristics: u32,
}

/// The PE file of the ELF program `elf`.
pub fn program(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<LittleEndian>::parse(elf).context("it is no program")?;
    header.endian().context("it is no program")?;
    ensure!(header.e_type(ENDIAN) == ET_DYN, "it isn't position-independent");
    let machine = match header.e_machine(ENDIAN) {
        EM_X86_64 => 0x8664,
        EM_AARCH64 => 0xaa64,
        other => bail!("no firmware is known for its machine {other:?}"),
    };
    let mut sections: Vec<Section> = Vec::new();
    for segment in header.program_headers(ENDIAN, elf).context("its segments are cut short")? {
        match segment.p_type(ENDIAN) {
            PT_LOAD => sections.push(section(segment, elf, end(&sections))?),
            PT_DYNAMIC => refuse_relocations(segment, elf)?,
            PT_PHDR | PT_NOTE | PT_GNU_EH_FRAME | PT_GNU_PROPERTY | PT_GNU_RELRO | PT_GNU_STACK => {
            }
            other => bail!("it has a segment of an unknown type {other:?}"),
        }
    }
    let entry = header.e_entry(ENDIAN).checked_add(PAGE.into()).context("its entry is nowhere")?;
    let is_inside = |section: &Section| {
        let start = u64::from(section.address + section.before);
        section.characteristics == CODE
            && (start..start + section.bytes.len() as u64).contains(&entry)
    };
    ensure!(sections.iter().any(is_inside), "it doesn't begin in code");
    for (name, bytes, characteristics) in
        [(".sbat", SBAT.as_bytes(), DATA), (".reloc", NO_RELOCATIONS.as_slice(), DISCARDABLE)]
    {
        let (address, length) = (end(&sections), bytes.len() as u32);
        sections.push(Section { name, address, length, before: 0, bytes, characteristics });
    }
    Ok(file(machine, entry as u32, &sections))
}

/// The first free address in memory after `sections`, which come in order.
fn end(sections: &[Section]) -> u32 {
    let last = sections.last().map_or(PAGE, |last| last.address + last.length);
    last.next_multiple_of(PAGE)
}

/// What is loaded; `free` is the first address that is.
fn section<'a>(
    segment: &ProgramHeader64<LittleEndian>,
    elf: &'a [u8],
    free: u32,
) -> Result<Section<'a>> {
    let bytes = segment.data(ENDIAN, elf).ok().context("a segment is cut short")?;
    let (start, memory) = (segment.p_vaddr(ENDIAN), segment.p_memsz(ENDIAN));
    ensure!(start <= LARGEST && memory <= LARGEST, "it needs more memory than {LARGEST} bytes");
    ensure!(bytes.len() as u64 <= memory, "a segment has more bytes than memory");
    let (start, memory) = (start as u32 + PAGE, memory as u32);
    let before = start % PAGE;
    ensure!(start - before >= free, "segments share a page, or are in no order");
    let flags = segment.p_flags(ENDIAN);
    let (name, characteristics) = match (flags & PF_X == PF_X, flags & PF_W == PF_W) {
        (true, true) => bail!("a segment is both code and writable"),
        (true, false) => (".text", CODE),
        (false, true) => (".data", WRITABLE),
        (false, false) => (".rodata", DATA),
    };
    let (address, length) = (start - before, memory + before);
    Ok(Section { name, address, length, before, bytes, characteristics })
}

/// Refuses a program that is told anything by whoever loads it.
fn refuse_relocations(segment: &ProgramHeader64<LittleEndian>, elf: &[u8]) -> Result<()> {
    let entries = segment.dynamic(ENDIAN, elf).context("its dynamic segment is cut short")?;
    for entry in entries.unwrap_or_default() {
        match entry.tag(ENDIAN) {
            DT_NULL => return Ok(()),
            DT_RELASZ => ensure!(entry.val(ENDIAN) == 0, "it wants relocations"),
            DT_DEBUG | DT_FLAGS | DT_FLAGS_1 | DT_GNU_HASH | DT_HASH | DT_RELA | DT_RELAENT
            | DT_STRSZ | DT_STRTAB | DT_SYMENT | DT_SYMTAB => {}
            other => bail!("it wants something of its loader: dynamic tag {other:?}"),
        }
    }
    bail!("its dynamic segment has no end")
}

/// Headers, and `sections` behind them.
fn file(machine: u16, entry: u32, sections: &[Section]) -> Vec<u8> {
    let table = DOS_HEADER + COFF_HEADER + usize::from(OPTIONAL_HEADER);
    let headers = (table + sections.len() * SECTION_HEADER) as u32;
    let headers = headers.next_multiple_of(FILE_ALIGNMENT);
    let mut file = dos_header();
    file.extend(coff_header(machine, sections.len() as u16));
    file.extend(optional_header(entry, headers, sections));
    let mut offset = headers;
    for section in sections {
        let raw = raw_length(section);
        file.extend(section_header(section, offset, raw));
        offset += raw;
    }
    file.resize(headers as usize, 0);
    for section in sections {
        file.resize(file.len() + section.before as usize, 0);
        file.extend(section.bytes);
        file.resize(file.len().next_multiple_of(FILE_ALIGNMENT as usize), 0);
    }
    file
}

/// Its bytes in the file, padded.
fn raw_length(section: &Section) -> u32 {
    (section.before + section.bytes.len() as u32).next_multiple_of(FILE_ALIGNMENT)
}

fn dos_header() -> Vec<u8> {
    let mut header = vec![0; DOS_HEADER];
    header[..2].copy_from_slice(b"MZ");
    header[0x3c] = DOS_HEADER as u8;
    header
}

/// Without a time stamp, and without symbols.
fn coff_header(machine: u16, sections: u16) -> Vec<u8> {
    let mut header = b"PE\0\0".to_vec();
    for value in [machine, sections] {
        header.extend(value.to_le_bytes());
    }
    header.extend([0; 12]);
    for value in [OPTIONAL_HEADER, EXECUTABLE] {
        header.extend(value.to_le_bytes());
    }
    header
}

fn optional_header(entry: u32, headers: u32, sections: &[Section]) -> Vec<u8> {
    let code = sections.iter().filter(|section| section.characteristics == CODE);
    let data = sections.iter().filter(|section| section.characteristics != CODE);
    let first_code = code.clone().map(|section| section.address).min().unwrap_or(PAGE);
    let mut header = PE32_PLUS.to_le_bytes().to_vec();
    header.extend([0; 2]); // the linker's version
    for value in [code.map(raw_length).sum(), data.map(raw_length).sum(), 0, entry, first_code] {
        header.extend(value.to_le_bytes());
    }
    header.extend([0; 8]); // ImageBase: anywhere
    header.extend(PAGE.to_le_bytes());
    header.extend(FILE_ALIGNMENT.to_le_bytes());
    header.extend([0; 16]); // versions of the system, the image and the subsystem; reserved
    for value in [end(sections), headers, 0] {
        header.extend(value.to_le_bytes()); // SizeOfImage, SizeOfHeaders, CheckSum
    }
    header.extend(EFI_APPLICATION.to_le_bytes());
    header.extend(DLL_CHARACTERISTICS.to_le_bytes());
    header.extend([0; 4 * 8 + 4]); // stack and heap, which firmware knows better; reserved
    header.extend(16u32.to_le_bytes());
    let mut directories = [0; 16 * 8];
    if let Some(last) = sections.last() {
        let at = RELOCATIONS * 8;
        directories[at..at + 4].copy_from_slice(&last.address.to_le_bytes());
        directories[at + 4..at + 8].copy_from_slice(&last.length.to_le_bytes());
    }
    header.extend(directories);
    header
}

fn section_header(section: &Section, offset: u32, raw: u32) -> Vec<u8> {
    let mut header = vec![0; 8];
    header[..section.name.len()].copy_from_slice(section.name.as_bytes());
    for value in [section.length, section.address, raw, offset, 0, 0, 0, section.characteristics] {
        header.extend(value.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests;
