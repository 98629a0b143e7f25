//! Which files of the seed partition are taken over, and where to. `stele-init` does it; `stele
//! seed` puts nothing there that would be left alone. The names and lengths come from a FAT that
//! anybody may have written.

use crate::boot::Import;

/// The partition's name in the table.
pub const PARTITION: &str = "seed";
/// The longest file.
pub const LONGEST: u64 = 1 << 20;
/// The most files that are looked at, in each folder.
pub const MOST_FILES: usize = 200;
/// The longest name.
const LONGEST_NAME: usize = 100;
/// What any desktop leaves behind, and our own note: not worth a word.
const USUAL: [&str; 4] = ["readme.txt", "system volume information", "desktop.ini", "thumbs.db"];

/// What a folder's listing says of one thing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path on the partition, with `/` between folder and file.
    pub path: String,
    /// What it is.
    pub kind: Kind,
}

/// What a thing on the partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<'a> {
    /// It is copied to this path, for this import.
    Take(&'a Import, String),
    /// It stays, for this reason.
    Leave(&'static str),
    /// It stays, and nobody needs to know.
    Pass,
}

/// Decides about one thing.
pub fn choose<'a>(found: &Found, imports: &'a [Import]) -> Choice<'a> {
    let (folder, name) = match found.path.rsplit_once('/') {
        Some((folder, name)) => (Some(folder), name),
        None => (None, found.path.as_str()),
    };
    let lower = name.to_ascii_lowercase();
    if name.starts_with('.') || (folder.is_none() && USUAL.contains(&lower.as_str())) {
        return Choice::Pass;
    }
    let is = |from: &str, wanted: &str| from.eq_ignore_ascii_case(wanted);
    let import = imports.iter().find(|import| match (import.from.strip_suffix('/'), folder) {
        (Some(from), Some(folder)) => is(from, folder),
        (None, None) => is(&import.from, name),
        _ => false,
    });
    match (found.kind, import) {
        (Kind::Folder, _) if folder.is_none() && is_folder(name, imports) => Choice::Pass,
        (Kind::Folder, _) => Choice::Leave("it is a folder"),
        (Kind::File(_), None) => Choice::Leave("this appliance has no use for it"),
        (Kind::File(0), _) => Choice::Leave("it is empty"),
        (Kind::File(length), _) if length > LONGEST => Choice::Leave("it is longer than 1 MiB"),
        (Kind::File(_), Some(_)) if !is_plain(name) => {
            Choice::Leave("its name has more than letters, digits, `.`, `_` and `-`")
        }
        (Kind::File(_), Some(import)) => {
            let to = &import.to;
            Choice::Take(import, if to.ends_with('/') { format!("{to}{name}") } else { to.clone() })
        }
    }
}

/// Whether the files of a folder of this name are wanted.
pub fn is_folder(name: &str, imports: &[Import]) -> bool {
    let mut folders = imports.iter().filter_map(|import| import.from.strip_suffix('/'));
    folders.any(|folder| folder.eq_ignore_ascii_case(name))
}

/// Whether a file may have this name, anywhere it goes.
pub fn is_plain(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= LONGEST_NAME && name.chars().all(is_plain)
}

/// Whether this is text. A file that holds a zero byte is none: it is what is left of a file whose
/// removal a cut interrupted, and must not come to stand where the good copy is.
pub fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && !bytes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_taken() {
        let import = |from: &str, to: &str| Import {
            from: from.into(),
            to: to.into(),
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let imports =
            [import("Prose.toml", "/etc/p/Prose.toml"), import("certs/", "/etc/prosody/certs/")];
        let take = |index: usize, to: &str| Choice::Take(&imports[index], to.into());
        let no_use = Choice::Leave("this appliance has no use for it");
        let file = Kind::File(10);
        for (path, kind, choice) in [
            ("Prose.toml", file, take(0, "/etc/p/Prose.toml")),
            ("PROSE.TOM", file, no_use.clone()),
            ("PROSE.TOML", file, take(0, "/etc/p/Prose.toml")),
            ("certs", Kind::Folder, Choice::Pass),
            ("CERTS/a.pem", file, take(1, "/etc/prosody/certs/a.pem")),
            ("certs/sub", Kind::Folder, Choice::Leave("it is a folder")),
            (
                "certs/a b.pem",
                file,
                Choice::Leave("its name has more than letters, digits, `.`, `_` and `-`"),
            ),
            ("certs/.a.pem", file, Choice::Pass),
            ("other/a.pem", file, no_use.clone()),
            ("other", Kind::Folder, Choice::Leave("it is a folder")),
            ("certs/Prose.toml", file, take(1, "/etc/prosody/certs/Prose.toml")),
            ("env", file, no_use),
            ("README.TXT", file, Choice::Pass),
            ("System Volume Information", Kind::Folder, Choice::Pass),
            ("prose.toml", Kind::File(0), Choice::Leave("it is empty")),
            ("prose.toml", Kind::File(LONGEST + 1), Choice::Leave("it is longer than 1 MiB")),
        ] {
            assert_eq!(choose(&Found { path: path.into(), kind }, &imports), choice, "{path}");
        }
    }

    #[test]
    fn a_file_half_removed_is_no_text() {
        for (bytes, is) in
            [(&b"a = 1\n"[..], true), (b"", false), (b"a = \0", false), (&[0; 9], false)]
        {
            assert_eq!(is_text(bytes), is);
        }
    }
}
