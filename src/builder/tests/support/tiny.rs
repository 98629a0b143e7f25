//! The smallest appliance: one package and one layer, built without anything real in it. It wouldn't
//! boot, but it is built, bundled and shown as any other.

#![allow(dead_code)] // each test program uses its part

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use super::{Archive, File, Package, Project, Server, said, stele};

/// The smallest file that passes for a static program: an ELF header and nothing else.
const STATIC_PROGRAM: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\0\0\x40\0\0\0\0\0";

/// The smallest that passes for what firmware starts: all of it is one segment of code.
fn program_of_firmware() -> Vec<u8> {
    let mut elf = STATIC_PROGRAM.to_vec();
    // It is position-independent, and its one program header follows: load, readable code.
    (elf[16], elf[32], elf[56]) = (3, 64, 1);
    elf.extend([1u32, 5].iter().flat_map(|word| word.to_le_bytes()));
    elf.extend([0u64, 0, 0, 120, 120, 4096].iter().flat_map(|word| word.to_le_bytes()));
    elf
}

/// What a layer's [kernel] looks for, but for the stub.
const KERNEL_FILES: [(&str, File); 4] = [
    ("boot/k-6", File::Text("kernel")),
    ("usr/modules/a.ko", File::Text("")),
    ("usr/modules.builtin", File::Text("kernel/b.ko\n")),
    ("usr/loader", File::Text("loader")),
];

/// Takes all of the package; more can be put behind it.
pub const LAYER: &str = r#"
packages = { tool = ["all"] }
[slices.tool]
all = ["/**"]
[kernel]
image = "/boot/k-*"
modules = "/usr/modules/*.ko"
builtin = "/usr/modules.builtin"
initrd = ["b"]
root = []
stub = "/usr/stub"
loader = "/usr/loader"
[users.root]
uid = 0
"#;

/// A locked recipe, its layer, what it is made of, and programs.
pub struct Tiny(pub Project);

impl Tiny {
    /// With these files in the package besides, or in place of, what starts it, and this text added
    /// to the layer. `stub` is what is taken for the UKI's stub.
    pub fn new(files: &[(&'static str, File)], layer: &str, stub: File) -> Tiny {
        let mut all = [&KERNEL_FILES, &[("usr/stub", stub)][..]].concat();
        all.retain(|(path, _)| files.iter().all(|(other, _)| other != path));
        let files = [&all, files].concat();
        let archive = Archive::new(vec![Package { files, ..Package::new("tool", "1.0") }]);
        let project = Project::new(&archive.key);
        project.write("layers/only/layer.toml", &format!("{LAYER}\n{layer}"));
        project.write("layers/only/beside.txt", "beside");
        let locked = project.lock(&Server::honest(archive.files()));
        assert!(locked.status.success(), "{}", said(&locked));
        fs::create_dir(project.path("programs")).unwrap();
        fs::write(project.path("programs/stele-init"), STATIC_PROGRAM).unwrap();
        fs::write(project.path("programs/stele-loader"), program_of_firmware()).unwrap();
        Tiny(project)
    }

    /// One that can be built.
    pub fn whole(files: &[(&'static str, File)]) -> Tiny {
        Tiny::new(files, "", File::Bytes(stub().leak()))
    }

    /// The recipe gets more text.
    pub fn add_to_recipe(&self, more: &str) {
        let path = self.path("test.toml");
        let text = fs::read_to_string(path).unwrap();
        self.0.write("test.toml", &format!("{text}\n{more}"));
    }

    /// `stele VERB` of the recipe, into folder `out`.
    pub fn make(&self, verb: &[&str], out: &str) -> Output {
        stele(&self.path("store"))
            .args(verb)
            .arg("--programs")
            .arg(self.path("programs"))
            .arg("--out")
            .arg(self.path(out))
            .arg(self.path("test.toml"))
            .current_dir(self.0.folder.path())
            .output()
            .unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }
}

/// What passes for a PE32+ file with one section and room for more: the fields that are looked at,
/// at the offsets of Microsoft's specification.
fn stub() -> Vec<u8> {
    let (coff, sections) = (0x44, 0x44 + 20 + 240);
    let fields: [(usize, &[u8]); 10] = [
        (0, b"MZ"),
        (0x3c, &0x40u32.to_le_bytes()),
        (0x40, b"PE\0\0"),
        (coff + 2, &1u16.to_le_bytes()),    // sections
        (coff + 16, &240u16.to_le_bytes()), // bytes of the optional header
        (coff + 20, &0x20bu16.to_le_bytes()),
        (coff + 20 + 32, &4096u32.to_le_bytes()), // alignment in memory
        (coff + 20 + 36, &512u32.to_le_bytes()),  // and in the file
        (sections, b".text"),
        (sections + 8, &[16, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0]),
    ];
    let mut bytes = vec![0; 1024 + 512];
    for (at, value) in fields {
        bytes[at..at + value.len()].copy_from_slice(value);
    }
    bytes
}
