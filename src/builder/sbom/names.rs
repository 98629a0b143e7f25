//! The short names of licences that Debian's copyright files use, in SPDX's words.
//!
//! A name is translated only if it stands for one text wherever Debian uses it. `public-domain`,
//! `MIT/X11`, `BSD` and their like stand for many: what they say is quoted instead.

/// Names that stand for one licence, in lower case.
const NAMES: [(&str, &str); 63] = [
    ("0bsd", "0BSD"),
    ("apache-1.0", "Apache-1.0"),
    ("apache-1.1", "Apache-1.1"),
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"), // as /usr/share/common-licenses has it
    ("artistic-1.0-perl", "Artistic-1.0-Perl"),
    ("artistic-2", "Artistic-2.0"),
    ("artistic-2.0", "Artistic-2.0"),
    ("boost-1.0", "BSL-1.0"),
    ("bsd-1-clause", "BSD-1-Clause"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("bzip2-1.0.6", "bzip2-1.0.6"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("cddl-1.0", "CDDL-1.0"),
    ("curl", "curl"),
    ("epl-1.0", "EPL-1.0"),
    ("epl-2.0", "EPL-2.0"),
    ("expat", "MIT"),
    ("fsfap", "FSFAP"),
    ("fsful", "FSFUL"),
    ("fsfullr", "FSFULLR"),
    ("fsfullrwd", "FSFULLRWD"),
    ("hpnd", "HPND"),
    ("ijg", "IJG"),
    ("isc", "ISC"),
    ("libpng", "Libpng"),
    ("mit", "MIT"),
    ("mit-0", "MIT-0"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ntp", "NTP"),
    ("ofl-1.1", "OFL-1.1"),
    ("openldap-2.8", "OLDAP-2.8"),
    ("oldap-2.8", "OLDAP-2.8"),
    ("openssl", "OpenSSL"),
    ("postgresql", "PostgreSQL"),
    ("psf-2", "PSF-2.0"),
    ("psf-2.0", "PSF-2.0"),
    ("python-2.0", "Python-2.0"),
    ("ruby", "Ruby"),
    ("sil-1.1", "OFL-1.1"),
    ("tcl", "TCL"),
    ("unicode-3.0", "Unicode-3.0"),
    ("unicode-dfs-2015", "Unicode-DFS-2015"),
    ("unicode-dfs-2016", "Unicode-DFS-2016"),
    ("unlicense", "Unlicense"),
    ("vim", "Vim"),
    ("w3c", "W3C"),
    ("wtfpl", "WTFPL"),
    ("wtfpl-2", "WTFPL"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
    ("zpl-2.1", "ZPL-2.1"),
];

/// The licences of the GNU project, of which a `+` takes later versions too.
const GNU: [(&str, &str); 13] = [
    ("agpl-3", "AGPL-3.0"),
    ("gfdl-1.1", "GFDL-1.1"),
    ("gfdl-1.2", "GFDL-1.2"),
    ("gfdl-1.3", "GFDL-1.3"),
    ("gfdl-niv-1.1", "GFDL-1.1-no-invariants"),
    ("gfdl-niv-1.2", "GFDL-1.2-no-invariants"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants"),
    ("gpl-1", "GPL-1.0"),
    ("gpl-2", "GPL-2.0"),
    ("gpl-3", "GPL-3.0"),
    ("lgpl-2", "LGPL-2.0"),
    ("lgpl-2.1", "LGPL-2.1"),
    ("lgpl-3", "LGPL-3.0"),
];

/// Exceptions that are one text wherever Debian names them; Autoconf's, OpenSSL's and "link" are
/// several each.
const EXCEPTIONS: [(&str, &str); 6] = [
    ("bison", "Bison-exception-2.2"),
    ("classpath", "Classpath-exception-2.0"),
    ("font", "Font-exception-2.0"),
    ("libtool", "Libtool-exception"),
    ("linux-syscall-note", "Linux-syscall-note"),
    ("llvm", "LLVM-exception"),
];

/// The SPDX name of what Debian calls `name`, perhaps with an exception; `None` if it has none.
pub fn spdx(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace("-with-", " with ");
    match name.split_once(" with ") {
        None => licence(&name),
        Some((plain, exception)) => {
            let exception = exception.trim_end_matches('s').strip_suffix("exception")?;
            let exception = exception.trim_end_matches([' ', '-']);
            Some(format!("{} WITH {}", licence(plain)?, find(&EXCEPTIONS, exception)?))
        }
    }
}

fn licence(name: &str) -> Option<String> {
    find(&NAMES, name).map(str::to_owned).or_else(|| gnu(name))
}

/// `gpl-2+` and `gpl-2.0-or-later` → `GPL-2.0-or-later`
fn gnu(name: &str) -> Option<String> {
    let endings = [("+", "or-later"), ("-or-later", "or-later"), ("-only", "only"), ("", "only")];
    let (plain, ending) =
        endings.iter().find_map(|(debian, spdx)| Some((name.strip_suffix(debian)?, spdx)))?;
    let version = find(&GNU, plain.strip_suffix(".0").unwrap_or(plain))?;
    Some(format!("{version}-{ending}"))
}

fn find<'a>(table: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    table.iter().find(|(debian, _)| *debian == name).map(|(_, spdx)| *spdx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_names_become_spdx_names() {
        let table = [
            ("GPL-1+", "GPL-1.0-or-later"),
            ("GPL-2", "GPL-2.0-only"),
            ("GPL-2.0", "GPL-2.0-only"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-3.0+", "GPL-3.0-or-later"),
            ("GPL-3.0-only", "GPL-3.0-only"),
            ("LGPL-2+", "LGPL-2.0-or-later"),
            ("LGPL-2.1", "LGPL-2.1-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("AGPL-3+", "AGPL-3.0-or-later"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
            ("Expat", "MIT"),
            ("MIT", "MIT"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("bsd-2-Clause", "BSD-2-Clause"),
            ("Artistic", "Artistic-1.0-Perl"),
            ("zlib", "Zlib"),
            ("CC0-1.0", "CC0-1.0"),
            ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
            ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
            ("GPL-2-with-classpath-exception", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ];
        for (debian, expected) in table {
            assert_eq!(spdx(debian).as_deref(), Some(expected), "{debian}");
        }
    }

    #[test]
    fn a_name_of_many_texts_is_not_translated() {
        let names = [
            "",
            "+",
            "public-domain",
            "MIT/X11",
            "BSD",
            "BSD-like",
            "GPL",
            "GPL-4",
            "GPL-2.1",
            "GPL-2++",
            "GPL-3+ with autoconf exception",
            "LGPL-2.1+-with-link-exception",
            "GPL-2+ with OpenSSL exception",
            "GPL-2 with ",
            "with exception",
            "MPL-2.0.0",
        ];
        for name in names {
            assert_eq!(spdx(name), None, "{name}");
        }
    }
}
