use super::*;

const NOW: Moment = Moment::from_secs(60);
const DATE: Duration = Duration::from_millis(1_700_000_000_123);

/// A folder of its own for each test, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("stele-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn store(folder: &Folder, lines: &[&str]) -> Store {
    let mut store = Store::at(&folder.0, "a", 40);
    for text in lines {
        store.add(NOW, &format!("{text}\n"));
        store.flush(DATE);
    }
    store
}

#[test]
fn a_line_says_when_how_bad_and_what() {
    assert_eq!(line(DATE, 5, "it\tworks\n\u{1b}[0m"), "1700000000123 5 it\tworks\\n\\u{1b}[0m\n");
}

#[test]
fn a_ring_keeps_the_last_whole_lines() {
    let mut ring = Ring::default();
    assert!(ring.last(3).is_empty());
    let line = |number| format!("{number} {}\n", "x".repeat(500));
    for number in 0..1000 {
        ring.push(line(number).as_bytes());
        assert!(ring.0.len() <= IN_MEMORY);
    }
    let last = ring.last(usize::MAX);
    assert!(last.len() > 120, "{}", last.len());
    let first: usize = last[0].split(' ').next().unwrap().parse().unwrap();
    assert_eq!(first + last.len(), 1000);
    assert_eq!(ring.last(2), [line(998).trim_end(), line(999).trim_end()]);
}

#[test]
fn two_files_take_turns_and_nothing_before_them_is_kept() {
    let folder = Folder::new("turns");
    let lines: Vec<String> =
        (0..10).map(|number| format!("line {number} {}", "x".repeat(12))).collect();
    store(&folder, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let lines = |numbers: [usize; 2]| numbers.map(|number| format!("{}\n", lines[number])).concat();
    assert_eq!(folder.read("a.old"), lines([6, 7]));
    assert_eq!(folder.read("a.log"), lines([8, 9]));
}

#[test]
fn a_torn_line_is_ended_and_the_file_goes_on() {
    let folder = Folder::new("torn");
    store(&folder, &["one"]);
    let mut file = OpenOptions::new().append(true).open(folder.0.join("a.log")).unwrap();
    file.write_all(b"two, to\0\0\0").unwrap();
    store(&folder, &["three"]);
    assert_eq!(folder.read("a.log"), "one\ntwo, to\nthree\n");
    file.write_all(&[0; 3]).unwrap();
    store(&folder, &["four"]);
    assert_eq!(folder.read("a.log"), "one\ntwo, to\nthree\nfour\n");
}

#[test]
fn what_a_volume_does_not_take_is_counted() {
    let folder = Folder::new("full");
    // In the folder's place is a file: nothing can be opened in it.
    fs::write(&folder.0, "").unwrap();
    let mut store = store(&folder, &["one", "two"]);
    assert_eq!((store.lost, store.is_failing), (2, true));
    fs::remove_file(&folder.0).unwrap();
    store.add(NOW, "three\n");
    store.flush(DATE);
    assert_eq!(folder.read("a.log"), "1700000000123 4 2 lines lost\nthree\n");
    assert_eq!((store.lost, store.is_failing), (0, false));
}

#[test]
fn a_full_disk_costs_lines_and_heals() {
    let folder = Folder::new("disk");
    let mut store = store(&folder, &["one"]);
    store.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    store.add(NOW, "two\n");
    store.flush(DATE);
    assert_eq!(store.lost, 1);
    store.add(NOW, "three\n");
    store.flush(DATE);
    assert_eq!(folder.read("a.log"), "one\n1700000000123 4 1 lines lost\nthree\n");
}
